//! Rewrites errors of serde and of the standard library's parsers in our wording.
//!
//! These errors consist of text only, so the text is parsed. An unknown text is passed on unchanged.

/// The name of an unknown field. The path of the error does not contain it.
pub fn unknown_field(detail: &str) -> Option<&str> {
    detail.strip_prefix("unknown field `")?.split('`').next()
}

/// The name of a duplicate field. The path of the error does not contain it either.
pub fn duplicate_field(detail: &str) -> Option<&str> {
    detail.strip_prefix("duplicate field `")?.strip_suffix('`')
}

/// The name of a missing field.
pub fn missing_field(detail: &str) -> Option<&str> {
    detail.strip_prefix("missing field `")?.strip_suffix('`')
}

/// The error in our wording. The caller names the field.
pub fn plain(detail: &str) -> String {
    if unknown_field(detail).is_some() {
        return match words(detail.split_once(", ").map_or("", |(_, expected)| expected)) {
            known if known.is_empty() => "is unknown; none is allowed here".to_owned(),
            known => format!("is unknown; allowed: {known}"),
        };
    }
    if let Some((variant, expected)) =
        detail.strip_prefix("unknown variant `").and_then(|d| d.split_once("`, "))
    {
        return format!("{variant:?} is not one of {}", words(expected));
    }
    let wrong = detail.strip_prefix("invalid type: ").or_else(|| detail.strip_prefix("invalid value: "));
    if let Some((given, expected)) = wrong.and_then(|detail| detail.rsplit_once(", expected ")) {
        return format!("is {}, and must be {}", given_in_words(given), expected_in_words(expected));
    }
    if missing_field(detail).is_some() {
        return "is missing".to_owned();
    }
    if duplicate_field(detail).is_some() {
        return "is given twice".to_owned();
    }
    if is_about_a_number(detail) {
        return "is not a whole number in the allowed range".to_owned();
    }
    if detail.starts_with("invalid character: ")
        || detail.starts_with("invalid length: ")
        || detail.starts_with("invalid group ")
    {
        return "is not a UUID".to_owned();
    }
    detail.to_owned()
}

fn is_about_a_number(detail: &str) -> bool {
    detail.starts_with("invalid digit found")
        || detail.starts_with("cannot parse integer")
        || (detail.starts_with("number too ") && detail.ends_with(" to fit in target type"))
}

/// The texts between backticks.
fn words(expected: &str) -> String {
    expected.split('`').skip(1).step_by(2).collect::<Vec<_>>().join(", ")
}

fn given_in_words(given: &str) -> String {
    for (kind, in_words) in [
        ("integer `", "the number"),
        ("floating point `", "the number"),
        ("boolean `", ""),
        ("character `", ""),
    ] {
        if let Some(value) = given.strip_prefix(kind).and_then(|value| value.strip_suffix('`')) {
            return format!("{in_words} {value}").trim_start().to_owned();
        }
    }
    match given {
        "null" | "unit value" | "Option value" => "null".to_owned(),
        "map" => "an object".to_owned(),
        "sequence" => "a list".to_owned(),
        _ => {
            given.strip_prefix("string ").map_or_else(|| given.to_owned(), |text| format!("the text {text}"))
        }
    }
}

fn expected_in_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" => "a whole number",
        _ if expected.starts_with("a nonzero ") => "a whole number, 1 or more",
        "f32" | "f64" => "a number",
        "a string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a JSON object",
        _ if expected.starts_with("struct ") => "a JSON object",
        _ if expected.starts_with("string or ") || expected.starts_with("variant ") => "a text",
        _ => expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_messages_are_rewritten() {
        for (message, expected) in [
            ("unknown field `c`, expected `a` or `b`", "is unknown; allowed: a, b"),
            ("unknown field `c`, there are no fields", "is unknown; none is allowed here"),
            ("unknown variant `on`, expected one of `a`, `b`, `c`", "\"on\" is not one of a, b, c"),
            ("missing field `a`", "is missing"),
            ("invalid type: string \"x\", expected i32", "is the text \"x\", and must be a whole number"),
            ("invalid type: null, expected a string", "is null, and must be a text"),
            (
                "invalid type: floating point `1.5`, expected a nonzero u32",
                "is the number 1.5, and must be a whole number, 1 or more",
            ),
            ("invalid type: boolean `true`, expected a sequence", "is true, and must be a list"),
            ("invalid value: string \"x\", expected a duration", "is the text \"x\", and must be a duration"),
            ("invalid digit found in string", "is not a whole number in the allowed range"),
            ("must be 1 to 500", "must be 1 to 500"),
        ] {
            assert_eq!(plain(message), expected);
        }
    }
}
