//! A moment as people write it.

use std::{fmt, time::Duration};

use jiff::{Timestamp, civil::Date, tz::TimeZone};

/// Why a text is no moment.
#[derive(Debug, thiserror::Error)]
pub struct InvalidMoment(String);

impl fmt::Display for InvalidMoment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A day (its beginning, UTC), an RFC 3339 time, or an age such as `2h`, counted from `now`.
pub fn parse_moment(text: &str, now: Timestamp) -> Result<Timestamp, InvalidMoment> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(day) = text.parse::<Date>() {
        let day = day.to_zoned(TimeZone::UTC).map(|day| day.timestamp());
        return day.map_err(|e| InvalidMoment(e.to_string()));
    }
    // humantime takes a bare 0.
    let form = "a time is a day (2026-01-31), RFC 3339 (2026-01-31T12:00:00Z) or an age (2h)";
    let age = humantime::parse_duration(text).ok().filter(|_| !text.bytes().all(|b| b.is_ascii_digit()));
    let age: Duration = age.ok_or_else(|| InvalidMoment(form.to_owned()))?;
    now.checked_sub(age).map_err(|e| InvalidMoment(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_days_times_or_ages() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().expect("a time");
        for (text, meant) in [
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("2026-01-31T12:00:00+01:00", "2026-01-31T11:00:00Z"),
            ("2h", "2026-03-01T10:00:00Z"),
        ] {
            assert_eq!(parse_moment(text, now).expect(text).to_string(), meant);
        }
        for bad in ["soon", "", "0", "2026-13-01", "99999999999y"] {
            assert!(parse_moment(bad, now).is_err(), "{bad}");
        }
    }
}
