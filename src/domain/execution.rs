//! The durable record of one attempt: the message on `P.results` and the row say the same.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    event::{Event, EventId, EventName, RunId},
    handler::{Handler, HandlerId, HandlerName, Mode, Priority},
    outcome::Response,
    task::{HttpTarget, TaskType},
    text_enum::text_enum,
};

text_enum! {
    /// What an operator looks at first.
    Status as ExecutionStatus { Success = "success", Fail = "fail", Skipped = "skipped" }
}

text_enum! {
    /// What became of the attempt.
    Disposition {
        Done = "done",
        /// The handler forbade the event.
        Forbidden = "forbidden",
        /// It failed, and a copy waits for the next attempt.
        Retrying = "retrying",
        /// It failed for good; there is a dead letter.
        DeadLettered = "dead_lettered",
        /// The planned handler is disabled, archived, deleted or moved to another event by now.
        HandlerOff = "handler_off",
        /// A handler before it forbade the event.
        NotReached = "not_reached",
        /// No handler was enabled for the event.
        NoHandler = "no_handler",
        /// The event was published twice.
        Duplicate = "duplicate",
        /// The publisher wants an answer where none may go.
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

/// One attempt, or one handler that was passed over.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Execution {
    /// A UUIDv7, unique to this attempt.
    pub id: Uuid,
    pub event: EventRef,
    pub run_id: RunId,
    /// Absent where no handler is concerned (`no_handler`, `duplicate`).
    pub handler: Option<HandlerRef>,
    /// 0 where nothing was attempted.
    pub attempt: u32,
    pub max_attempts: u32,
    pub status: Status,
    pub disposition: Disposition,
    /// One line that a person understands, with its cause.
    pub error: Option<String>,
    /// The body that was sent (or would have been), byte for byte.
    #[schema(value_type = Object)]
    pub request: Box<RawValue>,
    pub response: Option<Response>,
    /// Whether this handler changed the event for those after it.
    pub modified: bool,
    /// When the next attempt is due.
    pub retry_at: Option<Timestamp>,
    pub started_at: Timestamp,
    pub duration_ms: u64,
    pub worker: WorkerId,
    pub trace_id: Option<String>,
}

/// The event an execution belongs to.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventRef {
    pub id: EventId,
    pub name: EventName,
    pub object_id: String,
    pub dt: Timestamp,
}

/// The handler as it was when it ran.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HandlerRef {
    pub id: HandlerId,
    /// Absent where only the id is known: the handler was deleted before its turn.
    pub name: Option<HandlerName>,
    pub priority: Option<Priority>,
    pub mode: Option<Mode>,
    pub task: Option<TaskRef>,
}

/// What was called, without what may be secret.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TaskRef {
    #[serde(rename = "type")]
    pub kind: TaskType,
    /// The url or the path.
    pub target: String,
}

impl TaskRef {
    /// Takes out what a url may hold of secrets.
    pub fn mask(&mut self) {
        if self.kind == TaskType::Http {
            self.target = HttpTarget::masked(&self.target);
        }
    }
}

/// Which process did it.
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
