//! What both event formats share: the properties of a delivery, and the checks of their fields.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{EventId, EventName};
use crate::domain::time::parse_zoned;

/// Maximum size of an object id. It travels in headers and in the environment of scripts, which have limits.
pub const MAX_OBJECT_ID_BYTES: usize = 1024;
/// Maximum nesting of objects and arrays. Parsers in other languages have a similar limit.
const MAX_DEPTH: usize = 128;

/// The unverified properties and body of a delivery.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// The event name of the queue that the delivery came from.
    pub name: &'a EventName,
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
    pub message_id: Option<&'a str>,
    /// The AMQP `timestamp` property, in seconds.
    pub timestamp: Option<u64>,
    pub body: &'a Bytes,
    /// The event id that a copy of provisiond carries. A first delivery has none.
    pub known_id: Option<&'a EventId>,
}

impl<'a> Arrival<'a> {
    /// An arrival without properties.
    pub const fn of(name: &'a EventName, body: &'a Bytes) -> Self {
        Self {
            name,
            content_type: None,
            content_encoding: None,
            message_id: None,
            timestamp: None,
            body,
            known_id: None,
        }
    }
}

/// Why a body is not an event: what was expected, and where the body differs.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a str, expected: &str) -> Result<T, Malformed> {
    serde_json::from_str(text).map_err(|e| Malformed(format!("expected {expected}: {e}")))
}

pub(super) fn check_name(field: &str, actual: &str, name: &EventName) -> Result<(), Malformed> {
    if actual == name.as_str() {
        return Ok(());
    }
    let actual: String = actual.chars().take(200).collect();
    Err(Malformed(format!("{field} is {actual:?}, but the event was published as {name}")))
}

pub(super) fn check_object(field: &str, value: &RawValue) -> Result<(), Malformed> {
    if value.get().starts_with('{') {
        return Ok(());
    }
    let start: String = value.get().chars().take(40).collect();
    Err(Malformed(format!("{field} must be an object ({{}} if there is no data); it is {start}")))
}

pub(super) fn object_id(field: &str, raw: &RawValue) -> Result<String, Malformed> {
    let excerpt = start(raw.get());
    match serde_json::from_str(raw.get()) {
        Ok(serde_json::Value::String(text)) => check_object_id(field, text),
        // The digits as written: a large number must not become 1e21.
        Ok(serde_json::Value::Number(_)) => check_object_id(field, raw.get().to_owned()),
        Err(_) if raw.get().starts_with('"') => {
            Err(Malformed(format!("{field} is not valid text: {excerpt} has half of a surrogate pair")))
        }
        Err(_) => Err(Malformed(format!("{field} is a number out of range: {excerpt}"))),
        Ok(_) => Err(Malformed(format!("{field} must be a number or a string; it is {excerpt}"))),
    }
}

/// Checks the size of an object id, which travels in headers and in the environment of scripts.
pub(super) fn check_object_id(field: &str, text: String) -> Result<String, Malformed> {
    if text.contains('\0') || text.len() > MAX_OBJECT_ID_BYTES {
        let rule = format!("must have at most {MAX_OBJECT_ID_BYTES} bytes, none of them NUL");
        return Err(Malformed(format!("{field} {rule}; it begins with {:?}", start(&text))));
    }
    Ok(text)
}

pub(super) fn timestamp(field: &str, text: &str) -> Result<Timestamp, Malformed> {
    parse_zoned(text).map_err(|why| {
        Malformed(format!(
            "{field} must be an RFC 3339 time such as 2026-01-01T00:00:00+00:00; it is {:?}: {why}",
            start(text)
        ))
    })
}

/// The beginning of a rejected value, for the error.
fn start(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Rejects JSON that nests deeper than [`MAX_DEPTH`]. `serde_json` limits the nesting of values that it builds, but
/// not of values that it skips.
pub(in super::super) fn check_depth(text: &str) -> Result<(), Malformed> {
    let bytes = text.as_bytes();
    let (mut position, mut depth) = (0, 0_usize);
    while let Some(byte) = bytes.get(position) {
        match byte {
            b'"' => position = closing_quote(bytes, position + 1),
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Malformed(format!("nested deeper than {MAX_DEPTH} at byte {position}")));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        position += 1;
    }
    Ok(())
}

/// The position of the quote that ends the string beginning at `position`, or the end of the text.
fn closing_quote(bytes: &[u8], mut position: usize) -> usize {
    loop {
        let rest = bytes.get(position..).unwrap_or_default();
        match memchr::memchr2(b'"', b'\\', rest) {
            None => return bytes.len(),
            Some(offset) if rest.get(offset) == Some(&b'"') => return position + offset,
            // The escaped character may be a quote.
            Some(offset) => position += offset + 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_that_of_brackets_outside_of_strings() {
        let deep = |open: &str, times| check_depth(&open.repeat(times));
        assert!(deep("[", MAX_DEPTH).is_ok());
        assert_eq!(deep("[", MAX_DEPTH + 1).expect_err("deep").0, "nested deeper than 128 at byte 128");
        assert!(deep("[]", 1000).is_ok(), "side by side");
        for string in [r#""[""#, r#""\\""#, r#""\"[""#, r#""\\\"[""#, r#""é[\u0022[""#] {
            assert!(deep(string, 1000).is_ok(), "{string}");
            assert!(deep(&format!("{string}:["), MAX_DEPTH + 1).is_err(), "{string}");
        }
        for unclosed in [r#"""#, r#""["#, r#""\"#, r#""\""#] {
            assert!(check_depth(unclosed).is_ok(), "{unclosed}: that is for the parser to say");
        }
    }
}
