//! Events that did not happen: composed here, to be published by hand or to try a handler with.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{Arrival, EventName, Malformed, decode};

#[derive(Serialize)]
struct Envelope<'a> {
    event: Head<'a>,
    data: &'a RawValue,
}

#[derive(Serialize)]
struct Head<'a> {
    dt: Timestamp,
    events_id: &'a EventName,
    object_id: Value,
}

/// The envelope of an event that happened at `dt`. The data keeps its bytes.
///
/// # Errors
/// None in practice: everything in it can be written.
pub fn compose(
    name: &EventName,
    object_id: &str,
    data: &RawValue,
    dt: Timestamp,
) -> Result<Bytes, serde_json::Error> {
    let event = Head { dt, events_id: name, object_id: object_id_value(object_id) };
    serde_json::to_vec(&Envelope { event, data }).map(Bytes::from)
}

/// The envelope of an event that workers will take.
///
/// # Errors
/// Says what a worker would refuse: a length, or data that is no object.
pub fn compose_fitting(
    name: &EventName,
    object_id: &str,
    data: &RawValue,
    dt: Timestamp,
    max_bytes: usize,
) -> Result<Bytes, Malformed> {
    let body = compose(name, object_id, data, dt).map_err(|e| Malformed(e.to_string()))?;
    let arrival = Arrival {
        name,
        content_type: None,
        content_encoding: None,
        message_id: None,
        timestamp: None,
        body: &body,
        known_id: None,
    };
    decode(&arrival, max_bytes)?;
    Ok(body)
}

/// Data as the platform might send with this event: `{}` where it sends none.
pub fn sample_data(name: &EventName, object_id: &str) -> Value {
    let id = object_id_value(object_id);
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
        // One that an operator added.
        _ => json!({"id": id}),
    }
}

/// 007 and +7 are texts: as the number 7 they would be another object.
fn object_id_value(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => json!(number),
        _ => json!(text),
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
            let data = sample_data(&name, object_id);
            assert_eq!(data == json!({}), empty);
            let data = serde_json::value::to_raw_value(&data).expect("JSON");
            let body = compose(&name, object_id, &data, Timestamp::UNIX_EPOCH).expect("composed");
            let arrival = Arrival {
                name: &name,
                content_type: None,
                content_encoding: None,
                message_id: None,
                timestamp: None,
                body: &body,
                known_id: None,
            };
            assert_eq!(decode(&arrival, 10_000).expect("well-formed").object_id, object_id);
        }
    }
}
