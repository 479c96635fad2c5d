//! A handler: for this event type, run this task, at this priority.

mod fields;
mod settings;
mod versions;

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use fields::{HandlerName, InvalidField, Priority, Timeout};
pub use settings::{SETTINGS, Setting, SettingGroup, SettingKind};
pub use versions::HandlerVersions;

use super::{
    event::EventName,
    retry::{RetryOverrides, RetryPolicy},
    task::{Task, TaskType},
    text_enum::text_enum,
};

/// The id of a handler. The database assigns it.
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
        text.parse().map(Self).map_err(|_| InvalidField("a handler id must be a number"))
    }
}

/// A handler as it is stored.
#[derive(Clone, Debug, Serialize)]
pub struct Handler {
    pub id: HandlerId,
    #[serde(flatten)]
    pub spec: HandlerSpec,
    /// Whether requests are signed. The secret itself is never shown after it was set.
    pub signed: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// For optimistic locking: an update that names an older version is rejected.
    pub version: i64,
}

/// The part of a handler that operators set.
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
    /// Maximum duration of one attempt. Absent: the default of the task type.
    #[serde(default)]
    #[schema(example = "30s")]
    pub timeout: Option<Timeout>,
    /// Values that differ from the configured retry schedule.
    #[serde(default)]
    pub retry: RetryOverrides,
    /// Maximum number of concurrent attempts in each worker.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 4_294_967_295_i64)]
    pub max_concurrency: Option<NonZeroU32>,
}

impl HandlerSpec {
    /// A handler whose settings have their defaults.
    pub fn new(name: HandlerName, event: EventName, task: Task) -> Self {
        Self {
            name,
            event,
            task,
            status: Status::default(),
            priority: Priority::default(),
            mode: Mode::default(),
            on_failure: OnFailure::default(),
            timeout: None,
            retry: RetryOverrides::default(),
            max_concurrency: None,
        }
    }

    /// A handler to check settings with, while its name, event type or task are not known.
    #[expect(clippy::expect_used, reason = "the texts are constant")]
    pub fn blank() -> Self {
        let known = "the texts are valid";
        let task = Task::Script { path: "x".parse().expect(known), args: Vec::new() };
        Self::new("x".parse().expect(known), "x".parse().expect(known), task)
    }

    /// What happens to the rest of the plan if this handler fails. The handlers after an `intercept` handler always
    /// wait for it, because it decides about the event.
    pub const fn on_failure(&self) -> OnFailure {
        match self.mode {
            Mode::Intercept => OnFailure::Halt,
            Mode::Notify => self.on_failure,
        }
    }
}

/// The configured values for handlers that have none of their own.
#[derive(Clone, Debug)]
pub struct HandlerDefaults {
    pub retry: RetryPolicy,
    pub http_timeout: Duration,
    pub script_timeout: Duration,
}

impl HandlerDefaults {
    pub const fn timeout(&self, kind: TaskType) -> Duration {
        match kind {
            TaskType::Http => self.http_timeout,
            TaskType::Script => self.script_timeout,
        }
    }

    /// The timeout of one attempt of the handler.
    pub fn timeout_of(&self, spec: &HandlerSpec) -> Duration {
        spec.timeout.map_or_else(|| self.timeout(spec.task.kind()), Timeout::duration)
    }

    /// The retry schedule of the handler.
    pub fn retry_of(&self, spec: &HandlerSpec) -> RetryPolicy {
        self.retry.with(&spec.retry)
    }
}

text_enum! {
    /// Whether a handler runs.
    #[derive(Default)]
    Status as HandlerStatus {
        #[default]
        Enabled = "enabled",
        Disabled = "disabled",
        /// Does not run and is not listed, but is kept.
        Archived = "archived",
    }
}

text_enum! {
    /// Whether a handler's answer can change or forbid the event.
    #[derive(Default)]
    Mode {
        #[default]
        Notify = "notify",
        Intercept = "intercept",
    }
}

text_enum! {
    /// What happens to the handlers after a failed one.
    #[derive(Default)]
    OnFailure {
        /// They run; only the failed handler is retried.
        #[default]
        Continue = "continue",
        /// They wait until the failed handler has succeeded.
        Halt = "halt",
    }
}
