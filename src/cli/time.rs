//! Times as people type them.

use jiff::{Timestamp, civil::Date, tz::TimeZone};

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
