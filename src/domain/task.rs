//! What a handler does: an HTTP POST or a script.

/// `TryFrom<String>` and back, for serde, from `FromStr` and `as_str`.
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

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Serialize};
use url::Url;

pub use header::{HeaderName, HeaderValue, MASK};

use super::text_enum::text_enum;

/// A handler's task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    Http {
        url: HttpTarget,
        /// Added to each request. Values may be secret and are shown as `***`, which keeps what is stored.
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

impl Task {
    pub const fn kind(&self) -> TaskType {
        match self {
            Self::Http { .. } => TaskType::Http,
            Self::Script { .. } => TaskType::Script,
        }
    }

    /// Its headers, if `target` has the same scheme, host and port, and `host` is the header Host that it has ([`MASK`]: that
    /// one). Their values may be secret: to be sent elsewhere they must be given again.
    pub fn headers_kept_for(
        &self,
        target: &HttpTarget,
        host: Option<&str>,
    ) -> Option<&BTreeMap<HeaderName, HeaderValue>> {
        match self {
            Self::Http { url, headers } if url.has_origin_of(target) && is_host_of(headers, host) => {
                Some(headers)
            }
            _ => None,
        }
    }

    /// Where it goes: the url or the path. Never the headers, which may hold secrets.
    pub fn target(&self) -> &str {
        match self {
            Self::Http { url, .. } => url.as_str(),
            Self::Script { path, .. } => path.as_str(),
        }
    }

    /// Takes out what may hold a secret: the path and query of a url, the arguments of a script.
    pub fn mask(&mut self) {
        match self {
            Self::Http { url, .. } => url.mask(),
            Self::Script { args, .. } => args.fill(MASK.to_owned()),
        }
    }
}

/// Whether `host` says what the header Host of `headers` says: one server may answer for many parties.
pub fn is_host_of(headers: &BTreeMap<HeaderName, HeaderValue>, host: Option<&str>) -> bool {
    let stored = headers.iter().find(|(name, _)| name.is_host()).map(|(_, value)| value);
    match (stored, host) {
        (None, None) | (Some(_), Some(MASK)) => true,
        (Some(stored), Some(given)) => given.parse().is_ok_and(|given: HeaderValue| given == *stored),
        _ => false,
    }
}

/// Why a part of a task is refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTask(String);

/// The absolute `http` or `https` url of an HTTP task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 2048, example = "120.0.0.1:5000/api")]
pub struct HttpTarget(Url);

impl HttpTarget {
    pub const MAX_BYTES: usize = 2048;

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub const fn url(&self) -> &Url {
        &self.0
    }

    /// Whether both have the same scheme, host and port.
    pub fn has_origin_of(&self, other: &Self) -> bool {
        self.0.origin() == other.0.origin()
    }

    /// Only scheme, host and port are left.
    fn mask(&mut self) {
        if self.0.path() != "/" || self.0.query().is_some() {
            self.0.set_path(MASK);
            self.0.set_query(None);
        }
    }

    /// The same of a url that may have been stored by somebody else.
    pub fn masked(text: &str) -> String {
        text.parse().map_or_else(
            |_| MASK.to_owned(),
            |mut url: Self| {
                url.mask();
                url.into()
            },
        )
    }
}

impl FromStr for HttpTarget {
    type Err = InvalidTask;

    /// A url without a scheme gets `http://`: `120.0.0.1:5000/api` is what an integrator types.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |why: &str| InvalidTask(format!("{text:?} is not a usable url: {why}"));
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidTask(format!("a url has at most {} bytes", Self::MAX_BYTES)));
        }
        let text = text.trim();
        let is_scheme =
            |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        let has_scheme = text.split_once("://").is_some_and(|(before, _)| is_scheme(before));
        let absolute = if has_scheme { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&absolute).map_err(|e| refuse(&e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("only http and https are called"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            // Lists, logs and executions show the url.
            return Err(InvalidTask(
                "a url must not hold a user or password: give an Authorization header instead".into(),
            ));
        }
        if url.fragment().is_some() {
            return Err(refuse("a #fragment is never sent"));
        }
        Ok(Self(url))
    }
}

/// The path of a script: absolute, or relative to a script root. Whether it lies under a root, and
/// may be run, is looked at when it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 1024, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$", example = "sync.py")]
pub struct ScriptPath(String);

impl ScriptPath {
    /// Why a path that climbs is refused where it is typed.
    pub const CLIMBS: &str = "a script path names a file below a script root, without ..";

    /// Whether it leads upwards somewhere. Such a path may still be stored, from before this was looked at; what it
    /// means is judged when it is run.
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

through_text!(HttpTarget, ScriptPath);

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
    fn a_masked_url_says_where_it_goes_and_no_more() {
        for (url, masked) in [
            ("https://api.example:8443/bot12:secret/send", "https://api.example:8443/***"),
            ("https://crm.example/?token=secret", "https://crm.example/***"),
            ("https://crm.example?", "https://crm.example/***"),
            ("https://crm.example", "https://crm.example/"),
            ("http://[::1]:81/a", "http://[::1]:81/***"),
            ("secret", "http://secret/"),
            ("ftp://crm.example/secret", "***"),
        ] {
            assert_eq!(HttpTarget::masked(url), masked, "{url}");
        }
    }

    #[test]
    fn a_url_may_be_typed_without_scheme() {
        for (typed, meant) in [
            ("120.0.0.1:5000/api", "http://120.0.0.1:5000/api"),
            ("localhost:5000", "http://localhost:5000/"),
            ("https://crm.example/hook?x=1", "https://crm.example/hook?x=1"),
            ("[::1]:80/a", "http://[::1]/a"),
            ("127.0.0.1:5000/a?u=http://x", "http://127.0.0.1:5000/a?u=http://x"),
        ] {
            assert_eq!(typed.parse::<HttpTarget>().expect(typed).as_str(), meant);
        }
        for bad in ["", "ftp://a/b", "http://u:p@h/", "http://h/#x", "http://", "a b"] {
            assert!(bad.parse::<HttpTarget>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_task_is_json_with_a_type() {
        let json = r#"{"type":"http","url":"http://a/b","headers":{"x-key":"1"}}"#;
        let task: Task = serde_json::from_str(json).expect("a task");
        assert_eq!(serde_json::to_string(&task).expect("json"), json.replace("\"1\"", "\"***\""));
        assert!(serde_json::from_str::<Task>(r#"{"type":"script","path":""}"#).is_err());
    }
}
