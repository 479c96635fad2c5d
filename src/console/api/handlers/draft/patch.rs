//! Merge patches (RFC 7396).

use serde_json::{Map, Value};

use crate::{
    console::problem::{FieldError, Problem},
    domain::handler::HandlerSpec,
};

/// Applies a merge patch to `current`, as the API shows it.
pub fn merged(current: &HandlerSpec, patch: &Value) -> Result<Value, Problem> {
    if !patch.is_object() {
        return Err(Problem::invalid(vec![FieldError::at("", "a patch must be a JSON object")]));
    }
    let mut value = serde_json::to_value(current).map_err(|_| Problem::internal())?;
    // A task of another type has other members; the old ones would be unknown.
    let kind = |value: &Value| value.pointer("/task/type").cloned();
    if kind(patch).is_some_and(|new| Some(new) != kind(&value)) {
        value.as_object_mut().map(|members| members.remove("task"));
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
