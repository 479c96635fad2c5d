//! An event, or one handler's share of it, that was given up, and why.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    event::id_of,
    execution::WorkerId,
    handler::{HandlerId, HandlerName},
    text_enum::text_enum,
    trace::Trace,
};

/// The error of a dead letter travels in a header: at most this many bytes of it.
pub const MAX_ERROR_BYTES: usize = 2048;

text_enum! {
    /// Why it was given up.
    Reason {
        /// It is no event.
        Malformed = "malformed",
        /// The handler failed in a way that trying again does not mend.
        Permanent = "permanent",
        /// All attempts failed.
        Exhausted = "exhausted",
        /// It was begun alone again and again, and its worker died with it each time.
        CrashLoop = "crash_loop",
        /// No queue took it: its name is not in the catalogue.
        Unrouted = "unrouted",
        /// The broker took it out of its queue: it waited longer than a policy allows, or was delivered more often than
        /// the queue does.
        Expired = "expired",
    }
}

text_enum! {
    /// What became of a dead letter.
    State { Open = "open", Replayed = "replayed", Discarded = "discarded" }
}

/// What is known of a dead letter beside its body: the JSON header of the message, and the row.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeadLetter {
    pub id: Uuid,
    /// Absent where it could not be told: the event is malformed, or never reached a worker.
    pub event_id: Option<String>,
    pub run_id: Option<String>,
    /// The name it was published by; of an unrouted event it may be any text.
    pub event_name: String,
    pub object_id: Option<String>,
    pub reason: Reason,
    /// One line that a person understands.
    pub error: String,
    /// The handler that failed; none where the whole event was given up.
    pub handler_id: Option<HandlerId>,
    pub handler_name: Option<HandlerName>,
    /// Attempts that were made.
    pub attempts: u32,
    /// What a replay runs: this handler, or it and the rest. Empty: it is planned afresh.
    pub plan: Vec<HandlerId>,
    /// When those were created, in microseconds since 1970; 0 or absent where that is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan_created: Vec<i64>,
    pub first_failed_at: Option<Timestamp>,
    pub died_at: Timestamp,
    /// Absent where no worker saw it.
    pub worker: Option<WorkerId>,
}

/// A dead letter whole: what is known of it, and the message that it was.
#[derive(Clone, Debug)]
pub struct DeadLetterMessage {
    pub facts: DeadLetter,
    /// The bytes as they came (unpacked, if they were compressed), or as handlers changed them.
    pub body: Bytes,
    pub content_type: Option<String>,
    /// Where and how it was published, where that is known.
    pub exchange: Option<String>,
    pub routing_key: Option<String>,
    pub trace: Trace,
}

impl DeadLetter {
    /// Of a message that is given up whole, which no handler has seen: a replay plans it afresh.
    /// `run_id` is its identity as far as it has one.
    pub fn of_whole(
        reason: Reason,
        error: &str,
        event_name: &str,
        run_id: Option<String>,
        body: &[u8],
        died_at: Timestamp,
    ) -> Self {
        // With the name: a message id that was used on another routing key must not hide this one.
        let run = run_id.as_deref().unwrap_or_default();
        Self {
            id: id_of(&["dead-letter", run, "", reason.as_str(), event_name], body),
            event_id: run_id.clone(),
            run_id,
            event_name: event_name.to_owned(),
            object_id: None,
            reason,
            error: header_error(error),
            handler_id: None,
            handler_name: None,
            attempts: 0,
            plan: Vec::new(),
            plan_created: Vec::new(),
            first_failed_at: None,
            died_at,
            worker: None,
        }
    }
}

/// The identity of a dead letter. Derived, so that a crash between publishing it and acknowledging
/// its cause makes no second letter.
pub fn dead_letter_id(run_id: &str, handler: Option<HandlerId>, reason: Reason, body: &[u8]) -> Uuid {
    let handler = handler.map(|id| id.to_string()).unwrap_or_default();
    id_of(&["dead-letter", run_id, &handler, reason.as_str()], body)
}

/// `error` on one line, cut to what a header may hold.
pub fn header_error(error: &str) -> String {
    let mut line = error.replace(char::is_control, " ");
    line.truncate(line.floor_char_boundary(MAX_ERROR_BYTES));
    line
}
