//! Parses times, durations and ids from the command line.

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::time::{self, parse_moment};

/// A day, a time or an age; see [`parse_moment`].
pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    parse_moment(text, Timestamp::now()).map_err(|e| e.to_string())
}

/// A number with a unit, such as `30s`.
pub(super) fn parse_duration(text: &str) -> Result<std::time::Duration, &'static str> {
    time::parse_duration(text).ok_or("must be a number with a unit, such as 500ms, 30s or 24h")
}

/// The id of an execution or of a dead letter.
pub(super) fn parse_id(text: &str) -> Result<Uuid, &'static str> {
    text.parse().map_err(|_| "an id is 36 characters, such as 01a1ff9b-d1e1-778b-bea4-29f1f6b45403")
}
