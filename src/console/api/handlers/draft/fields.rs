//! Reads the members of a JSON object, and collects errors.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::console::{
    api::{extract::escaped, serde_messages::plain},
    problem::FieldError,
};

/// Members that only responses have.
const READ_ONLY: [&str; 6] = ["id", "signed", "created_at", "updated_at", "version", "warnings"];

/// Reads the members of an object one by one.
pub(super) struct Fields<'a, 'e> {
    members: &'a Map<String, Value>,
    /// The JSON pointer of the object.
    pointer: &'static str,
    known: Vec<&'static str>,
    errors: &'e mut Vec<FieldError>,
}

impl<'a, 'e> Fields<'a, 'e> {
    pub fn of(
        members: &'a Map<String, Value>,
        pointer: &'static str,
        errors: &'e mut Vec<FieldError>,
    ) -> Self {
        Self { members, pointer, known: Vec::new(), errors }
    }

    /// The member, if it is present. Its name is then known to [`Fields::refuse_unknown`].
    pub fn present(&mut self, name: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.members.get(name)
    }

    pub fn optional<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        match serde_json::from_value(self.present(name)?.clone()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(name, plain(&error.to_string()));
                None
            }
        }
    }

    pub fn required<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        if self.present(name).is_none() {
            self.refuse(name, "is missing".to_owned());
            return None;
        }
        self.optional(name)
    }

    pub fn refuse(&mut self, name: &str, detail: String) {
        self.errors.push(FieldError::at(format!("{}/{}", self.pointer, escaped(name)), detail));
    }

    pub fn refuse_unknown(&mut self) {
        let unknown: Vec<&String> =
            self.members.keys().filter(|name| !self.known.contains(&name.as_str())).collect();
        for name in unknown {
            let detail = if self.pointer.is_empty() && READ_ONLY.contains(&name.as_str()) {
                "is set by provisiond: leave it out".to_owned()
            } else {
                format!("is unknown; allowed: {}", self.known.join(", "))
            };
            self.refuse(name, detail);
        }
    }
}
