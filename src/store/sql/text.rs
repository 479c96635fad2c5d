//! Text for columns, and patterns for searches.

use std::{borrow::Cow, fmt::Write};

/// Replaces NUL, the only character that text columns cannot hold. A NUL in a name or a response must not fail its
/// batch.
pub(in crate::store) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

pub(in crate::store) fn clean_opt(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.map(clean)
}

/// A `LIKE` pattern that finds `text` anywhere.
pub(in crate::store) fn contains(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    clean(&pattern).into_owned()
}

/// The forms that `text` may have in JSON: plain, escaped as Python does (`ü` as `\u00fc`), and escaped as PHP does
/// (also `/` as `\/`).
pub(in crate::store) fn json_forms(text: &str) -> Vec<String> {
    let ascii = json_escaped(text);
    let slashes = ascii.replace('/', "\\/");
    let mut forms = vec![text.to_owned(), ascii, slashes];
    forms.dedup();
    forms
}

fn json_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            ' '..='~' => escaped.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(escaped, "\\u{unit:04x}");
                }
            }
        }
    }
    escaped
}

/// `text` as `encode(bytea, 'escape')` writes it, so that a body that is not text can be searched.
pub(in crate::store) fn bytea_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'\\' => escaped.push_str("\\\\"),
            0 | 0x80.. => {
                let _ = write!(escaped, "\\{byte:03o}");
            }
            _ => escaped.push(char::from(byte)),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_text_literally() {
        assert_eq!(contains("50%_\\"), "%50\\%\\_\\\\%");
        assert_eq!(contains("a\0b"), "%a\u{fffd}b%");
        assert_eq!(json_forms("plain"), ["plain"]);
        assert_eq!(json_forms("ü/"), ["ü/", "\\u00fc/", "\\u00fc\\/"]);
        assert_eq!(json_escaped("a\"\u{1f600}"), "a\\\"\\ud83d\\ude00");
        assert_eq!(bytea_escaped("a\\ü\0"), "a\\\\\\303\\274\\000");
    }

    #[test]
    fn nul_is_replaced() {
        assert_eq!(clean("a\0b"), "a\u{fffd}b");
        assert!(matches!(clean("ab"), Cow::Borrowed("ab")));
    }
}
