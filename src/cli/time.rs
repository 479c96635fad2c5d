//! Times and ids as people type them.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use uuid::Uuid;

/// A day (its beginning, UTC), an RFC 3339 time, or an age such as `2h`.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(day) = text.parse::<Date>() {
        return day.to_zoned(TimeZone::UTC).map(|day| day.timestamp()).map_err(|e| e.to_string());
    }
    let age = humantime::parse_duration(text).map_err(|_| {
        "a time is a day (2026-01-31), RFC 3339 (2026-01-31T12:00:00Z) or an age (2h)".to_owned()
    })?;
    Timestamp::now().checked_sub(age).map_err(|e| e.to_string())
}

/// A duration with its unit.
pub(super) fn parse_duration(text: &str) -> Result<std::time::Duration, &'static str> {
    humantime::parse_duration(text).map_err(|_| "a number with a unit, such as 500ms, 30s or 24h")
}

/// The id of an execution or of a dead letter.
pub(super) fn parse_id(text: &str) -> Result<Uuid, &'static str> {
    text.parse().map_err(|_| "an id is 36 characters, such as 01a1ff9b-d1e1-778b-bea4-29f1f6b45403")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_days_moments_or_ages() {
        assert_eq!(parse_time("2026-01-31").expect("a day").to_string(), "2026-01-31T00:00:00Z");
        assert_eq!(
            parse_time("2026-01-31T12:00:00+01:00").expect("a time").to_string(),
            "2026-01-31T11:00:00Z"
        );
        assert!(parse_time("2h").expect("an age") < Timestamp::now());
        assert!(parse_time("soon").is_err());
    }
}
