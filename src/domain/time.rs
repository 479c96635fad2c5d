//! Parses times and durations that people and programs write: one syntax everywhere.

use std::{fmt, time::Duration};

use jiff::{
    Timestamp,
    civil::{Date, DateTime, Time},
    tz::Offset,
};

/// Earlier years are written with a sign, which no reader of these times accepts.
const YEAR_0: Timestamp = Timestamp::constant(-62_167_219_200, 0);

/// Why a text is not a time.
#[derive(Debug, thiserror::Error)]
pub struct InvalidMoment(String);

impl fmt::Display for InvalidMoment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A parsed day, with its time and zone if the text has them.
struct Written {
    datetime: DateTime,
    has_time: bool,
    zone: Option<Offset>,
}

/// Parses a day (its beginning), a time (UTC if it has no zone), or an age such as `2h`, counted back from `now`.
///
/// # Errors
/// Says which part of the text is not understood. Nothing is ignored: a wrong time is worse than an error.
pub fn parse_moment(text: &str, now: Timestamp) -> Result<Timestamp, InvalidMoment> {
    let invalid = |why: &str| {
        let forms =
            "a day (2026-01-31), a day and time (2026-01-31T12:00:00Z; UTC if it has no zone) or an age (2h)";
        InvalidMoment(format!("{text:?} is not a valid time: {why}; allowed is {forms}"))
    };
    if starts_with_a_year(text) {
        let written = read(text).map_err(invalid)?;
        return timestamp(&written).map_err(invalid);
    }
    if has_capital_m(text) {
        return Err(invalid("the unit M is neither minutes (5m) nor months (5months)"));
    }
    // humantime accepts a bare 0.
    let age = parse_duration(text).filter(|_| !text.bytes().all(|b| b.is_ascii_digit()));
    let age: Duration = age.ok_or_else(|| invalid("its form is unknown"))?;
    now.checked_sub(age).map_err(|_| invalid("it is too long ago"))
}

/// Parses a number with its unit, such as `30s`, or several of them.
pub fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|_| !has_capital_m(text))
}

/// Whether a unit is the letter M. humantime reads it as months, so a wrong shift key would turn minutes into months.
fn has_capital_m(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphabetic()).any(|unit| unit == "M")
}

/// Parses a time with a zone, as events have it: RFC 3339, and the forms of ISO 8601 with the same meaning.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_zoned(text: &str) -> Result<Timestamp, &'static str> {
    let written = read(text)?;
    match written {
        Written { has_time: false, .. } => Err("it is a day without a time"),
        Written { zone: None, .. } => Err("it has no zone, such as Z or +00:00"),
        written => timestamp(&written),
    }
}

/// The timestamp of `written`. A later time than the latest that can be stored becomes that one: 9999-12-31 stands
/// for "never".
fn timestamp(written: &Written) -> Result<Timestamp, &'static str> {
    let offset = written.zone.unwrap_or(Offset::UTC);
    let time = offset.to_timestamp(written.datetime).unwrap_or(Timestamp::MAX);
    if time < YEAR_0 { Err("in UTC it is before the year 0") } else { Ok(time) }
}

fn starts_with_a_year(text: &str) -> bool {
    text.len() > 4
        && text.bytes().take(4).all(|b| b.is_ascii_digit())
        && text.as_bytes().get(4) == Some(&b'-')
}

fn read(text: &str) -> Result<Written, &'static str> {
    let (date, rest) = split(text, "0000-00-00").ok_or("a day must have the form 2026-01-31")?;
    let date: Date = date.parse().map_err(|_| "there is no such day")?;
    if rest.is_empty() {
        return Ok(Written { datetime: date.into(), has_time: false, zone: None });
    }
    let rest = rest.strip_prefix(['T', 't', ' ']).ok_or("a T must separate the day and the time")?;
    let (minutes, rest) = split(rest, "00:00").ok_or("a time must have the form 12:00:00")?;
    let (seconds, rest) = split(rest, ":00").unwrap_or(("", rest));
    let (fraction, zone) = fraction(rest)?;
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i8>().ok()).unwrap_or_default();
    let second = number(seconds.get(1..));
    // A leap second counts as the second before it.
    let second = if second == 60 { 59 } else { second };
    let time = Time::new(number(minutes.get(..2)), number(minutes.get(3..)), second, fraction);
    let time = time.map_err(|_| "there is no such time of day")?;
    Ok(Written { datetime: date.to_datetime(time), has_time: true, zone: offset(zone)? })
}

/// The fraction in nanoseconds, and the rest of the text. Digits after the ninth are ignored.
fn fraction(text: &str) -> Result<(i32, &str), &'static str> {
    let Some(digits) = text.strip_prefix(['.', ',']) else { return Ok((0, text)) };
    let rest = digits.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = digits.get(..digits.len() - rest.len()).filter(|digits| !digits.is_empty());
    let digits = digits.ok_or("there are no digits after the decimal point of the seconds")?;
    let nanoseconds = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    Ok((nanoseconds.fold(0, |number, digit| number * 10 + i32::from(digit - b'0')), rest))
}

fn offset(zone: &str) -> Result<Option<Offset>, &'static str> {
    const WRONG: &str = "a zone must be Z, or an offset from UTC such as +02:00";
    if zone.is_empty() {
        return Ok(None);
    }
    if matches!(zone, "Z" | "z" | " UTC" | "UTC" | " Z") {
        return Ok(Some(Offset::UTC));
    }
    let shape =
        ["+00:00", "+0000", "+00"].into_iter().find(|shape| is_like(&zone.replace(['-', '−'], "+"), shape));
    shape.ok_or(WRONG)?;
    let digits: String = zone.chars().filter(char::is_ascii_digit).collect();
    let part = |range| digits.get(range).and_then(|part: &str| part.parse::<i32>().ok()).unwrap_or_default();
    let (hours, minutes) = (part(0..2), part(2..4));
    if hours > 23 || minutes > 59 {
        return Err(WRONG);
    }
    let seconds = (hours * 60 + minutes) * 60;
    Offset::from_seconds(if zone.starts_with('+') { seconds } else { -seconds }).map(Some).map_err(|_| WRONG)
}

/// Splits `text` after a beginning that matches `pattern`.
fn split<'a>(text: &'a str, pattern: &str) -> Option<(&'a str, &'a str)> {
    text.split_at_checked(pattern.len()).filter(|(start, _)| is_like(start, pattern))
}

/// Whether `text` is `pattern` with any digit for each 0.
fn is_like(text: &str, pattern: &str) -> bool {
    text.len() == pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(b, p)| if p == b'0' { b.is_ascii_digit() } else { b == p })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().expect("a time")
    }

    #[test]
    fn moments_are_days_times_or_ages() {
        for (text, expected) in [
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("2026-01-31T12:00:00+01:00", "2026-01-31T11:00:00Z"),
            ("2h", "2026-03-01T10:00:00Z"),
            ("1h 30m", "2026-03-01T10:30:00Z"),
            ("1month", "2026-01-30T01:26:24Z"),
            ("0000-01-01", "0000-01-01T00:00:00Z"),
            ("2026-11-28T23:00:00", "2026-11-28T23:00:00Z"),
            ("2026-11-28T23:00", "2026-11-28T23:00:00Z"),
            ("2026-11-28 23:00:00", "2026-11-28T23:00:00Z"),
            ("2026-11-28 23:00:00 UTC", "2026-11-28T23:00:00Z"),
            ("2026-11-28t23:00:00.5z", "2026-11-28T23:00:00.5Z"),
            ("2026-11-28T23:00:00,123456789123", "2026-11-28T23:00:00.123456789Z"),
            ("2026-11-28T23:00:00-0130", "2026-11-29T00:30:00Z"),
            ("2026-11-28T23:00:00+05", "2026-11-28T18:00:00Z"),
            ("2026-11-28T23:59:60Z", "2026-11-28T23:59:59Z"),
            ("9999-12-31", "9999-12-30T22:00:00.999999999Z"),
        ] {
            assert_eq!(parse_moment(text, now()).expect(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn an_invalid_time_is_rejected() {
        for (text, why) in [
            ("soon", "its form is unknown"),
            ("", "its form is unknown"),
            ("0", "its form is unknown"),
            ("20260131", "its form is unknown"),
            ("-2h", "its form is unknown"),
            ("99999999999y", "it is too long ago"),
            ("15000y", "it is too long ago"),
            ("2026-13-01", "no such day"),
            ("2026-02-30T00:00:00Z", "no such day"),
            ("2026-1-1", "a day must have the form"),
            ("2026-W05-1", "a day must have the form"),
            ("2026-01-31T", "a time must have the form"),
            ("2026-01-31T25:00", "no such time"),
            ("2026-01-31T12:60", "no such time"),
            ("2026-01-31T12", "a time must have the form"),
            ("2026-01-31T12:00:00.", "no digits after the decimal point"),
            ("2026-01-31T12:00:00 CET", "a zone must be"),
            ("2026-01-31T12:00:00Z[Europe/Berlin]", "a zone must be"),
            ("2026-01-31T12:00:00+25:00", "a zone must be"),
            ("2026-01-31_12:00:00", "a T must separate"),
            ("2026-01-31 ", "a time must have the form"),
            ("1M", "M is neither minutes (5m) nor months (5months)"),
            ("1h 30M", "M is neither"),
            ("0000-01-01T00:00:00+00:01", "before the year 0"),
        ] {
            let error = parse_moment(text, now()).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn an_event_says_its_zone() {
        for good in [
            "2026-01-01T00:00:00Z",
            "2026-01-01t00:00:00.123456z",
            "2026-12-31T23:59:60-23:59",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00+0000",
            "2026-01-01T00:00:00.1234567890123Z",
            "9999-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z",
        ] {
            assert!(parse_zoned(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("2026-01-01", "a day without a time"),
            ("2026-01-01T00:00:00", "no zone"),
            ("2026-01-01T00:00:00Z[UTC]", "a zone must be"),
            ("-009000-01-01T00:00:00Z", "a day must have the form"),
            ("2026-13-01T00:00:00Z", "no such day"),
            ("２026-01-01T00:00:00Z", "a day must have the form"),
            ("1767225600", "a day must have the form"),
            ("", "a day must have the form"),
            ("0000-01-01T00:00:00+23:59", "before the year 0"),
        ] {
            assert!(parse_zoned(bad).expect_err(bad).contains(why), "{bad}");
        }
    }
}
