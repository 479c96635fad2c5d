//! The history of a handler as text, and the changes that others made while an operator edited it.

use serde_json::Value;

use crate::{
    console::pages::format::{capital, moment, short, spaced},
    store::HistoryEntry,
};

/// One entry of the history.
pub struct HistoryView {
    pub action: String,
    pub by: String,
    pub at: String,
    pub note: String,
    pub tone: &'static str,
    pub changes: Vec<Change>,
}

/// One changed field, before and after.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    pub field: String,
    pub before: String,
    pub after: String,
}

/// The handler was changed after the form was loaded.
pub struct Stale {
    /// The changes that others made, newest first.
    pub entries: Vec<HistoryView>,
}

impl HistoryView {
    pub fn of(entry: &HistoryEntry) -> Self {
        let tone = match entry.action.as_str() {
            "created" | "enabled" => "good",
            "deleted" | "archived" => "bad",
            "disabled" => "warn",
            _ => "",
        };
        Self {
            action: capital(&spaced(entry.action.as_str())),
            by: entry.changed_by.clone(),
            at: format!("{} UTC", moment(entry.changed_at)),
            note: entry.note.clone().unwrap_or_default(),
            tone,
            changes: changes(entry.before.as_ref(), entry.after.as_ref()),
        }
    }
}

impl Stale {
    /// The changes after version `seen`. Each change adds one version and one entry, so they are the first `now - seen`
    /// entries.
    pub fn since(seen: i64, now: i64, history: &[HistoryEntry]) -> Self {
        let count = usize::try_from(now.saturating_sub(seen)).unwrap_or_default();
        Self { entries: history.iter().take(count).map(HistoryView::of).collect() }
    }
}

fn changes(before: Option<&Value>, after: Option<&Value>) -> Vec<Change> {
    let (Some(before), Some(after)) = (before, after) else { return Vec::new() };
    let mut changes = Vec::new();
    compare("", before, after, &mut changes);
    changes
}

/// Compares objects member by member, so that a change lists one header or retry value and not all of them.
fn compare(path: &str, before: &Value, after: &Value, changes: &mut Vec<Change>) {
    if before == after {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        changes.push(Change { field: spaced(path), before: value_text(before), after: value_text(after) });
        return;
    };
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        let side = |side: &serde_json::Map<String, Value>| side.get(name).cloned().unwrap_or(Value::Null);
        compare(&path, &side(old), &side(new), changes);
    }
}

fn value_text(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => short(text, 200),
        other => short(&other.to_string(), 200),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_changed_field_is_listed() {
        let before = json!({"name": "a", "task": {"type": "http", "url": "http://a/", "headers": {"x": "***"}}, "timeout": null});
        let after = json!({"name": "a", "task": {"type": "http", "url": "http://b/"}, "timeout": "3s"});
        let changes = changes(Some(&before), Some(&after));
        let actual: Vec<_> =
            changes.iter().map(|c| (c.field.as_str(), c.before.as_str(), c.after.as_str())).collect();
        assert_eq!(
            actual,
            [
                ("task headers", r#"{"x":"***"}"#, "none"),
                ("task url", "http://a/", "http://b/"),
                ("timeout", "none", "3s")
            ]
        );
    }
}
