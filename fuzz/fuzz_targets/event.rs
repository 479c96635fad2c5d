//! Whatever a body holds, it is an event or is said to be none; and whatever a handler answers, only what is clearly an
//! allowance lets an event through.
#![no_main]
#![allow(dead_code, unused_imports, reason = "only a part of the vocabulary is used")]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

#[path = "../../src"]
mod program {
    pub mod domain;
}
use program::domain;

use domain::{
    event::{Arrival, Event, EventName, Malformed, decode},
    plan::Plan,
    verdict::{Verdict, read_verdict},
};

const MAX_BYTES: usize = 1 << 16;
const BODY: &[u8] = br#"{"event":{"dt":"2026-01-01T00:00:00Z","events_id":"a.b","object_id":1},"data":{"n":1.0}}"#;

fn read(name: &EventName, content_type: Option<&str>, message_id: Option<&str>, body: &[u8]) -> Result<Event, Malformed> {
    let body = Bytes::copy_from_slice(body);
    let arrival = Arrival { name, content_type, message_id, timestamp: Some(1), body: &body, known_id: None };
    decode(&arrival, MAX_BYTES)
}

fuzz_target!(|data: (bool, Option<&str>, &str, &[u8], &[u8])| {
    let (is_cloud_event, message_id, header, body, answer) = data;
    let name: EventName = "a.b".parse().expect("a name");
    let content_type = is_cloud_event.then_some("application/cloudevents+json");
    if let Ok(event) = read(&name, content_type, message_id, body) {
        // It is an object of JSON, and what is passed on of it is the same event.
        let _: Map<String, Value> = serde_json::from_slice(&event.body).expect("an object");
        let again = read(&name, None, message_id, &event.body).expect("the envelope");
        assert_eq!((again.object_id, again.dt), (event.object_id, event.dt));
    }
    let event = read(&name, None, None, BODY).expect("an event");
    if let Ok(verdict @ (Verdict::Allow | Verdict::Modify(_))) = read_verdict(answer, &event, MAX_BYTES) {
        let text = std::str::from_utf8(answer).expect("UTF-8").trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return assert!(matches!(verdict, Verdict::Allow));
        }
        let object: Map<String, Value> = match serde_json::from_str(text) {
            Ok(object) => object,
            // Numbers beyond a float and half surrogates are JSON, and are passed on as they stand.
            Err(_) => return,
        };
        assert!(object.get("verdict").is_none_or(|verdict| verdict == "allow"), "{text}");
        assert!(object.get("data").is_none_or(Value::is_object), "{text}");
        if let Verdict::Modify(body) = verdict {
            read(&name, None, None, &body).expect("what was changed is an event");
        }
    }
    let _ = Plan::from_headers(header, 1);
});
