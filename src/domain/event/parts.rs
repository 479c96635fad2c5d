//! What both shapes of an event have in common: how it arrives, and how its parts are checked.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{EventId, EventName};

/// Objects and arrays may nest this deep; parsers of handlers in other languages stop about there too.
const MAX_DEPTH: usize = 128;

/// What a delivery says of itself, before it is believed.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// The event name of the queue it came from.
    pub name: &'a EventName,
    pub content_type: Option<&'a str>,
    pub message_id: Option<&'a str>,
    /// The AMQP `timestamp` property, in seconds.
    pub timestamp: Option<u64>,
    pub body: &'a Bytes,
    /// The identity a copy of ours carries; a first delivery has none.
    pub known_id: Option<&'a EventId>,
}

/// Why a body is not an event: what was expected, and where it stopped.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a str, expected: &str) -> Result<T, Malformed> {
    serde_json::from_str(text).map_err(|e| Malformed(format!("expected {expected}: {e}")))
}

pub(super) fn check_name(field: &str, said: &str, name: &EventName) -> Result<(), Malformed> {
    if said == name.as_str() {
        return Ok(());
    }
    let said: String = said.chars().take(200).collect();
    Err(Malformed(format!("{field} is {said:?}, but the event was published as {name}")))
}

pub(super) fn check_object(field: &str, value: &RawValue) -> Result<(), Malformed> {
    if value.get().starts_with('{') {
        return Ok(());
    }
    let start: String = value.get().chars().take(40).collect();
    Err(Malformed(format!("{field} must be an object, {{}} if there is nothing to say; it is {start}")))
}

pub(super) fn object_id(raw: &RawValue) -> Result<String, Malformed> {
    match serde_json::from_str(raw.get()) {
        Ok(serde_json::Value::String(text)) if !text.contains('\0') => Ok(text),
        // The digits as they were written: a large number must not become 1e21.
        Ok(serde_json::Value::Number(_)) => Ok(raw.get().to_owned()),
        _ => {
            let start: String = raw.get().chars().take(40).collect();
            Err(Malformed(format!("event.object_id must be a number or a string; it is {start}")))
        }
    }
}

pub(super) fn timestamp(field: &str, text: &str) -> Result<Timestamp, Malformed> {
    text.parse().map_err(|_| {
        let start: String = text.chars().take(60).collect();
        Malformed(format!(
            "{field} must be an RFC 3339 time such as 2026-01-01T00:00:00+00:00; it is {start:?}"
        ))
    })
}

/// `serde_json` bounds the nesting only of what it builds, not of what it skips.
pub(in crate::domain) fn check_depth(text: &str) -> Result<(), Malformed> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Malformed(format!("nested deeper than {MAX_DEPTH} at byte {at}")));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}
