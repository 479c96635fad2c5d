//! Reads the verdict of an `intercept` handler from its answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    event::{Event, check_depth},
    handler::Mode,
    json::{self, Members},
    outcome::{FailureKind, KEPT_BYTES, Outcome},
};

/// The keys of an answer that carry a verdict. An object that is not empty needs at least one.
const KEYS: [&str; 2] = ["verdict", "data"];
/// Maximum length of a reason, in characters.
const MAX_REASON: usize = 1000;
/// Maximum length of an answer that an error quotes.
const MAX_QUOTE: usize = 60;

/// The verdict, and what it means for the handlers after this one.
#[derive(Debug)]
pub enum Verdict {
    Allow,
    /// The body that the following handlers receive.
    Modify(Bytes),
    Forbid {
        reason: String,
    },
}

/// An answer that is not a verdict. The attempt fails, because an unreadable answer must never allow an event.
#[derive(Debug)]
pub struct BadAnswer {
    /// Transient if another party may have answered, such as a proxy, whose error page may be gone at the next
    /// attempt.
    pub kind: FailureKind,
    pub error: String,
}

/// How many bytes of an answer are read for its verdict. `None` for handlers that have no verdict.
pub fn answer_limit(mode: Mode, max_event_bytes: usize) -> Option<usize> {
    (mode == Mode::Intercept).then_some(max_event_bytes + KEPT_BYTES)
}

/// Determines the verdict from the outcome of one attempt. Only an `intercept` handler has a verdict other than
/// allow. An answer that is not a valid verdict turns a success into a failure.
pub fn judge(outcome: Outcome, mode: Mode, event: &Event, max_event_bytes: usize) -> (Outcome, Verdict) {
    if mode == Mode::Notify {
        return (outcome, Verdict::Allow);
    }
    match outcome {
        Outcome::Succeeded { response, answer: Some(answer) } => {
            match read_verdict(&answer, event, max_event_bytes) {
                Ok(verdict) => (Outcome::Succeeded { response, answer: None }, verdict),
                Err(BadAnswer { kind, error }) => {
                    (Outcome::failed(kind, error, Some(response)), Verdict::Allow)
                }
            }
        }
        // Ignore 410 Gone: if the intercept handler were disabled, events would pass unchecked. It stays enabled, and
        // the attempts fail.
        Outcome::Failed { mut failure, response } => {
            failure.gone = false;
            (Outcome::Failed { failure, response }, Verdict::Allow)
        }
        Outcome::Forbidden { ref reason, .. } => {
            let verdict = Verdict::Forbid { reason: reason.clone() };
            (outcome, verdict)
        }
        _ => (outcome, Verdict::Allow),
    }
}

/// Reads the verdict on `event` from `answer`. An empty answer or an empty object allows. Otherwise the answer must
/// be exactly one JSON object with a `verdict`, with `data`, or with both. `forbid` is final, whatever else the
/// object contains.
///
/// # Errors
/// Says what was read instead, or why the changed event cannot be passed on.
pub fn read_verdict(answer: &[u8], event: &Event, max_event_bytes: usize) -> Result<Verdict, BadAnswer> {
    let members = members(answer)?;
    let Some(members) = members else { return Ok(Verdict::Allow) };
    match members.get("verdict").map(|verdict| (verdict, json::text(verdict))) {
        None => {}
        Some((_, Some(verdict))) if verdict == "allow" => {}
        Some((_, Some(verdict))) if verdict == "forbid" => {
            let reason = members.get("reason");
            let reason = reason.map(|reason| json::text(reason).unwrap_or_else(|| reason.get().to_owned()));
            let reason = reason.map(|reason| truncate_reason(&reason));
            return Ok(Verdict::Forbid { reason: reason.unwrap_or_else(|| "no reason given".to_owned()) });
        }
        Some((verdict, _)) => {
            return Err(unreadable(format!(
                "the answer's verdict is {}; it must be \"allow\" or \"forbid\"",
                start(verdict.get())
            )));
        }
    }
    // `{"Verdict":"forbid"}` or `{"allowed":false}`: such an answer was meant as a verdict, so it must not allow.
    let is_misspelt = |name: &&str| {
        KEYS.iter().any(|key| name != key && name.trim().eq_ignore_ascii_case(key))
            || (members.get("verdict").is_none() && members.get("data").is_none())
    };
    if let Some(name) = members.names().find(is_misspelt) {
        let name = start(name);
        return Err(unreadable(format!(
            "the answer has {name:?} where \"verdict\" or \"data\" is expected; to allow the event, it must be empty, {{}} or {{\"verdict\":\"allow\"}}"
        )));
    }
    match members.get("data") {
        None => Ok(Verdict::Allow),
        Some(data) if data.get().starts_with('{') => replace_data(event, data, max_event_bytes)
            .map_err(|error| BadAnswer { kind: FailureKind::Permanent, error }),
        Some(data) => {
            Err(unreadable(format!("the answer's data is {}; it must be an object", start(data.get()))))
        }
    }
}

/// The members of the answer's object. `None` if the answer is empty.
fn members(answer: &[u8]) -> Result<Option<Members<'_>>, BadAnswer> {
    let invalid = |why: String| {
        let quote = answer.get(..MAX_QUOTE).unwrap_or(answer);
        let quote = String::from_utf8_lossy(quote);
        unreadable(format!(
            "the answer is neither empty nor one JSON object: it begins with {quote:?} ({why})"
        ))
    };
    if let [0x1f, 0x8b, ..] = answer {
        return Err(invalid("compressed; it must not be compressed".to_owned()));
    }
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = answer {
        return Err(invalid("UTF-16; it must be UTF-8".to_owned()));
    }
    let text = answer.strip_prefix("\u{feff}".as_bytes()).unwrap_or(answer);
    let text = str::from_utf8(text).map_err(|e| invalid(format!("not UTF-8 at byte {}", e.valid_up_to())))?;
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    Members::of(text).map(Some).map_err(|error| invalid(error.to_string()))
}

fn unreadable(error: String) -> BadAnswer {
    BadAnswer { kind: FailureKind::Transient, error }
}

/// Cuts a reason to a length that lists, replies and records can hold.
fn truncate_reason(reason: &str) -> String {
    match reason.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{}…", reason.get(..end).unwrap_or_default()),
        None => reason.to_owned(),
    }
}

fn start(text: &str) -> String {
    text.chars().take(MAX_QUOTE).collect()
}

fn replace_data(event: &Event, data: &RawValue, max_event_bytes: usize) -> Result<Verdict, String> {
    check_depth(data.get()).map_err(|e| format!("the answer's data: {e}"))?;
    let mut members: BTreeMap<String, &RawValue> =
        serde_json::from_slice(&event.body).map_err(|e| format!("the event is not an object: {e}"))?;
    if members.get("data").is_some_and(|old| json::is_same(old, data)) {
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
    check_depth(str::from_utf8(&body).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
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

    fn verdict(answer: impl AsRef<[u8]>) -> Result<Verdict, BadAnswer> {
        read_verdict(answer.as_ref(), &event(), 1000)
    }

    #[test]
    fn an_empty_answer_and_unchanged_data_allow() {
        for answer in [
            "",
            " \r\n",
            "{}",
            r#"{"verdict":"allow"}"#,
            r#"{"verdict":"\u0061llow","reason":1e400,"more":"\ud83d"}"#,
            r#"{"data":{ "a" : 1}}"#,
            r#"{"data":{"a":1.0}}"#,
            "\u{feff}{}\n",
            r#"{"event":{"x": 1},"data":{"a":1},"more":true}"#,
        ] {
            let verdict = verdict(answer);
            assert!(matches!(verdict, Ok(Verdict::Allow)), "{answer}: {verdict:?}");
        }
    }

    #[test]
    fn an_invalid_verdict_is_a_failure_that_quotes_the_answer() {
        let utf16: Vec<u8> =
            "\u{feff}{\"verdict\":\"forbid\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let gzip = b"\x1f\x8b\x08\0\0".as_slice();
        let latin1 = b"{\"verdict\":\"forbid\",\"reason\":\"f\xfcr\"}".as_slice();
        for (answer, expected) in [
            (b"ok".as_slice(), "it begins with \"ok\""),
            (br#"["forbid","because",null]"#, "expected an object"),
            (br#""forbid""#, "expected an object"),
            (b"null", "expected an object"),
            (b"Warning: deprecated\n{\"verdict\":\"forbid\"}", "it begins with \"Warning: deprecated\\n{"),
            (b"{'verdict': 'forbid', 'x': None}", "it begins with"),
            (b"<html>blocked by the firewall</html>", "it begins with \"<html>"),
            (br#"{"verdict":"forbid"} and more"#, "trailing characters"),
            (br#"{"verdict":"forbid"}{}"#, "trailing characters"),
            (br#"{"verdict":"forbid",}"#, "trailing comma"),
            (b"{\"verdict\":\"forbid\" /* no */}", "expected `,` or `}`"),
            (b"{\"verdict\":\"forbid\",\"reason\":\"two\nlines\"}", "control character"),
            (br#"{"verdict":"forbid","x":NaN}"#, "expected value"),
            (br#"{"verdict":"forbid"#, "EOF"),
            (br#"{"verdict":"allow","verdict":"forbid"}"#, "the key \"verdict\" occurs twice"),
            (
                br#"{"verdict":"deny"}"#,
                "the answer's verdict is \"deny\"; it must be \"allow\" or \"forbid\"",
            ),
            (br#"{"verdict":"Forbid"}"#, "the answer's verdict is \"Forbid\""),
            (br#"{"Verdict":"forbid"}"#, "the answer has \"Verdict\" where"),
            (br#"{"verdict":"allow","VERDICT":"forbid"}"#, "the answer has \"VERDICT\""),
            (br#"{"verdict ":"forbid","data":{}}"#, "the answer has \"verdict \""),
            (br#"{"Data":{},"verdict":"allow"}"#, "the answer has \"Data\""),
            (br#"{"allowed":false}"#, "it must be empty, {} or {\"verdict\":\"allow\"}"),
            (br#"{"status":"forbid","reason":"debt"}"#, "the answer has \"status\""),
            (br#"{"reason":"no money"}"#, "the answer has \"reason\""),
            (br#"{"verdict":false}"#, "the answer's verdict is false"),
            (br#"{"verdict":null}"#, "the answer's verdict is null"),
            (br#"{"verdict":["forbid"]}"#, "the answer's verdict is [\"forbid\"]"),
            (br#"{"data":[1]}"#, "the answer's data is [1]; it must be an object"),
            (br#"{"data":null}"#, "the answer's data is null"),
            (&utf16, "UTF-16"),
            (gzip, "compressed"),
            (latin1, "not UTF-8 at byte 31"),
        ] {
            let BadAnswer { kind, error } = verdict(answer).expect_err(expected);
            assert!(error.contains(expected), "{error:?} should say {expected:?}");
            assert_eq!(kind, FailureKind::Transient, "{error}");
        }
    }

    #[test]
    fn an_interceptor_that_is_gone_stays_enabled_and_a_long_reason_is_cut() {
        let gone = || {
            let mut outcome = Outcome::failed(FailureKind::Permanent, "answered 410 Gone", None);
            if let Outcome::Failed { failure, .. } = &mut outcome {
                failure.gone = true;
            }
            outcome
        };
        for (mode, disables) in [(Mode::Notify, true), (Mode::Intercept, false)] {
            let (outcome, _) = judge(gone(), mode, &event(), 1000);
            assert!(matches!(outcome, Outcome::Failed { failure, .. } if failure.gone == disables), "{mode}");
        }
        let long = format!(r#"{{"verdict":"forbid","reason":"{}"}}"#, "ä".repeat(5000));
        let Ok(Verdict::Forbid { reason }) = verdict(long) else { panic!("a refusal") };
        assert_eq!(reason.chars().count(), MAX_REASON + 1);
    }

    #[test]
    fn a_readable_forbid_is_final() {
        let deep =
            format!(r#"{{"verdict":"forbid","reason":"deep","x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        for (answer, expected) in [
            (r#"{"verdict":"forbid","reason":"debt"}"#, "debt"),
            (r#"{"verdict":"forbid"}"#, "no reason given"),
            (r#"{"verdict":"forbid","reason":"no \ud83d"}"#, "no \u{fffd}\u{fffd}\u{fffd}"),
            (r#"{"reason":1e400,"verdict":"forbid"}"#, "1e400"),
            (r#"{"verdict":"\u0066orbid","reason":{"a":[1]},"data":[]}"#, r#"{"a":[1]}"#),
            ("\u{feff}{\"verdict\":\"forbid\",\"reason\":\"bom\"}", "bom"),
            (&deep, "deep"),
        ] {
            let verdict = verdict(answer);
            assert!(
                matches!(&verdict, Ok(Verdict::Forbid { reason }) if reason == expected),
                "{answer}: {verdict:?}"
            );
        }
    }

    #[test]
    fn every_digit_of_changed_data_counts() {
        for (old, new, is_changed) in [
            ("18446744073709551617", "18446744073709551618", true),
            ("1234567890123456.78", "1234567890123456.79", true),
            ("1.10", "1.1", false),
        ] {
            let body = format!(r#"{{"data":{{"n":{old}}}}}"#);
            let event = Event { body: body.into(), ..event() };
            let verdict = read_verdict(format!(r#"{{"data":{{"n":{new}}}}}"#).as_bytes(), &event, 1000);
            assert_eq!(matches!(verdict, Ok(Verdict::Modify(_))), is_changed, "{old} to {new}: {verdict:?}");
        }
    }

    #[test]
    fn data_replaces_data_and_nothing_else() {
        let verdict = read_verdict(br#"{"data":{"a":2}}"#, &event(), 1000);
        let Ok(Verdict::Modify(body)) = verdict else { panic!("{verdict:?}") };
        assert_eq!(body, r#"{"data":{"a":2},"event":{"x": 1},"more":true}"#);
    }

    #[test]
    fn a_modified_event_must_stay_well_formed() {
        assert!(read_verdict(br#"{"data":{"a":"0123456789"}}"#, &event(), 50).is_err());
        let deep = format!(r#"{{"data":{{"a":{}{}}}}}"#, "[".repeat(128), "]".repeat(128));
        assert!(read_verdict(deep.as_bytes(), &event(), 10_000).is_err());
    }
}
