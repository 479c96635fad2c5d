//! Converts a CloudEvents 1.0 event in structured mode to the envelope.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    super::json::Object,
    Event, EventId, EventName,
    parts::{Arrival, Malformed, check_name, check_object, check_object_id, parse, timestamp},
};

#[derive(Deserialize)]
struct CloudEvent<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow)]
    time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<IgnoredAny>,
}

pub(super) fn read(arrival: &Arrival<'_>, text: &str) -> Result<Event, Malformed> {
    let Object(ce): Object<CloudEvent<'_>> = parse(text, "a CloudEvents 1.0 event in structured mode")?;
    if ce.specversion != "1.0" {
        return Err(Malformed(format!("specversion is {:?}; only 1.0 is supported", ce.specversion)));
    }
    if ce.data_base64.is_some() {
        return Err(Malformed("data_base64 is not supported: data must be a JSON object".into()));
    }
    check_name("type", &ce.kind, arrival.name)?;
    let subject =
        ce.subject.ok_or_else(|| Malformed("subject is missing: it must name the object".into()))?;
    let subject = check_object_id("subject", subject.into_owned())?;
    let time =
        ce.time.ok_or_else(|| Malformed("time is missing: it must say when the event happened".into()))?;
    let dt = timestamp("time", &time)?;
    let data = ce.data.map_or("{}", RawValue::get);
    let data = RawValue::from_string(data.to_owned()).map_err(|e| Malformed(e.to_string()))?;
    check_object("data", &data)?;
    let body = envelope_bytes(&time, arrival.name, &subject, &data)?;
    Ok(Event {
        id: EventId::from_cloud_event(&ce.source, &ce.id),
        is_identified: true,
        name: arrival.name.clone(),
        object_id: subject,
        dt,
        body,
    })
}

fn envelope_bytes(dt: &str, name: &EventName, object_id: &str, data: &RawValue) -> Result<Bytes, Malformed> {
    #[derive(Serialize)]
    struct Out<'a> {
        event: OutHead<'a>,
        data: &'a RawValue,
    }
    #[derive(Serialize)]
    struct OutHead<'a> {
        dt: &'a str,
        events_id: &'a str,
        object_id: &'a str,
    }
    let event = OutHead { dt, events_id: name.as_str(), object_id };
    let bytes = serde_json::to_vec(&Out { event, data }).map_err(|e| Malformed(e.to_string()))?;
    Ok(bytes.into())
}

pub(super) fn is_cloud_event(content_type: Option<&str>) -> bool {
    let media_type = content_type.and_then(|t| t.split(';').next()).unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/cloudevents+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_event_becomes_an_envelope() {
        let body = r#"{"specversion":"1.0","id":"7","source":"/billing","type":"clients.update",
            "subject":"12","time":"2026-01-01T00:00:00Z","data":{"a": 1}}"#;
        let event = read_as("application/cloudevents+json; charset=utf-8", body).expect("valid");
        assert_eq!(event.id, EventId::from_cloud_event("/billing", "7"));
        assert_eq!(
            event.body,
            r#"{"event":{"dt":"2026-01-01T00:00:00Z","events_id":"clients.update","object_id":"12"},"data":{"a": 1}}"#
        );
    }

    fn read_as(content_type: &str, body: &str) -> Result<Event, Malformed> {
        assert!(is_cloud_event(Some(content_type)));
        let name: EventName = "clients.update".parse().expect("valid");
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        let arrival = Arrival { content_type: Some(content_type), ..Arrival::of(&name, &bytes) };
        read(&arrival, body)
    }

    #[test]
    fn an_error_names_the_missing_field() {
        let complete = r#"{"specversion":"1.0","id":"7","source":"/b","type":"clients.update","subject":"12","time":"2026-01-01T00:00:00Z"}"#;
        assert!(read_as("application/cloudevents+json", complete).is_ok(), "data may be absent");
        for (part, expected) in [
            (r#""subject":"12","#, "subject is missing"),
            (r#","time":"2026-01-01T00:00:00Z""#, "time is missing"),
            (r#""id":"7","#, "missing field `id`"),
        ] {
            let error = read_as("application/cloudevents+json", &complete.replace(part, "")).expect_err(part);
            assert!(error.to_string().contains(expected), "{error}");
        }
        let old = complete.replace("1.0", "0.3");
        assert!(read_as("application/cloudevents+json", &old).is_err());
    }
}
