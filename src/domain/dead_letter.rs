//! Dead letters: events, or parts of their plans, that were given up.

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

/// Maximum size of a dead letter's error, which travels in a header.
pub const MAX_ERROR_BYTES: usize = 2048;

text_enum! {
    /// Why an event or a handler was given up.
    Reason {
        /// The message is not a valid event.
        Malformed = "malformed",
        /// The handler failed, and a retry cannot help.
        Permanent = "permanent",
        /// All attempts failed.
        Exhausted = "exhausted",
        /// The event ran alone several times, and its worker died each time.
        CrashLoop = "crash_loop",
        /// No queue took the event: its name is not in the catalogue.
        Unrouted = "unrouted",
        /// RabbitMQ removed the event from its queue: it waited longer than a policy allows, or was delivered more
        /// often than the queue allows.
        Expired = "expired",
    }
}

text_enum! {
    /// What operators did with a dead letter.
    State { Open = "open", Replayed = "replayed", Discarded = "discarded" }
}

/// Everything about a dead letter except its body. It is the JSON header of the message, and the row in the database.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeadLetter {
    pub id: Uuid,
    /// Absent if it is unknown: the event is malformed, or never reached a worker.
    pub event_id: Option<String>,
    pub run_id: Option<String>,
    /// The event name it was published with. For an unrouted event this may be any text.
    pub event_name: String,
    pub object_id: Option<String>,
    pub reason: Reason,
    /// What went wrong, on one line.
    pub error: String,
    /// The handler that failed. Absent if the whole event or plan was given up.
    pub handler_id: Option<HandlerId>,
    pub handler_name: Option<HandlerName>,
    /// How many attempts were made.
    pub attempts: u32,
    /// The handlers that a replay runs: the failed one, alone or with the rest of the plan. Empty: the replay makes a
    /// new plan.
    pub plan: Vec<HandlerId>,
    /// When the handlers of `plan` were created, in microseconds since 1970; 0 or absent if that is unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan_created: Vec<i64>,
    pub first_failed_at: Option<Timestamp>,
    pub died_at: Timestamp,
    /// Absent if no worker took the event.
    pub worker: Option<WorkerId>,
}

/// A complete dead letter: its description and the message.
#[derive(Clone, Debug)]
pub struct DeadLetterMessage {
    pub facts: DeadLetter,
    /// The bytes as received (decompressed if they were compressed), or as handlers changed them.
    pub body: Bytes,
    pub content_type: Option<String>,
    /// Where it was published, if that is known.
    pub exchange: Option<String>,
    pub routing_key: Option<String>,
    pub trace: Trace,
}

impl DeadLetter {
    /// The dead letter of a whole message that no handler has run for. A replay makes a new plan. `run_id` is the
    /// identity of the message, if it has one.
    pub fn of_whole(
        reason: Reason,
        error: &str,
        event_name: &str,
        run_id: Option<String>,
        body: &[u8],
        died_at: Timestamp,
    ) -> Self {
        // The id includes the name: the same message id on another routing key must give another dead letter.
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

/// The id of a dead letter. It is derived: if a worker crashes between publishing the dead letter and acknowledging
/// the event, the second publish has the same id and makes no second dead letter.
pub fn dead_letter_id(run_id: &str, handler: Option<HandlerId>, reason: Reason, body: &[u8]) -> Uuid {
    let handler = handler.map(|id| id.to_string()).unwrap_or_default();
    id_of(&["dead-letter", run_id, &handler, reason.as_str()], body)
}

/// `error` on one line, cut to [`MAX_ERROR_BYTES`].
pub fn header_error(error: &str) -> String {
    let mut line = error.replace(char::is_control, " ");
    line.truncate(line.floor_char_boundary(MAX_ERROR_BYTES));
    line
}
