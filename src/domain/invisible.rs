//! Invisible characters. They make two names look the same, or a text look different from what it is.

use std::{borrow::Cow, fmt::Write as _};

/// Whether a character is invisible or changes the order of others: those that Unicode calls default ignorable
/// (`DerivedCoreProperties.txt`: zero-width characters, bidirectional controls, variation selectors, tags), line and
/// paragraph separators, and annotation characters.
pub const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a character looks like a space but is not one: in Braille, Khitan, musical notation and hieroglyphs.
const fn is_blank(c: char) -> bool {
    matches!(c, '\u{2800}' | '\u{16fe4}' | '\u{1d159}' | '\u{13430}'..='\u{1343f}')
}

/// Checks a text that people recognise by reading it, such as a name.
///
/// # Errors
/// A sentence that names the first invisible character of `text`.
pub fn all_visible(text: &str) -> Result<(), String> {
    let is_odd = |c: char| is_invisible(c) || is_blank(c) || (c.is_whitespace() && c != ' ');
    match text.chars().position(is_odd) {
        None if text.contains("  ") => Err("has two spaces in a row, which look like one".to_owned()),
        None => Ok(()),
        Some(position) => {
            let code = text.chars().nth(position).map_or(0, u32::from);
            Err(format!(
                "has an invisible character (U+{code:04X}, character {}): type it again",
                position + 1
            ))
        }
    }
}

/// `text` with escapes such as `\u{202e}` for characters that are invisible or would move a terminal's cursor. Line
/// breaks and tabs stay.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_by(text, |c| c.escape_unicode().to_string())
}

/// The same for JSON. Such characters occur only inside JSON strings, so the value does not change.
pub fn escaped_in_json(json: &str) -> Cow<'_, str> {
    escaped_by(json, |c| {
        c.encode_utf16(&mut [0; 2]).iter().fold(String::new(), |mut escapes, unit| {
            // Writing to a String cannot fail.
            let _ = write!(escapes, "\\u{unit:04x}");
            escapes
        })
    })
}

fn escaped_by(text: &str, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    let needs_escape = |c: char| (c.is_control() && c != '\n' && c != '\t') || is_invisible(c);
    if !text.contains(needs_escape) {
        return text.into();
    }
    text.chars().map(|c| if needs_escape(c) { escape(c) } else { c.to_string() }).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invisible_character_is_an_error() {
        for valid in ["CRM", "Müller & Söhne", "e\u{301}", "שלום", "日本", "☎ 🙂"] {
            assert_eq!(all_visible(valid), Ok(()), "{valid}");
            assert_eq!(escaped(valid), valid);
        }
        for invalid in [
            "CRM\u{200b}",
            "\u{202e}MRC",
            "C\u{ad}RM",
            "CRM\u{2066}",
            "C\u{e0041}",
            "\u{feff}CRM",
            "a\u{2028}b",
        ] {
            assert!(all_visible(invalid).is_err(), "{invalid:?}");
        }
        for invalid in ["CRM\u{2800}", "CRM\u{16fe4}", "CRM\u{1d159}", "C\u{a0}RM", "C\u{3000}RM", "A  B"] {
            assert!(all_visible(invalid).is_err(), "{invalid:?}");
        }
        let error = all_visible("CRM\u{200b}").expect_err("invisible");
        assert_eq!(error, "has an invisible character (U+200B, character 4): type it again");
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        assert_eq!(escaped("a\u{202e}b\u{1b}[1m\u{9b}\n\tc\r"), "a\\u{202e}b\\u{1b}[1m\\u{9b}\n\tc\\u{d}");
        let value = serde_json::json!({"na\u{200b}me": "x\u{202e}\u{9b}\u{e0041}\u{1b}é"});
        let json = serde_json::to_string_pretty(&value).expect("JSON");
        let escaped = escaped_in_json(&json);
        assert!(escaped.is_char_boundary(0) && !escaped.contains(|c| is_invisible(c) || c == '\u{9b}'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).expect("JSON"), value);
    }
}
