//! A handler: on this event run this task, at this priority.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{event::EventName, retry::RetryOverrides, task::Task, text_enum::text_enum};

/// Given by the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HandlerId(pub i64);

impl fmt::Display for HandlerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for HandlerId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    pub timeout: Option<Timeout>,
    /// What differs from the configured retries.
    #[serde(default, skip_serializing_if = "RetryOverrides::is_empty")]
    pub retry: RetryOverrides,
    /// Attempts at a time, per worker.
    #[serde(default)]
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
    Status {
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

/// Why a field of a handler is refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidField(&'static str);

/// 1 to 200 characters, none of them a control character.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HandlerName(String);

impl HandlerName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HandlerName {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if (1..=200).contains(&text.chars().count()) && !text.contains(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidField("a name has 1 to 200 characters, none of them a control character"))
        }
    }
}

impl TryFrom<String> for HandlerName {
    type Error = InvalidField;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HandlerName> for String {
    fn from(name: HandlerName) -> Self {
        name.0
    }
}

impl fmt::Display for HandlerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 1 goes first; equal priorities run by handler id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Priority(i32);

impl Default for Priority {
    fn default() -> Self {
        Self(100)
    }
}

impl TryFrom<i32> for Priority {
    type Error = InvalidField;

    fn try_from(value: i32) -> Result<Self, Self::Error> {
        if value >= 1 { Ok(Self(value)) } else { Err(InvalidField("a priority is 1 or more; 1 goes first")) }
    }
}

impl From<Priority> for i32 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

impl FromStr for Priority {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let value: i32 = text.parse().map_err(|_| InvalidField("a priority is a whole number, 1 or more"))?;
        Self::try_from(value)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How long one attempt may take: 1 ms to 10 minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "humantime_serde::Serde<Duration>", into = "humantime_serde::Serde<Duration>")]
pub struct Timeout(Duration);

impl Timeout {
    pub const MAX: Duration = Duration::from_mins(10);

    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<Duration> for Timeout {
    type Error = InvalidField;

    fn try_from(duration: Duration) -> Result<Self, Self::Error> {
        if (Duration::from_millis(1)..=Self::MAX).contains(&duration) {
            // The database keeps milliseconds; nobody means less.
            Ok(Self(Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))))
        } else {
            Err(InvalidField("a timeout is 1ms to 10m"))
        }
    }
}

impl TryFrom<humantime_serde::Serde<Duration>> for Timeout {
    type Error = InvalidField;

    fn try_from(duration: humantime_serde::Serde<Duration>) -> Result<Self, Self::Error> {
        Self::try_from(duration.into_inner())
    }
}

impl From<Timeout> for humantime_serde::Serde<Duration> {
    fn from(timeout: Timeout) -> Self {
        timeout.0.into()
    }
}

impl FromStr for Timeout {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let duration = humantime::parse_duration(text)
            .map_err(|_| InvalidField("a timeout is a number with a unit, such as 500ms, 30s or 2m"))?;
        Self::try_from(duration)
    }
}
