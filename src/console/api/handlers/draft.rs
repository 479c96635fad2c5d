//! Parses a handler field by field, so that all errors are reported together, each with its pointer.

mod fields;
mod parts;
mod patch;

use serde_json::Value;

use crate::{
    console::{
        api::serde_messages::plain,
        problem::{FieldError, Problem},
    },
    domain::{
        event::EventName,
        handler::{HandlerName, HandlerSpec, SETTINGS, SettingGroup},
        retry::RetryOverrides,
        secret::SigningSecret,
        task::Task,
    },
};
use fields::Fields;
use parts::{read_retry, read_task};
pub(super) use patch::merged;

/// A handler that can be stored.
#[derive(Debug)]
pub(super) struct Draft {
    pub spec: HandlerSpec,
    /// Only for a new handler.
    pub secret: Signing,
}

/// How the requests of a new handler are signed.
#[derive(Debug)]
pub(super) enum Signing {
    Not,
    /// With a generated secret, which its owner has to see.
    New,
    With(SigningSecret),
}

impl Signing {
    /// The secret, and its text if the response must show it.
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

/// A parsed handler and its errors so far. The caller checks the parsed fields further and adds errors, before
/// [`Reading::finished`] accepts or rejects the handler.
#[derive(Debug)]
pub(super) struct Reading {
    pub event: Option<EventName>,
    pub task: Option<Task>,
    pub errors: Vec<FieldError>,
    draft: Option<Draft>,
}

impl Reading {
    /// The handler, or a problem that lists all errors.
    pub fn finished(self) -> Result<Draft, Problem> {
        self.draft.filter(|_| self.errors.is_empty()).ok_or_else(|| Problem::invalid(self.errors))
    }

    /// Parses `body`. `current` is the handler before a change: the client does not know the header values, so a masked
    /// one keeps its stored value.
    pub fn of(body: &Value, current: Option<&HandlerSpec>) -> Result<Self, Problem> {
        let mut errors = Vec::new();
        let Some(fields) = body.as_object() else {
            return Err(Problem::invalid(vec![FieldError::at("", "a handler must be a JSON object")]));
        };
        let mut fields = Fields::of(fields, "", &mut errors);
        let name: Option<HandlerName> = fields.required("name");
        let event: Option<EventName> = fields.required("event");
        let task = fields.present("task");
        let settings = read_settings(&mut fields);
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
        let task = task.flatten();
        let draft = match (name, event.clone(), task.clone(), retry) {
            (Some(name), Some(event), Some(task), Some(retry)) => {
                Some(Draft { spec: HandlerSpec { name, event, task, retry, ..settings }, secret })
            }
            _ => None,
        };
        Ok(Self { event, task, errors, draft })
    }
}

/// Parses the members that are settings, each alone, so that an error names its member. Returns a blank handler with
/// the valid settings.
fn read_settings(fields: &mut Fields<'_, '_>) -> HandlerSpec {
    let mut settings = HandlerSpec::blank();
    for name in
        SETTINGS.iter().filter(|setting| setting.group != SettingGroup::Retry).map(|setting| setting.name)
    {
        let Some(value) = fields.present(name) else { continue };
        let changed = serde_json::to_value(&settings).and_then(|mut json| {
            json.as_object_mut().map(|members| members.insert(name.to_owned(), value.clone()));
            serde_json::from_value(json)
        });
        match changed {
            Ok(changed) => settings = changed,
            Err(error) => fields.refuse(name, plain(&error.to_string())),
        }
    }
    settings
}

/// Parses how requests are signed. Its errors do not contain the secret.
fn signing(sign: Option<bool>, given: Option<&Value>, exists: bool, errors: &mut Vec<FieldError>) -> Signing {
    if exists && (sign.is_some() || given.is_some()) {
        let pointer = if sign.is_some() { "/sign" } else { "/signing_secret" };
        errors.push(FieldError::at(
            pointer,
            "is only for a new handler; for an existing one, use POST …/rotate-secret",
        ));
        return Signing::Not;
    }
    match (sign, given) {
        (Some(true), Some(_)) => {
            errors.push(FieldError::at(
                "/sign",
                "creates a new secret, and signing_secret sets one: send only one of them",
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value, current: Option<&HandlerSpec>) -> Result<Draft, Problem> {
        Reading::of(body, current)?.finished()
    }

    #[test]
    fn every_field_that_is_shown_can_be_sent_back() {
        let body = json!({
            "name": "CRM", "event": "clients.create", "status": "disabled", "priority": 3, "mode": "intercept",
            "task": {"type": "http", "url": "127.0.0.1:5000/api", "headers": {"Authorization": "Bearer x"}},
            "on_failure": "halt", "timeout": "20s", "retry": {"max_attempts": 3, "initial_interval": "10s"},
            "max_concurrency": 2,
        });
        let spec = read(&body, None).expect("a handler").spec;
        let shown = serde_json::to_value(&spec).expect("JSON");
        assert_eq!(shown.as_object().map(serde_json::Map::len), Some(10), "{shown}");
        assert_eq!(read(&shown, Some(&spec)).expect("a handler").spec, spec);
        let masked = read(&shown, None).expect_err("nothing is stored that the mask could stand for");
        assert_eq!(
            masked.errors.first().and_then(|e| e.pointer.as_deref()),
            Some("/task/headers/authorization")
        );
    }

    #[test]
    fn a_patch_leaves_what_it_does_not_name() {
        let task = json!({"type": "http", "url": "127.0.0.1/", "headers": {"x-a": "1", "x-b": "2"}});
        let body = json!({"name": "CRM", "event": "clients.create", "task": task, "timeout": "20s"});
        let spec = read(&body, None).expect("a handler").spec;
        let patched = |patch: &Value| {
            let merged = merged(&spec, patch).expect("merged");
            read(&merged, Some(&spec)).map(|draft| draft.spec)
        };
        assert_eq!(patched(&json!({})).expect("a handler"), spec);
        let changed =
            patched(&json!({"timeout": null, "task": {"headers": {"x-a": null}}})).expect("a handler");
        let Task::Http { headers, .. } = &changed.task else { panic!("http") };
        assert_eq!((headers.len(), changed.timeout), (1, None));
        let script = patched(&json!({"task": {"type": "script", "path": "a.py"}})).expect("a handler");
        assert_eq!(script.task.target(), "a.py");
        assert!(patched(&json!({"name": null})).is_err() && merged(&spec, &json!([])).is_err());
    }
}
