//! Formats times, durations, sizes and counts for people.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::handler::HandlerId;

/// A time in UTC, to the second. The page around it says that it is UTC.
pub fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A duration, such as `12 ms`, `3.4 s` or `2 m 5 s`.
pub fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1000 => format!("{milliseconds} ms"),
        1000..60_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        60_000..3_600_000 => format!("{} m {} s", milliseconds / 60_000, milliseconds % 60_000 / 1000),
        _ => format!("{} h {} m", milliseconds / 3_600_000, milliseconds % 3_600_000 / 60_000),
    }
}

/// How long ago a time was, in one unit.
pub fn ago(time: Timestamp) -> String {
    let seconds = Timestamp::now().duration_since(time).as_secs().max(0);
    match seconds {
        0..2 => "just now".to_owned(),
        2..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} m ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// A duration in the syntax of a form field: `1m 30s`.
pub fn typed(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A count and its noun, such as `1 call` or `12,345 calls`.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{} {many}", grouped(count)) }
}

/// A count with digits in groups of three, such as `1,234,567`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Converts a count from the database, which is signed there.
pub fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

/// A size in bytes, such as `812 B`, `64.0 KiB` or `1.0 MiB`.
pub fn size(bytes: usize) -> String {
    let tenths = |unit: usize| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", tenths(1024)),
        _ => format!("{} MiB", tenths(1_048_576)),
    }
}

/// The first `max` characters of a text, for a table cell.
pub fn short(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The name of a handler that may be deleted: `CRM`, `CRM (deleted)`, `handler 7 (deleted)`.
pub fn handler_name(id: HandlerId, name: Option<&str>, deleted: bool) -> String {
    let name = name.map_or_else(|| format!("handler {id}"), ToOwned::to_owned);
    if deleted { format!("{name} (deleted)") } else { name }
}

/// Replaces underscores: `dead_lettered` becomes `dead lettered`.
pub fn spaced(word: &str) -> String {
    word.replace('_', " ")
}

/// Makes the first letter upper case.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_for_people() {
        assert_eq!([0, 12, 999, 1000, 59_999].map(duration), ["0 ms", "12 ms", "999 ms", "1.0 s", "59.9 s"]);
        assert_eq!([61_000, 3_600_000].map(duration), ["1 m 1 s", "1 h 0 m"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1536, 1 << 20].map(size), ["0 B", "1023 B", "1.5 KiB", "1.0 MiB"]);
        assert_eq!((counted(1, "row", "rows"), counted(0, "row", "rows")), ("1 row".into(), "0 rows".into()));
        assert_eq!((short("añb", 2), short("añ", 2)), ("añ…".into(), "añ".into()));
    }
}
