//! The task of a handler: an HTTP POST or a script.

/// Implements `TryFrom<String>` and the reverse for serde, with `FromStr` and `as_str`.
macro_rules! through_text {
    ($($name:ident),+) => { $(
        impl TryFrom<String> for $name {
            type Error = InvalidTask;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.as_str().to_owned()
            }
        }
    )+ };
}
mod header;
mod target;

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Serialize};

pub use header::{HeaderName, HeaderValue, MASK, by_name};
pub use target::HttpTarget;

use super::text_enum::text_enum;

/// A handler's task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    Http {
        url: HttpTarget,
        /// Headers that are added to each request. Values may be secret and are shown as `***`; an update with `***`
        /// keeps the stored value.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        #[schema(value_type = BTreeMap<String, String>)]
        headers: BTreeMap<HeaderName, HeaderValue>,
    },
    Script {
        path: ScriptPath,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        args: Vec<String>,
    },
}

text_enum! {
    /// The kind of a task.
    TaskType { Http = "http", Script = "script" }
}

/// Everything that differs between the types is said here or by a `match` elsewhere, so that the compiler finds each
/// place when a type is added.
impl TaskType {
    /// The name on the pages.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Script => "Script",
        }
    }

    /// Whether a call is a process on the worker's machine. Their number is limited (`script.concurrency`).
    pub const fn is_process(self) -> bool {
        match self {
            Self::Http => false,
            Self::Script => true,
        }
    }

    /// Whether calls can be signed with a secret.
    pub const fn can_be_signed(self) -> bool {
        match self {
            Self::Http => true,
            Self::Script => false,
        }
    }

    /// Masks the parts of a recorded target that may be secret.
    pub fn masked_target(self, target: &str) -> String {
        match self {
            Self::Http => HttpTarget::masked(target),
            Self::Script => target.to_owned(),
        }
    }
}

/// One value for each task type.
#[derive(Clone, Copy, Debug)]
pub struct ByTaskType<T> {
    http: T,
    script: T,
}

impl<T> ByTaskType<T> {
    pub fn new(value: impl Fn(TaskType) -> T) -> Self {
        Self { http: value(TaskType::Http), script: value(TaskType::Script) }
    }

    pub const fn get(&self, kind: TaskType) -> &T {
        match kind {
            TaskType::Http => &self.http,
            TaskType::Script => &self.script,
        }
    }
}

impl Task {
    pub const fn kind(&self) -> TaskType {
        match self {
            Self::Http { .. } => TaskType::Http,
            Self::Script { .. } => TaskType::Script,
        }
    }

    /// The stored headers, if they may be kept for the URL `target`: scheme, host and port are the same, and `host`
    /// equals the stored Host header ([`MASK`] means: unchanged). Header values may be secret, so for any other
    /// destination they must be given again.
    pub fn headers_kept_for(
        &self,
        target: &HttpTarget,
        host: Option<&str>,
    ) -> Option<&BTreeMap<HeaderName, HeaderValue>> {
        match self {
            Self::Http { url, headers } => {
                (url.has_origin_of(target) && is_host_of(headers, host)).then_some(headers)
            }
            Self::Script { .. } => None,
        }
    }

    /// The URL or the script path. Never the headers, which may contain secrets.
    pub fn target(&self) -> &str {
        match self {
            Self::Http { url, .. } => url.as_str(),
            Self::Script { path, .. } => path.as_str(),
        }
    }

    /// The URL that is called.
    pub const fn url(&self) -> Option<&HttpTarget> {
        match self {
            Self::Http { url, .. } => Some(url),
            Self::Script { .. } => None,
        }
    }

    /// The script that is run.
    pub const fn script(&self) -> Option<&ScriptPath> {
        match self {
            Self::Http { .. } => None,
            Self::Script { path, .. } => Some(path),
        }
    }

    /// The headers. Their values may be secret, so they are stored encrypted.
    pub const fn headers(&self) -> Option<&BTreeMap<HeaderName, HeaderValue>> {
        match self {
            Self::Http { headers, .. } => Some(headers),
            Self::Script { .. } => None,
        }
    }

    pub const fn headers_mut(&mut self) -> Option<&mut BTreeMap<HeaderName, HeaderValue>> {
        match self {
            Self::Http { headers, .. } => Some(headers),
            Self::Script { .. } => None,
        }
    }

    /// What is sent beside the event, for people: the name of each part, and its text without secrets.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Http { headers, .. } => {
                headers.keys().map(|name| ("Header", format!("{}: {MASK}", name.as_str()))).collect()
            }
            Self::Script { args, .. } => args.iter().map(|arg| ("Argument", arg.clone())).collect(),
        }
    }

    /// Masks parts that may contain a secret: the path and query of a URL, and the arguments of a script.
    pub fn mask(&mut self) {
        match self {
            Self::Http { url, .. } => url.mask(),
            Self::Script { args, .. } => args.fill(MASK.to_owned()),
        }
    }
}

/// Whether `host` equals the Host header in `headers`. One server may serve many parties, told apart by this header.
pub fn is_host_of(headers: &BTreeMap<HeaderName, HeaderValue>, host: Option<&str>) -> bool {
    let stored = headers.iter().find(|(name, _)| name.is_host()).map(|(_, value)| value);
    match (stored, host) {
        (None, None) | (Some(_), Some(MASK)) => true,
        (Some(stored), Some(given)) => given.parse().is_ok_and(|given: HeaderValue| given == *stored),
        _ => false,
    }
}

/// Why a part of a task is rejected.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTask(String);

/// The path of a script: absolute, or relative to a script root. Each run checks whether it is below a root and may
/// run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 1024, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$", example = "sync.py")]
pub struct ScriptPath(String);

impl ScriptPath {
    /// The error for a typed path that contains `..`.
    pub const CLIMBS: &str = "a script path must name a file below a script root and must not contain ..";

    /// Whether the path contains `..`. Such a path may be stored from before this check existed; each run decides
    /// whether it is allowed.
    pub fn climbs(&self) -> bool {
        self.0.split('/').any(|part| part == "..")
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ScriptPath {
    type Err = InvalidTask;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > 1024 || text.contains(char::is_control) {
            return Err(InvalidTask(format!(
                "{text:?} is not a script path: 1 to 1024 bytes without control characters"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

through_text!(ScriptPath);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_kept_for_the_same_origin_and_host() {
        let task = |headers: &str| -> Task {
            serde_json::from_str(&format!(r#"{{"type":"http","url":"http://a/b","headers":{headers}}}"#))
                .expect("a task")
        };
        let (plain, named) = (task(r#"{"x-key":"1"}"#), task(r#"{"x-key":"1","Host":"crm"}"#));
        let same: HttpTarget = "http://a/c".parse().expect("a url");
        for (task, host, is_kept) in [
            (&plain, None, true),
            (&plain, Some("evil"), false),
            (&plain, Some(MASK), false),
            (&named, Some(MASK), true),
            (&named, Some("crm"), true),
            (&named, Some("evil"), false),
            (&named, None, false),
        ] {
            assert_eq!(task.headers_kept_for(&same, host).is_some(), is_kept, "{host:?}");
        }
        assert!(plain.headers_kept_for(&"http://a:81/b".parse().expect("a url"), None).is_none());
    }

    #[test]
    fn a_task_is_json_with_a_type() {
        let json = r#"{"type":"http","url":"http://a/b","headers":{"x-key":"1"}}"#;
        let task: Task = serde_json::from_str(json).expect("a task");
        assert_eq!(serde_json::to_string(&task).expect("json"), json.replace("\"1\"", "\"***\""));
        assert!(serde_json::from_str::<Task>(r#"{"type":"script","path":""}"#).is_err());
    }
}
