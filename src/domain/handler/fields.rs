//! The types of a handler's fields. A value that exists is valid.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::domain::time::parse_duration;

/// Why a field of a handler is rejected.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidField(pub(super) &'static str);

/// The name of a handler: 1 to 200 characters, none of them a control character.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 200, pattern = r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$", example = "CRM")]
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
            Err(InvalidField("a name must have 1 to 200 characters, none of them a control character"))
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

/// The run order: 1 runs first, and equal priorities run by handler id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "i32", into = "i32")]
#[schema(value_type = i32, minimum = 1, default = 100, example = 1)]
pub struct Priority(i32);

impl Default for Priority {
    fn default() -> Self {
        Self(100)
    }
}

impl TryFrom<i32> for Priority {
    type Error = InvalidField;

    fn try_from(value: i32) -> Result<Self, Self::Error> {
        if value >= 1 {
            Ok(Self(value))
        } else {
            Err(InvalidField("a priority must be 1 or more; 1 runs first"))
        }
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
        let value: i32 =
            text.parse().map_err(|_| InvalidField("a priority must be a whole number, 1 or more"))?;
        Self::try_from(value)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Timeout of one attempt: 1 ms to 10 minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "humantime_serde::Serde<Duration>", into = "humantime_serde::Serde<Duration>")]
#[schema(value_type = String, pattern = "^([1-9][0-9]{0,3}ms|[1-9][0-9]{0,1}s|[1-9]m|10m)$", example = "30s")]
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
            // The database stores milliseconds, so smaller parts are dropped.
            Ok(Self(Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))))
        } else {
            Err(InvalidField("a timeout must be 1ms to 10m"))
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
        let duration = parse_duration(text)
            .ok_or(InvalidField("a timeout must be a number with a unit, such as 500ms, 30s or 2m"))?;
        Self::try_from(duration)
    }
}
