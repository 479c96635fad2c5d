//! Composes events for `publish`, and sample events for test calls.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    Arrival, EventName, Malformed, decode,
    parts::{check_object_id, object_id},
};

#[derive(Serialize)]
struct Envelope<'a> {
    event: Head<'a>,
    data: &'a RawValue,
}

#[derive(Serialize)]
struct Head<'a> {
    dt: Timestamp,
    events_id: &'a EventName,
    object_id: &'a RawValue,
}

/// The object id of an event in its JSON form: a number with all its digits, or a string. It is not empty.
#[derive(Clone, Debug)]
pub struct ObjectId(Box<RawValue>);

impl ObjectId {
    /// Parses an object id that a person types: digits become a number. 007 and +7 stay strings, because as the
    /// number 7 they would name another object.
    ///
    /// # Errors
    /// The id is empty, or a worker would reject it.
    pub fn typed(text: &str) -> Result<Self, Malformed> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_number = digits.bytes().all(|b| b.is_ascii_digit())
            && (!digits.is_empty() && !digits.starts_with('0') || text == "0");
        let text = not_empty(check_object_id("the object id", text.to_owned())?)?;
        let json = if is_number { text } else { Value::from(text).to_string() };
        RawValue::from_string(json).map(Self).map_err(|e| Malformed(e.to_string()))
    }

    /// Takes an object id that a program sends as JSON.
    ///
    /// # Errors
    /// The id is empty, or a worker would reject it.
    pub fn written(json: Box<RawValue>) -> Result<Self, Malformed> {
        not_empty(object_id("the object id", &json)?)?;
        Ok(Self(json))
    }
}

fn not_empty(text: String) -> Result<String, Malformed> {
    if text.is_empty() { Err(Malformed("the object id is empty".to_owned())) } else { Ok(text) }
}

/// The envelope of an event that happened at `dt`. The data keeps its bytes.
///
/// # Errors
/// None in practice: all values can be serialized.
pub fn compose(
    name: &EventName,
    object_id: &ObjectId,
    data: &RawValue,
    dt: Timestamp,
) -> Result<Bytes, serde_json::Error> {
    let event = Head { dt, events_id: name, object_id: &object_id.0 };
    serde_json::to_vec(&Envelope { event, data }).map(Bytes::from)
}

/// The envelope of an event, checked as a worker checks it.
///
/// # Errors
/// Says why a worker would reject it: its size, or data that is not an object.
pub fn compose_fitting(
    name: &EventName,
    object_id: &ObjectId,
    data: &RawValue,
    dt: Timestamp,
    max_bytes: usize,
) -> Result<Bytes, Malformed> {
    let body = compose(name, object_id, data, dt).map_err(|e| Malformed(e.to_string()))?;
    decode(&Arrival::of(name, &body), max_bytes)?;
    Ok(body)
}

/// Sample data such as the platform sends with this event; `{}` if it sends none.
pub fn sample_data(name: &EventName, object_id: &ObjectId) -> Value {
    let id: Value = serde_json::from_str(object_id.0.get()).unwrap_or_default();
    let package = |status: &str| json!({"id": id, "clients_id": 7, "packages_id": 3, "status": status});
    match name.as_str() {
        "clients.create" => json!({
            "id": id, "name": "Ann Example", "email": "ann@client.example", "phone": "+15550100",
            "status": "active", "balance": "0.00", "currency": "EUR",
        }),
        "clients.update" => json!({"id": id, "name": "My changed name"}),
        "clients.custom_fields.update" => json!({"id": id, "custom_fields": {"contract": "A-2026-17"}}),
        "clients.accounts.create" => json!({"id": id, "clients_id": 7, "login": "ann", "status": "active"}),
        "clients.accounts.update" => json!({"id": id, "clients_id": 7, "login": "ann.example"}),
        "clients.packages.assign" => package("assigned"),
        "clients.packages.activate" | "clients.packages.renew" => package("active"),
        "clients.packages.deactivate" => package("inactive"),
        "clients.packages.close" => package("closed"),
        "clients.delete"
        | "clients.archive"
        | "clients.balance_notzero"
        | "clients.balance_zero"
        | "clients.accounts.delete" => json!({}),
        // An event type that an operator added.
        _ => json!({"id": id}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_well_formed_event() {
        for (name, object_id, empty) in [
            ("clients.create", "12", false),
            ("clients.balance_zero", "007", true),
            ("own.event", "a", false),
        ] {
            let name: EventName = name.parse().expect("a name");
            let id = ObjectId::typed(object_id).expect("an id");
            let data = sample_data(&name, &id);
            assert_eq!(data == json!({}), empty);
            let data = serde_json::value::to_raw_value(&data).expect("JSON");
            let body = compose(&name, &id, &data, Timestamp::UNIX_EPOCH).expect("composed");
            assert_eq!(decode(&Arrival::of(&name, &body), 10_000).expect("well-formed").object_id, object_id);
        }
    }

    #[test]
    fn only_a_canonical_number_becomes_a_number() {
        for (typed, json) in [
            ("12", "12"),
            ("-5", "-5"),
            ("0", "0"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("007", "\"007\""),
            ("-0", "\"-0\""),
            ("+7", "\"+7\""),
            ("1.0", "\"1.0\""),
            ("-", "\"-\""),
            ("a\"b", r#""a\"b""#),
        ] {
            assert_eq!(ObjectId::typed(typed).expect(typed).0.get(), json);
        }
        let written = |json: &str| ObjectId::written(RawValue::from_string(json.to_owned()).expect("JSON"));
        for json in ["12", "\"12\"", "12345678901234567890123", "1.50"] {
            assert_eq!(written(json).expect(json).0.get(), json);
        }
        for (json, expected) in [
            ("\"\"", "is empty"),
            ("null", "must be a number or a string"),
            ("1e400", "out of range"),
            (r#""\ud800""#, "half of a surrogate pair"),
        ] {
            assert!(written(json).expect_err(json).to_string().contains(expected), "{json}");
        }
        assert!(ObjectId::typed("").is_err() && ObjectId::typed(&"a".repeat(1025)).is_err());
    }
}
