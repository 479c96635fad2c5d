//! Converts raw values to numbers, durations, sizes and enumerations. Errors say what is allowed.

use std::{fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use ::config::{FileFormat, Format, Value, ValueKind};

use crate::domain::{handler::Timeout, time::parse_duration};

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const TIB: u64 = 1 << 40;

/// Converts the text of an environment variable to the type of the key's default. If that fails, it stays a text.
pub(super) fn from_text(text: &str, default: &ValueKind) -> ValueKind {
    let trimmed = text.trim();
    let typed = match default {
        ValueKind::Boolean(_) => trimmed.parse().map(ValueKind::Boolean).ok(),
        ValueKind::I64(_) => trimmed.parse().map(ValueKind::I64).ok(),
        ValueKind::Float(_) => trimmed.parse().map(ValueKind::Float).ok(),
        _ => None,
    };
    // A secret file, a shell's $(cat …) or an editor leaves a newline at the end.
    typed.unwrap_or_else(|| ValueKind::String(trimmed.to_owned()))
}

pub(super) fn to_json(value: &Value) -> serde_json::Value {
    match &value.kind {
        ValueKind::Boolean(flag) => (*flag).into(),
        ValueKind::I64(number) => (*number).into(),
        ValueKind::Float(number) => (*number).into(),
        ValueKind::Array(values) => values.iter().map(to_json).collect(),
        other => other.to_string().into(),
    }
}

pub(super) fn flag(value: &Value) -> Result<bool, String> {
    match value.kind {
        ValueKind::Boolean(flag) => Ok(flag),
        _ => Err(format!("must be true or false, not {}", excerpt(value))),
    }
}

pub(super) fn integer<T>(allowed: RangeInclusive<T>) -> impl Fn(&Value) -> Result<T, String>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    move |value| {
        let number = match value.kind {
            ValueKind::I64(number) => T::try_from(number).ok(),
            _ => None,
        };
        number.filter(|n| allowed.contains(n)).ok_or_else(|| {
            format!(
                "must be a whole number, {} to {}, not {}",
                allowed.start(),
                allowed.end(),
                excerpt(value)
            )
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "2.0 written as 2; no key takes a number near 2^53")]
pub(super) fn number(value: &Value) -> Result<f64, String> {
    match value.kind {
        ValueKind::Float(number) => Ok(number),
        ValueKind::I64(number) => Ok(number as f64),
        _ => Err(format!("must be a number, not {}", excerpt(value))),
    }
}

pub(super) fn duration(allowed: RangeInclusive<Duration>) -> impl Fn(&Value) -> Result<Duration, String> {
    move |value| {
        let duration = any_duration(value)?;
        if allowed.contains(&duration) {
            return Ok(duration);
        }
        let [from, to] = [allowed.start(), allowed.end()].map(|d| humantime::format_duration(*d));
        Err(format!("must be {from} to {to}, not {}", excerpt(value)))
    }
}

pub(super) fn any_duration(value: &Value) -> Result<Duration, String> {
    let unit = "must be a number with a unit, such as 500ms, 30s or 5m";
    let ValueKind::String(text) = &value.kind else { return Err(format!("{unit}, not {}", excerpt(value))) };
    // humantime accepts a bare 0, and more units than the error lists.
    match parse_duration(text) {
        Some(duration) if !text.bytes().all(|b| b.is_ascii_digit()) => Ok(duration),
        _ => Err(format!("{unit}, not {}", excerpt(value))),
    }
}

pub(super) fn timeout(value: &Value) -> Result<Timeout, String> {
    let duration = any_duration(value)?;
    Timeout::try_from(duration).map_err(|_| format!("must be 1ms to 10m, not {}", excerpt(value)))
}

/// A size in bytes.
pub(super) fn size(allowed: RangeInclusive<u64>) -> impl Fn(&Value) -> Result<u64, String> {
    move |value| {
        let size = match &value.kind {
            ValueKind::I64(bytes) => u64::try_from(*bytes).ok(),
            ValueKind::String(text) => parse_size(text),
            _ => None,
        };
        size.filter(|bytes| allowed.contains(bytes)).ok_or_else(|| {
            let [from, to] = [allowed.start(), allowed.end()].map(|bytes| format_size(*bytes));
            format!("must be a size, {from} to {to}, such as 64KiB or 1MiB, not {}", excerpt(value))
        })
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let unit: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

fn format_size(bytes: u64) -> String {
    [("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes >= 1 << shift && bytes.trailing_zeros() >= *shift)
        .map_or_else(|| bytes.to_string(), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

/// `None` for the word or number `none`, else the result of `parse`.
pub(super) fn none_or<T>(
    none: &'static str,
    parse: impl Fn(&Value) -> Result<T, String>,
) -> impl Fn(&Value) -> Result<Option<T>, String> {
    move |value| match &value.kind {
        ValueKind::I64(_) | ValueKind::String(_) if value.kind.to_string() == none => Ok(None),
        _ => parse(value).map(Some).map_err(|problem| format!("{problem}; {none} for none")),
    }
}

/// `None` for `""`, else the result of `parse`.
pub(super) fn text_or_none<T>(
    parse: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(&Value) -> Result<Option<T>, String> {
    move |value| match text(value)? {
        "" => Ok(None),
        text => parse(text).map(Some),
    }
}

pub(super) fn path_or_none(value: &Value) -> Result<Option<PathBuf>, String> {
    text_or_none(|text| Ok(PathBuf::from(text)))(value)
}

/// One of the words of an enumeration.
pub(super) fn word<T: FromStr<Err: Display>>(value: &Value) -> Result<T, String> {
    text(value)?.parse().map_err(|e: T::Err| e.to_string())
}

/// The text without leading and trailing white space. Errors never repeat the value, because it may be secret.
pub(super) fn text(value: &Value) -> Result<&str, String> {
    match &value.kind {
        ValueKind::String(text) => Ok(text.trim()),
        _ => Err("must be text, in quotes".into()),
    }
}

/// A list, each entry read by `parse`: an array, a text that contains a TOML array, or a text with commas.
pub(super) fn list<T>(
    parse: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(&Value) -> Result<Vec<T>, String> {
    move |value| texts(value)?.iter().map(|entry| parse(entry)).collect()
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    let not_a_list = || "must be a list of texts, such as [\"a\", \"b\"]".to_owned();
    match &value.kind {
        ValueKind::Array(values) => {
            let entry = |value: &Value| match &value.kind {
                ValueKind::String(text) => Ok(text.clone()),
                _ => Err(not_a_list()),
            };
            values.iter().map(entry).collect()
        }
        ValueKind::String(text) if text.trim_start().starts_with('[') => {
            let table = FileFormat::Toml.parse(None, &format!("list = {text}")).map_err(|_| not_a_list())?;
            table.get("list").map_or_else(|| Err(not_a_list()), texts)
        }
        ValueKind::String(text) => {
            Ok(text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect())
        }
        _ => Err(not_a_list()),
    }
}

/// The rejected value, short enough for one line. Use it only for keys that hold no secret.
fn excerpt(value: &Value) -> String {
    match &value.kind {
        ValueKind::Array(_) => "a list".into(),
        _ => to_json(value).to_string().chars().take(60).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_value(text: &str) -> Value {
        Value::new(None, text)
    }

    #[test]
    fn sizes_have_units_of_both_kinds() {
        let any = size(0..=u64::MAX);
        for (text, bytes) in
            [("1MiB", 1 << 20), ("64 KiB", 65_536), ("2kB", 2_000), ("3GB", 3_000_000_000), ("7", 7)]
        {
            assert_eq!(any(&text_value(text)), Ok(bytes), "{text}");
        }
        for bad in ["", "MiB", "1M", "-1", "1.5MiB", "99999999999GiB", "1é"] {
            assert!(any(&text_value(bad)).is_err(), "{bad}");
        }
        assert_eq!([1 << 20, 1 << 33, 1_000, 0].map(format_size), ["1MiB", "8GiB", "1000", "0"]);
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, fine) in
            [("30s", true), ("1h 30m", true), ("0s", true), ("30", false), ("0", false), ("", false)]
        {
            assert_eq!(any_duration(&text_value(text)).is_ok(), fine, "{text:?}");
        }
        let error = any_duration(&Value::new(None, 30_i64)).expect_err("no unit");
        assert_eq!(error, "must be a number with a unit, such as 500ms, 30s or 5m, not 30");
    }

    #[test]
    fn a_list_is_an_array_or_a_text() {
        let entries = |value: &Value| list(|entry| Ok(entry.to_owned()))(value).expect("a list");
        assert_eq!(entries(&Value::new(None, vec!["a,b", "c"])), ["a,b", "c"]);
        assert_eq!(entries(&text_value(r#" ["a,b", 'c']"#)), ["a,b", "c"]);
        assert_eq!(entries(&text_value("a, b,")), ["a", "b"]);
        assert!(entries(&text_value("")).is_empty());
        for bad in ["[1]", "[\"a\"", "[[\"a\"]]"] {
            let error = list(|entry| Ok(entry.to_owned()))(&text_value(bad)).expect_err(bad);
            assert!(error.contains("[\"a\", \"b\"]"), "{bad}: {error}");
        }
    }
}
