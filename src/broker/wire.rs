//! Writes and reads the AMQP messages of provisiond.
//!
//! Copies and dead letters carry only the headers named here. With `x-death` kept, the broker's cycle detection would
//! silently drop retries.

mod classify;
mod letters;
mod read;
mod write;

use super::header::{number_header, text_header};

pub use classify::{MessageKind, classify};
pub use letters::{dead_letter_message, dead_letter_of, resent, unrouted_event};
pub use read::{Deferred, MessageMeta, handlers_seen, retry_of};
pub use write::{CopyOf, NewDeadLetter, dead_letter, event, mark_republished, reply, result, retry_copy};

/// A message with more bytes of headers is malformed.
pub const MAX_HEADER_BYTES: usize = 32 * 1024;

const EVENT_ID: &str = "x-provisioning-event-id";
const PLAN: &str = "x-provisioning-plan";
/// When each handler of the plan was created.
const PLAN_CREATED: &str = "x-provisioning-plan-created";
const ATTEMPT: &str = "x-provisioning-attempt";
/// The run in which the attempt of this copy was deferred; `PUT_OFF_SINCE` says when that run took its delivery.
const PUT_OFF_IN: &str = "x-provisioning-put-off-in";
const PUT_OFF_SINCE: &str = "x-provisioning-put-off-since";
/// The message was published again after a lost confirm: the broker may have it twice.
const REPUBLISHED: &str = "x-provisioning-again";
/// Handler versions that the sender knows. A worker waits until it knows them, before it runs the copy.
const HANDLERS: &str = "x-provisioning-handlers";
const FIRST_FAILED_AT: &str = "x-provisioning-first-failed-at";
const DEAD_LETTER_ID: &str = "x-provisioning-id";
const DEAD_LETTER_REASON: &str = "x-provisioning-reason";
const DEAD_LETTER_HANDLER: &str = "x-provisioning-handler";
const DEAD_LETTER: &str = "x-provisioning-dead-letter";
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
