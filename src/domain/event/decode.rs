//! Decodes the bytes of a delivery to an [`Event`], or says why they are malformed.
//!
//! It accepts two formats: provisiond's own envelope, and a CloudEvent. A CloudEvent is converted to the envelope
//! here, so that no other module needs to know the format.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    super::json::Object,
    Event, EventId, cloud_event,
    parts::{Arrival, Malformed, check_depth, check_name, check_object, object_id, parse, timestamp},
    plain::plain,
};

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Object<Head<'a>>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    dt: Cow<'a, str>,
    #[serde(borrow)]
    events_id: Cow<'a, str>,
    #[serde(borrow)]
    object_id: &'a RawValue,
}

/// Decodes `arrival`, whose body may have at most `max_bytes`, compressed and decompressed.
///
/// # Errors
/// [`Malformed`] says what was expected, and where the body differs.
pub fn decode(arrival: &Arrival<'_>, max_bytes: usize) -> Result<Event, Malformed> {
    let body = plain(arrival.body, arrival.content_encoding, max_bytes)?;
    let text = std::str::from_utf8(&body)
        .map_err(|e| Malformed(format!("the body is not UTF-8 at byte {}", e.valid_up_to())))?;
    check_depth(text)?;
    if cloud_event::is_cloud_event(arrival.content_type) {
        cloud_event::read(arrival, text)
    } else {
        envelope(arrival, &body, text)
    }
}

fn envelope(arrival: &Arrival<'_>, plain: &Bytes, text: &str) -> Result<Event, Malformed> {
    let Object(Envelope { event: Object(event), data }) =
        parse(text, r#"{"event":{"dt","events_id","object_id"},"data":{}}"#)?;
    check_name("event.events_id", &event.events_id, arrival.name)?;
    check_object("data", data)?;
    let Arrival { message_id, timestamp: sent_at, body, .. } = *arrival;
    let derived = || EventId::of_message(message_id, arrival.name.as_str(), sent_at, body);
    Ok(Event {
        id: arrival.known_id.cloned().unwrap_or_else(derived),
        is_identified: message_id.is_some(),
        name: arrival.name.clone(),
        object_id: object_id("event.object_id", event.object_id)?,
        dt: timestamp("event.dt", &event.dt)?,
        body: plain.clone(),
    })
}

/// The object id in `body`, which need not be a valid event.
pub fn object_id_in(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Loose<'a> {
        #[serde(borrow)]
        event: LooseHead<'a>,
    }
    #[derive(Deserialize)]
    struct LooseHead<'a> {
        #[serde(borrow)]
        object_id: &'a RawValue,
    }
    let text = std::str::from_utf8(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)).ok()?;
    let Object(Loose { event }) = serde_json::from_str(text).ok()?;
    object_id("event.object_id", event.object_id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::EventName;

    const GOOD: &str = r#"{"event":{"dt":"2026-01-01T00:00:00+00:00","events_id":"clients.update",
        "object_id":12,"extra":[1]},"data":{"id":12,"name":"a\u0000b"},"more":true}"#;

    fn decode_as(content_type: Option<&str>, body: &str) -> Result<Event, Malformed> {
        let name: EventName = "clients.update".parse().expect("valid");
        let body = Bytes::copy_from_slice(body.as_bytes());
        let arrival = Arrival { content_type, ..Arrival::of(&name, &body) };
        decode(&arrival, 1 << 20)
    }

    #[test]
    fn a_good_event_keeps_its_bytes() {
        let event = decode_as(None, GOOD).expect("well-formed");
        assert_eq!(event.body, GOOD.as_bytes());
        assert_eq!(event.object_id, "12");
        assert_eq!(event.dt.to_string(), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn an_object_id_is_a_number_as_written_or_a_string() {
        let decode_with_id = |id: &str| decode_as(None, &GOOD.replace(":12,", &format!(":{id},")));
        assert_eq!(
            decode_with_id("123456789012345678901234").expect("a number").object_id,
            "123456789012345678901234"
        );
        assert_eq!(decode_with_id("\"a-7\"").expect("a string").object_id, "a-7");
        for bad in ["null", "true", "[1]", "{}", "\"\\u0000\""] {
            assert!(decode_with_id(bad).is_err(), "{bad}");
        }
        for (bad, expected) in [
            ("1e400", "a number out of range: 1e400"),
            (r#""\ud800""#, "half of a surrogate pair"),
            ("[1]", "it is [1]"),
        ] {
            let error = decode_with_id(bad).expect_err(bad).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_object_id_is_found_in_an_invalid_event() {
        let object_id_of = |body: &str| object_id_in(body.as_bytes());
        assert_eq!(object_id_of(r#"{"event":{"object_id":12},"data":[]}"#).as_deref(), Some("12"));
        assert_eq!(object_id_of("\u{feff}{\"event\":{\"object_id\":\"a\"}}").as_deref(), Some("a"));
        for none in ["", "{}", "[1]", r#"{"event":{"object_id":null}}"#, r#"{"event":{"object_id":1}"#] {
            assert_eq!(object_id_of(none), None, "{none}");
        }
    }

    #[test]
    fn an_error_says_what_is_malformed() {
        let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
        let deep = GOOD.replace("true", &deep);
        for (body, expected) in [
            ("", "expected {\"event\""),
            ("not json", "line 1 column"),
            ("[]", "expected an object"),
            (r#"[["2026-01-01T00:00:00Z","clients.update","x"],{}]"#, "expected an object"),
            (r#"{"event":["2026-01-01T00:00:00Z","clients.update",1],"data":{}}"#, "expected an object"),
            (r#"{"data":{}}"#, "missing field `event`"),
            (&GOOD.replace("clients.update", "clients.create"), "published as clients.update"),
            (&GOOD.replace("2026-01-01T00:00:00+00:00", "yesterday"), "RFC 3339"),
            (&GOOD.replace(r#"{"id":12,"name":"a\u0000b"}"#, "[]"), "data must be an object"),
            (&deep, "nested deeper than 128"),
        ] {
            let error = decode_as(None, body).expect_err(body).to_string();
            assert!(error.contains(expected), "{error:?} should say {expected:?}");
        }
    }
}
