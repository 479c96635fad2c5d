//! The form of a sample of an event: an object, and data.

use serde_json::value::RawValue;

use super::{
    body::indented,
    fields::{Errors, Fields},
};
use crate::domain::event::{EventName, sample_data};

/// An object that nobody takes for a real one.
const OBJECT: &str = "12";

/// As it stands in the form.
#[derive(Default)]
pub struct SampleForm {
    pub event: String,
    pub object_id: String,
    pub data: String,
    pub errors: Errors,
}

impl SampleForm {
    pub fn of(event: &EventName) -> Self {
        let data = sample_data(event, OBJECT).to_string();
        Self {
            event: event.to_string(),
            object_id: OBJECT.to_owned(),
            data: indented(&data).unwrap_or(data),
            errors: Errors::default(),
        }
    }

    pub fn typed(fields: &Fields) -> Self {
        Self {
            event: fields.get("event").to_owned(),
            object_id: fields.get("object_id").to_owned(),
            data: fields.lines("data"),
            errors: Errors::default(),
        }
    }

    /// The data, if it is a JSON object and the object is named; or what is wrong stands beside its field.
    pub fn data(&mut self) -> Option<Box<RawValue>> {
        if self.object_id.is_empty() {
            self.errors.add("object_id", "which object is it about? A number or a text");
        }
        let typed = self.data.trim().trim_start_matches('\u{feff}');
        let typed = if typed.is_empty() { "{}" } else { typed };
        let parsed: Result<Box<RawValue>, _> = serde_json::from_str(typed);
        let data = match parsed {
            Ok(data) if data.get().starts_with('{') => Some(data),
            Ok(_) => {
                self.errors.add("data", "a JSON object: {\"name\": \"Ann\"}");
                None
            }
            Err(error) => {
                self.errors.add("data", format!("not JSON: {error}"));
                None
            }
        };
        data.filter(|_| self.errors.is_empty())
    }

    pub fn error(&self, field: &str) -> &str {
        self.errors.of(field)
    }
}
