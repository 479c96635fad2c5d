//! What an `intercept` handler says of the event.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    event::{Event, check_depth},
    handler::Mode,
    outcome::{FailureKind, KEPT_BYTES, Outcome},
};

/// What an answer means for the handlers after it.
#[derive(Debug)]
pub enum Verdict {
    Allow,
    /// The body that those after it get.
    Modify(Bytes),
    Forbid {
        reason: String,
    },
}

#[derive(Deserialize)]
struct Answer {
    verdict: Option<Value>,
    reason: Option<Value>,
    data: Option<Box<RawValue>>,
}

/// How much of an answer is read for its verdict; none where it has no say.
pub fn answer_limit(mode: Mode, max_event_bytes: usize) -> Option<usize> {
    (mode == Mode::Intercept).then_some(max_event_bytes + KEPT_BYTES)
}

/// What the outcome of one attempt means for the event: nothing, unless the handler is an `intercept`
/// one. An answer that cannot be passed on makes a failure of a success.
pub fn judge(outcome: Outcome, mode: Mode, event: &Event, max_event_bytes: usize) -> (Outcome, Verdict) {
    if mode == Mode::Notify {
        return (outcome, Verdict::Allow);
    }
    match outcome {
        Outcome::Succeeded { response, answer: Some(answer) } => {
            match read_verdict(&answer, event, max_event_bytes) {
                Ok(verdict) => (Outcome::Succeeded { response, answer: None }, verdict),
                Err(error) => {
                    (Outcome::failed(FailureKind::Permanent, error, Some(response)), Verdict::Allow)
                }
            }
        }
        Outcome::Forbidden { ref reason, .. } => {
            let verdict = Verdict::Forbid { reason: reason.clone() };
            (outcome, verdict)
        }
        _ => (outcome, Verdict::Allow),
    }
}

/// Reads the verdict on `event` out of `answer`. What is no JSON object, or one without a verdict
/// and without `data`, allows: the plainest handler answers `ok`, or echoes.
///
/// # Errors
/// Says why the modified event could not be passed on: it would be malformed.
pub fn read_verdict(answer: &[u8], event: &Event, max_event_bytes: usize) -> Result<Verdict, String> {
    let Ok(answer) = serde_json::from_slice::<Answer>(answer) else { return Ok(Verdict::Allow) };
    if answer.verdict.as_ref().and_then(Value::as_str) == Some("forbid") {
        let reason = match answer.reason {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => "no reason given".to_owned(),
        };
        return Ok(Verdict::Forbid { reason });
    }
    match answer.data {
        Some(data) if data.get().starts_with('{') => replace_data(event, data, max_event_bytes),
        _ => Ok(Verdict::Allow),
    }
}

fn replace_data(event: &Event, data: Box<RawValue>, max_event_bytes: usize) -> Result<Verdict, String> {
    let mut members: BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(&event.body).map_err(|e| format!("the event is no object: {e}"))?;
    let value = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).ok();
    let unchanged = members
        .get("data")
        .is_some_and(|old| old.get() == data.get() || (value(old).is_some() && value(old) == value(&data)));
    if unchanged {
        return Ok(Verdict::Allow);
    }
    members.insert("data".to_owned(), data);
    let body = serde_json::to_vec(&members).map_err(|e| e.to_string())?;
    if body.len() > max_event_bytes {
        return Err(format!(
            "the modified event has {} bytes; at most {max_event_bytes} are allowed (worker.max_event_bytes)",
            body.len()
        ));
    }
    check_depth(std::str::from_utf8(&body).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    Ok(Verdict::Modify(body.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::EventId;

    fn event() -> Event {
        Event {
            id: EventId::from_message_id("e1"),
            is_identified: true,
            name: "clients.update".parse().expect("valid"),
            object_id: "1".into(),
            dt: jiff::Timestamp::UNIX_EPOCH,
            body: Bytes::from_static(br#"{"event":{"x": 1},"data":{"a":1},"more":true}"#),
        }
    }

    #[test]
    fn what_is_no_verdict_allows() {
        for answer in [
            "",
            "ok",
            "[]",
            "{}",
            r#""x""#,
            r#"{"verdict":"allow"}"#,
            r#"{"data":[1]}"#,
            r#"{"data":{ "a" : 1}}"#,
            r#"{"event":{"x": 1},"data":{"a":1},"more":true}"#,
        ] {
            let verdict = read_verdict(answer.as_bytes(), &event(), 1000);
            assert!(matches!(verdict, Ok(Verdict::Allow)), "{answer}: {verdict:?}");
        }
    }

    #[test]
    fn data_replaces_data_and_nothing_else() {
        let verdict = read_verdict(br#"{"data":{"a":2}}"#, &event(), 1000);
        let Ok(Verdict::Modify(body)) = verdict else { panic!("{verdict:?}") };
        assert_eq!(body, r#"{"data":{"a":2},"event":{"x": 1},"more":true}"#);
    }

    #[test]
    fn forbidding_has_a_reason() {
        let verdict = read_verdict(br#"{"verdict":"forbid","reason":"debt"}"#, &event(), 1000);
        assert!(matches!(verdict, Ok(Verdict::Forbid { reason }) if reason == "debt"));
    }

    #[test]
    fn a_modified_event_must_stay_well_formed() {
        assert!(read_verdict(br#"{"data":{"a":"0123456789"}}"#, &event(), 50).is_err());
        let deep = format!(r#"{{"data":{{"a":{}{}}}}}"#, "[".repeat(128), "]".repeat(128));
        assert!(read_verdict(deep.as_bytes(), &event(), 10_000).is_err());
    }
}
