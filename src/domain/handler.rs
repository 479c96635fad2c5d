//! A handler: on this event run this task, at this priority.

mod fields;
mod versions;

use std::{fmt, num::NonZeroU32, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use fields::{HandlerName, InvalidField, Priority, Timeout};
pub use versions::HandlerVersions;

use super::{event::EventName, retry::RetryOverrides, task::Task, text_enum::text_enum};

/// Given by the database.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(transparent)]
pub struct HandlerId(pub i64);

impl fmt::Display for HandlerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for HandlerId {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| InvalidField("a handler's id is a number"))
    }
}

/// A rule as it is stored.
#[derive(Clone, Debug, Serialize)]
pub struct Handler {
    pub id: HandlerId,
    #[serde(flatten)]
    pub spec: HandlerSpec,
    /// Whether requests are signed. The secret itself is never shown after it was set.
    pub signed: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// The optimistic lock: an update that names an older version is refused.
    pub version: i64,
}

/// What an operator decides about a handler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HandlerSpec {
    pub name: HandlerName,
    pub event: EventName,
    pub task: Task,
    #[serde(default)]
    pub status: Status,
    #[serde(default)]
    pub priority: Priority,
    #[serde(default)]
    pub mode: Mode,
    #[serde(default)]
    pub on_failure: OnFailure,
    /// The longest one attempt may take; none: the default of its task type.
    #[serde(default)]
    #[schema(example = "30s")]
    pub timeout: Option<Timeout>,
    /// What differs from the configured retries.
    #[serde(default)]
    pub retry: RetryOverrides,
    /// Attempts at a time, per worker.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 4_294_967_295_i64)]
    pub max_concurrency: Option<NonZeroU32>,
}

impl HandlerSpec {
    /// What happens to the rest of the plan when this handler fails: an `intercept` handler decides
    /// over those after it, so they always wait for it.
    pub const fn on_failure(&self) -> OnFailure {
        match self.mode {
            Mode::Intercept => OnFailure::Halt,
            Mode::Notify => self.on_failure,
        }
    }
}

text_enum! {
    /// Whether a handler takes part.
    #[derive(Default)]
    Status as HandlerStatus {
        #[default]
        Enabled = "enabled",
        Disabled = "disabled",
        /// Out of use and out of the lists, but kept.
        Archived = "archived",
    }
}

text_enum! {
    /// Whether a handler's answer may change or forbid the event.
    #[derive(Default)]
    Mode {
        #[default]
        Notify = "notify",
        Intercept = "intercept",
    }
}

text_enum! {
    /// What a failed attempt means for the handlers after it.
    #[derive(Default)]
    OnFailure {
        /// They run; the failed one is retried alone.
        #[default]
        Continue = "continue",
        /// They wait until it succeeded.
        Halt = "halt",
    }
}
