//! The record of one attempt. The message on `P.results` and the row in the database have the same content.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    event::{Event, EventId, EventName, RunId},
    handler::{Handler, HandlerId, HandlerName, Mode, Priority},
    outcome::Response,
    task::TaskType,
    text_enum::text_enum,
};

text_enum! {
    /// The result in short: succeeded, failed or skipped.
    Status as ExecutionStatus { Success = "success", Fail = "fail", Skipped = "skipped" }
}

text_enum! {
    /// What happened to the handler for this event.
    Disposition {
        Done = "done",
        /// The handler forbade the event.
        Forbidden = "forbidden",
        /// The attempt failed or was deferred; a copy waits for the next attempt.
        Retrying = "retrying",
        /// The handler was given up; there is a dead letter.
        DeadLettered = "dead_lettered",
        /// The planned handler is now disabled, archived, deleted or moved to another event type.
        HandlerOff = "handler_off",
        /// A handler before this one forbade the event.
        NotReached = "not_reached",
        /// No handler was enabled for the event.
        NoHandler = "no_handler",
        /// The event was published before.
        Duplicate = "duplicate",
        /// The event ran, but its `reply_to` names a queue of provisiond.
        NotAnswered = "not_answered",
    }
}

impl Disposition {
    pub const fn status(self) -> Status {
        match self {
            Self::Done | Self::Forbidden => Status::Success,
            Self::Retrying | Self::DeadLettered => Status::Fail,
            Self::HandlerOff | Self::NotReached | Self::NoHandler | Self::Duplicate | Self::NotAnswered => {
                Status::Skipped
            }
        }
    }
}

/// One attempt, or one handler that was skipped.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Execution {
    /// A UUIDv7, unique for each execution.
    pub id: Uuid,
    pub event: EventRef,
    pub run_id: RunId,
    /// Absent if the record is about the event and not about a handler (`no_handler`, `duplicate`, `not_answered`).
    pub handler: Option<HandlerRef>,
    /// The number of the attempt. `handler_off` has the number of the planned attempt; other skipped records have 0.
    pub attempt: u32,
    pub max_attempts: u32,
    pub status: Status,
    pub disposition: Disposition,
    /// What went wrong and why, on one line.
    pub error: Option<String>,
    /// The body that was sent (or would have been sent), byte for byte.
    #[schema(value_type = Object)]
    pub request: Box<RawValue>,
    pub response: Option<Response>,
    /// Whether this handler changed the event for the handlers after it.
    pub modified: bool,
    /// When the next attempt is due.
    pub retry_at: Option<Timestamp>,
    pub started_at: Timestamp,
    pub duration_ms: u64,
    pub worker: WorkerId,
    pub trace_id: Option<String>,
}

/// The event of an execution.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventRef {
    pub id: EventId,
    pub name: EventName,
    pub object_id: String,
    pub dt: Timestamp,
}

/// The handler as it was at the time of the attempt.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HandlerRef {
    pub id: HandlerId,
    /// Absent if only the id is known, because the handler was deleted before it could run.
    pub name: Option<HandlerName>,
    pub priority: Option<Priority>,
    pub mode: Option<Mode>,
    pub task: Option<TaskRef>,
}

/// What was called, without parts that may be secret.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TaskRef {
    #[serde(rename = "type")]
    pub kind: TaskType,
    /// The URL or the script path.
    pub target: String,
}

impl TaskRef {
    /// Masks the parts of the target that may be secret.
    pub fn mask(&mut self) {
        self.target = self.kind.masked_target(&self.target);
    }
}

/// The worker process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WorkerId {
    pub host: String,
    pub pid: u32,
    pub version: String,
}

impl From<&Event> for EventRef {
    fn from(event: &Event) -> Self {
        Self {
            id: event.id.clone(),
            name: event.name.clone(),
            object_id: event.object_id.clone(),
            dt: event.dt,
        }
    }
}

impl From<&Handler> for HandlerRef {
    fn from(handler: &Handler) -> Self {
        let spec = &handler.spec;
        Self {
            id: handler.id,
            name: Some(spec.name.clone()),
            priority: Some(spec.priority),
            mode: Some(spec.mode),
            task: Some(TaskRef { kind: spec.task.kind(), target: spec.task.target().to_owned() }),
        }
    }
}
