//! A handler as it is sent: read field by field, so that everything that is wrong is told at once, each at its place.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    console::{
        api::extract::escaped,
        problem::{FieldError, Problem},
    },
    domain::{
        handler::HandlerSpec,
        retry::RetryOverrides,
        secret::SigningSecret,
        task::{HeaderName, HeaderValue, Task},
    },
};

/// What is shown in the place of a header's value.
const MASK: &str = "***";
/// What only the answer has.
const READ_ONLY: [&str; 6] = ["id", "signed", "created_at", "updated_at", "version", "warnings"];

/// A handler that can be stored.
#[derive(Debug)]
pub(super) struct Draft {
    pub spec: HandlerSpec,
    /// Only of one that is created.
    pub secret: Signing,
}

/// What its requests are to be signed with.
#[derive(Debug)]
pub(super) enum Signing {
    Not,
    /// With a new secret, which its owner has to see.
    New,
    With(SigningSecret),
}

impl Signing {
    /// The secret, and its text if it is to be shown.
    pub fn unpacked(self) -> (Option<SigningSecret>, Option<String>) {
        match self {
            Self::Not => (None, None),
            Self::With(secret) => (Some(secret), None),
            Self::New => {
                let secret = SigningSecret::generate();
                let shown = secret.expose();
                (Some(secret), Some(shown))
            }
        }
    }
}

impl Draft {
    /// Of a change, `current` is the handler as it is: the values of its headers are not known to who sends this.
    pub fn read(body: &Value, current: Option<&HandlerSpec>) -> Result<Self, Problem> {
        let mut errors = Vec::new();
        let Some(fields) = body.as_object() else {
            return Err(Problem::invalid(vec![FieldError::at("", "a handler is a JSON object")]));
        };
        let mut fields = Fields { fields, at: "", known: Vec::new(), errors: &mut errors };
        let name = fields.required("name");
        let event = fields.required("event");
        let task = fields.present("task");
        let status = fields.optional("status");
        let priority = fields.optional("priority");
        let mode = fields.optional("mode");
        let on_failure = fields.optional("on_failure");
        let timeout = fields.optional("timeout");
        let max_concurrency = fields.optional("max_concurrency");
        let retry = fields.present("retry");
        let sign: Option<bool> = fields.optional("sign");
        let given: Option<Value> = fields.optional("signing_secret");
        fields.refuse_unknown();
        let task = task.map(|task| read_task(task, current.map(|spec| &spec.task), &mut errors));
        let retry =
            retry.map_or_else(|| Some(RetryOverrides::default()), |retry| read_retry(retry, &mut errors));
        let secret = signing(sign, given.as_ref(), current.is_some(), &mut errors);
        if task.is_none() {
            errors.push(FieldError::at(
                "/task",
                "is missing: {\"type\":\"http\",\"url\":…} or {\"type\":\"script\",\"path\":…}",
            ));
        }
        match (name, event, task.flatten(), retry) {
            (Some(name), Some(event), Some(task), Some(retry)) if errors.is_empty() => {
                let spec = HandlerSpec {
                    name,
                    event,
                    task,
                    status: status.unwrap_or_default(),
                    priority: priority.unwrap_or_default(),
                    mode: mode.unwrap_or_default(),
                    on_failure: on_failure.unwrap_or_default(),
                    timeout,
                    retry,
                    max_concurrency,
                };
                Ok(Self { spec, secret })
            }
            _ => Err(Problem::invalid(errors)),
        }
    }
}

/// The members of an object, taken one by one.
struct Fields<'a, 'e> {
    fields: &'a Map<String, Value>,
    /// The pointer of the object.
    at: &'static str,
    known: Vec<&'static str>,
    errors: &'e mut Vec<FieldError>,
}

impl<'a> Fields<'a, '_> {
    /// The member, if it is there and not null.
    fn present(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.fields.get(name).filter(|value| !value.is_null())
    }

    fn optional<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        match serde_json::from_value(self.present(name)?.clone()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(name, error.to_string());
                None
            }
        }
    }

    fn required<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        if self.present(name).is_none() {
            self.refuse(name, "is missing".to_owned());
            return None;
        }
        self.optional(name)
    }

    fn refuse(&mut self, name: &str, detail: String) {
        self.errors.push(FieldError::at(format!("{}/{}", self.at, escaped(name)), detail));
    }

    fn refuse_unknown(&mut self) {
        let unknown: Vec<&String> =
            self.fields.keys().filter(|name| !self.known.contains(&name.as_str())).collect();
        for name in unknown {
            let detail = if self.at.is_empty() && READ_ONLY.contains(&name.as_str()) {
                "is set by provisiond: leave it out".to_owned()
            } else {
                format!("is not known here; there are {}", self.known.join(", "))
            };
            self.refuse(name, detail);
        }
    }
}

fn read_task(task: &Value, current: Option<&Task>, errors: &mut Vec<FieldError>) -> Option<Task> {
    let Some(fields) = task.as_object() else {
        errors.push(FieldError::at("/task", "a task is a JSON object with a type"));
        return None;
    };
    let mut fields = Fields { fields, at: "/task", known: Vec::new(), errors };
    let kind: Option<String> = fields.required("type");
    let read = match kind.as_deref() {
        Some("http") => {
            let url = fields.required("url");
            let headers = fields.present("headers");
            fields.refuse_unknown();
            let headers = headers.map(|headers| read_headers(headers, current, errors)).unwrap_or_default();
            url.map(|url| Task::Http { url, headers })
        }
        Some("script") => {
            let path = fields.required("path");
            let args = fields.optional("args").unwrap_or_default();
            fields.refuse_unknown();
            path.map(|path| Task::Script { path, args })
        }
        Some(other) => {
            fields.refuse("type", format!("{other:?} is not one of http, script"));
            None
        }
        None => None,
    };
    read
}

fn read_headers(
    headers: &Value,
    current: Option<&Task>,
    errors: &mut Vec<FieldError>,
) -> std::collections::BTreeMap<HeaderName, HeaderValue> {
    let Some(fields) = headers.as_object() else {
        errors.push(FieldError::at("/task/headers", "headers are a JSON object of names and values"));
        return std::collections::BTreeMap::new();
    };
    let stored = |name: &HeaderName| match current {
        Some(Task::Http { headers, .. }) => headers.get(name).cloned(),
        _ => None,
    };
    let read = |(name, value): (&String, &Value)| -> Result<(HeaderName, HeaderValue), FieldError> {
        let at = format!("/task/headers/{}", escaped(name));
        let refuse = |detail: String| FieldError::at(at.clone(), detail);
        let name: HeaderName = name.parse().map_err(|e| refuse(format!("{e}")))?;
        let text = value.as_str().ok_or_else(|| refuse("a header's value is a text".to_owned()))?;
        let value = match stored(&name) {
            Some(kept) if text == MASK => kept,
            _ => text.parse().map_err(|e| refuse(format!("{e}")))?,
        };
        Ok((name, value))
    };
    fields.iter().map(read).filter_map(|read| read.map_err(|error| errors.push(error)).ok()).collect()
}

fn read_retry(retry: &Value, errors: &mut Vec<FieldError>) -> Option<RetryOverrides> {
    let Some(fields) = retry.as_object() else {
        errors.push(FieldError::at("/retry", "retry is a JSON object of overrides"));
        return None;
    };
    let before = errors.len();
    // Each by itself, to name the one that is wrong; then all together.
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
        if let Err(error) = serde_json::from_value::<RetryOverrides>(alone) {
            errors.push(FieldError::at(format!("/retry/{}", escaped(name)), error.to_string()));
        }
    }
    if errors.len() > before {
        return None;
    }
    serde_json::from_value(retry.clone())
        .map_err(|error| errors.push(FieldError::at("/retry", error.to_string())))
        .ok()
}

/// No error repeats a secret.
fn signing(sign: Option<bool>, given: Option<&Value>, exists: bool, errors: &mut Vec<FieldError>) -> Signing {
    if exists && (sign.is_some() || given.is_some()) {
        let at = if sign.is_some() { "/sign" } else { "/signing_secret" };
        errors.push(FieldError::at(
            at,
            "is for a new handler; POST …/rotate-secret changes the secret of one that is there",
        ));
        return Signing::Not;
    }
    match (sign, given) {
        (Some(true), Some(_)) => {
            errors.push(FieldError::at(
                "/sign",
                "makes a new secret, and signing_secret gives one: send one of both",
            ));
            Signing::Not
        }
        (Some(true), None) => Signing::New,
        (_, None) => Signing::Not,
        (_, Some(given)) => match given.as_str().unwrap_or_default().parse() {
            Ok(secret) => Signing::With(secret),
            Err(error) => {
                errors.push(FieldError::at("/signing_secret", format!("{error}")));
                Signing::Not
            }
        },
    }
}

/// `current` as it is shown, with a merge patch (RFC 7396) applied to it.
pub(super) fn merged(current: &HandlerSpec, patch: &Value) -> Result<Value, Problem> {
    if !patch.is_object() {
        return Err(Problem::invalid(vec![FieldError::at("", "a patch is a JSON object of what changes")]));
    }
    let mut value = serde_json::to_value(current).map_err(|_| Problem::internal())?;
    // Of another type the task has other members: those of the old one would be unknown.
    let kind = |value: &Value| value.pointer("/task/type").cloned();
    if kind(patch).is_some_and(|new| Some(new) != kind(&value)) {
        value["task"] = Value::Null;
    }
    merge(&mut value, patch);
    Ok(value)
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Some(target) = target.as_object_mut() {
        for (name, value) in patch {
            if value.is_null() {
                target.remove(name);
            } else {
                merge(target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }
}
