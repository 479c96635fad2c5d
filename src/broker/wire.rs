//! What provisiond writes into AMQP messages and reads out of them.
//!
//! Copies and dead letters are published clean: only the headers named here. With `x-death` kept,
//! the broker's cycle detection would drop retries in silence.

mod letters;
mod read;
mod write;

use super::header::{number_header, text_header};

pub use letters::{Letter, dead_letter_of, resent, unrouted_event};
pub use read::{Facts, copy_of};
pub use write::{Burial, CopyOf, dead_letter, event, result, retry_copy};

/// More than this in headers is malformed.
pub const MAX_HEADER_BYTES: usize = 32 * 1024;

const MAX_TRACEPARENT_BYTES: usize = 128;
const MAX_TRACESTATE_BYTES: usize = 1024;

const EVENT_ID: &str = "x-provisioning-event-id";
const PLAN: &str = "x-provisioning-plan";
const ATTEMPT: &str = "x-provisioning-attempt";
const FIRST_FAILED_AT: &str = "x-provisioning-first-failed-at";
const LETTER_ID: &str = "x-provisioning-id";
const LETTER_REASON: &str = "x-provisioning-reason";
const LETTER_HANDLER: &str = "x-provisioning-handler";
const LETTER: &str = "x-provisioning-dead-letter";
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// The W3C trace context that came with an event; it is passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub parent: Option<String>,
    pub state: Option<String>,
}

impl Trace {
    /// As it came. What is longer than W3C asks anybody to carry is left behind: it would be carried on
    /// into every copy, whose headers are bounded.
    fn of(parent: Option<String>, state: Option<String>) -> Self {
        let short =
            |text: &String, most| text.len() <= most && text.bytes().all(|b| (b' '..=b'~').contains(&b));
        Self {
            parent: parent.filter(|text| short(text, MAX_TRACEPARENT_BYTES)),
            state: state.filter(|text| short(text, MAX_TRACESTATE_BYTES)),
        }
    }

    /// The trace id in `traceparent`, if that is one.
    pub fn id(&self) -> Option<&str> {
        let id = self.parent.as_deref()?.split('-').nth(1)?;
        (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
    }
}
