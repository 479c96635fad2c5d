//! Parses the parts of a handler that are objects: its task and its retries.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::Fields;
use crate::{
    console::{
        api::{extract::escaped, serde_messages::plain},
        problem::FieldError,
    },
    domain::{
        retry::RetryOverrides,
        task::{HeaderName, HeaderValue, HttpTarget, MASK, Task, TaskType, by_name},
    },
};

const MASK_WITHOUT_VALUE: &str = "*** keeps the stored value of a header, but only for the same scheme, host, port and header Host: send the value";

pub(super) fn read_task(task: &Value, current: Option<&Task>, errors: &mut Vec<FieldError>) -> Option<Task> {
    let Some(fields) = task.as_object() else {
        errors.push(FieldError::at("/task", "a task must be a JSON object with a type"));
        return None;
    };
    let mut fields = Fields::of(fields, "/task", errors);
    let kind: String = fields.required("type")?;
    let kind = match kind.parse::<TaskType>() {
        Ok(kind) => kind,
        Err(error) => {
            fields.refuse("type", error.to_string());
            return None;
        }
    };
    match kind {
        TaskType::Http => {
            // `FromStr` checks a typed url more strictly than deserializing, which must accept stored ones.
            let url: Option<String> = fields.required("url");
            let url = url.and_then(|url| match url.parse::<HttpTarget>() {
                Ok(url) => Some(url),
                Err(error) => {
                    fields.refuse("url", error.to_string());
                    None
                }
            });
            let headers = fields.present("headers");
            fields.refuse_unknown();
            let host = headers.and_then(|headers| {
                headers.as_object()?.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"))
            });
            let host = host.map(|(_, value)| value.as_str().unwrap_or_default());
            let kept = current.and_then(|task| task.headers_kept_for(url.as_ref()?, host));
            let headers = headers.map(|headers| read_headers(headers, kept, errors)).unwrap_or_default();
            url.map(|url| Task::Http { url, headers })
        }
        TaskType::Script => {
            let path = fields.required("path");
            let args = fields.optional("args").unwrap_or_default();
            fields.refuse_unknown();
            path.map(|path| Task::Script { path, args })
        }
    }
}

fn read_headers(
    headers: &Value,
    kept: Option<&BTreeMap<HeaderName, HeaderValue>>,
    errors: &mut Vec<FieldError>,
) -> BTreeMap<HeaderName, HeaderValue> {
    let Some(fields) = headers.as_object() else {
        errors.push(FieldError::at("/task/headers", "headers must be a JSON object of names and values"));
        return BTreeMap::new();
    };
    let read = |(name, value): (&String, &Value)| -> Result<(HeaderName, HeaderValue), FieldError> {
        let pointer = format!("/task/headers/{}", escaped(name));
        let refuse = |detail: String| FieldError::at(pointer.clone(), detail);
        let name: HeaderName = name.parse().map_err(|e| refuse(format!("{e}")))?;
        let text = value.as_str().ok_or_else(|| refuse("a header value must be a text".to_owned()))?;
        let value = match kept.and_then(|kept| kept.get(&name)) {
            Some(kept) if text == MASK => kept.clone(),
            None if text == MASK => return Err(refuse(MASK_WITHOUT_VALUE.to_owned())),
            _ => HeaderValue::typed(&name, text).map_err(|e| refuse(format!("{e}")))?,
        };
        Ok((name, value))
    };
    let read: Vec<_> =
        fields.iter().map(read).filter_map(|read| read.map_err(|error| errors.push(error)).ok()).collect();
    by_name(read)
        .map_err(|error| errors.push(FieldError::at("/task/headers", error.to_string())))
        .unwrap_or_default()
}

pub(super) fn read_retry(retry: &Value, errors: &mut Vec<FieldError>) -> Option<RetryOverrides> {
    let Some(fields) = retry.as_object() else {
        errors.push(FieldError::at("/retry", "retry must be a JSON object of overrides"));
        return None;
    };
    let before = errors.len();
    // Parse each member alone, to name the wrong ones; then all together.
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
        if let Err(error) = serde_json::from_value::<RetryOverrides>(alone) {
            errors.push(FieldError::at(format!("/retry/{}", escaped(name)), plain(&error.to_string())));
        }
    }
    if errors.len() > before {
        return None;
    }
    serde_json::from_value(retry.clone())
        .map_err(|error| errors.push(FieldError::at("/retry", plain(&error.to_string()))))
        .ok()
}
