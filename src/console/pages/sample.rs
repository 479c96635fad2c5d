//! The form for a sample event, for test calls and for publishing by hand.

use serde_json::value::RawValue;

use super::{
    body::indented,
    fields::{Errors, Fields},
};
use crate::domain::event::{EventName, ObjectId, sample_data};

/// The object id of a new sample.
const OBJECT: &str = "12";

/// The values of the form, as they were typed.
#[derive(Default)]
pub struct SampleForm {
    pub event: String,
    pub object_id: String,
    pub data: String,
    pub errors: Errors,
}

impl SampleForm {
    pub fn of(event: &EventName) -> Self {
        let data = ObjectId::typed(OBJECT).map(|id| sample_data(event, &id).to_string()).unwrap_or_default();
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

    /// Parses the object id and the data, which must be a JSON object. `None` after adding an error to each invalid
    /// field.
    pub fn sample(&mut self) -> Option<(ObjectId, Box<RawValue>)> {
        let object = match self.object_id.as_str() {
            "" => Err("enter the id of an object: a number or a text".to_owned()),
            typed => ObjectId::typed(typed).map_err(|e| e.to_string()),
        };
        let object = self.errors.take("object_id", object);
        let typed = self.data.trim().trim_start_matches('\u{feff}');
        let typed = if typed.is_empty() { "{}" } else { typed };
        let parsed: Result<Box<RawValue>, _> = serde_json::from_str(typed);
        let data = match parsed {
            Ok(data) if data.get().starts_with('{') => Some(data),
            Ok(_) => {
                self.errors.add("data", "must be a JSON object, such as {\"name\": \"Ann\"}");
                None
            }
            Err(error) => {
                self.errors.add("data", format!("not JSON: {error}"));
                None
            }
        };
        object.zip(data).filter(|_| self.errors.is_empty())
    }

    pub fn error(&self, field: &str) -> &str {
        self.errors.of(field)
    }
}
