//! Event names: `segment(.segment)*` with segments of `[a-z0-9_]+`, at most 127 bytes.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// The name of an event type, such as `clients.create`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, max_length = 127, pattern = r"^[a-z0-9_]+(\.[a-z0-9_]+)*$", example = "clients.create")]
pub struct EventName(Arc<str>);

/// A text is not an event name.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not an event name: lower-case letters, digits and _ in segments joined by dots, \
     at most {max} bytes (for example clients.create)",
    max = EventName::MAX_BYTES
)]
pub struct InvalidEventName(String);

impl EventName {
    /// A routing key of the delay ladder is 40 bytes plus the name, and AMQP allows 255 bytes. Half of that is
    /// enough.
    pub const MAX_BYTES: usize = 127;

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name matches a pattern of `serve --events`. The rules are those of AMQP topics: `*` matches one
    /// segment, `#` matches zero or more.
    pub fn matches(&self, pattern: &str) -> bool {
        let pattern: Vec<&str> = pattern.split('.').collect();
        let name: Vec<&str> = self.0.split('.').collect();
        topic_matches(&pattern, &name)
    }
}

fn topic_matches(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((&"#", rest)), None) => topic_matches(rest, name),
        (Some((&"#", rest)), Some((_, tail))) => topic_matches(rest, name) || topic_matches(pattern, tail),
        (Some((word, rest)), Some((segment, tail))) => {
            (*word == "*" || word == segment) && topic_matches(rest, tail)
        }
        _ => false,
    }
}

impl FromStr for EventName {
    type Err = InvalidEventName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let segment =
            |s: &str| !s.is_empty() && s.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if text.len() <= Self::MAX_BYTES && text.split('.').all(segment) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidEventName(text.chars().take(200).collect()))
        }
    }
}

impl TryFrom<String> for EventName {
    type Error = InvalidEventName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<EventName> for String {
    fn from(name: EventName) -> Self {
        name.as_str().to_owned()
    }
}

impl Borrow<str> for EventName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_segments() {
        for good in ["clients.create", "a", "clients.custom_fields.update", "x1.2"] {
            assert_eq!(good.parse::<EventName>().map(String::from).ok().as_deref(), Some(good));
        }
        let long = "a".repeat(128);
        for bad in ["", ".", "a.", ".a", "a..b", "Clients.create", "a b", "a-b", "ä", &long] {
            assert!(bad.parse::<EventName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn patterns_follow_topic_rules() {
        let name = |s: &str| s.parse::<EventName>().expect("valid");
        for (pattern, text, matches) in [
            ("clients.*", "clients.create", true),
            ("clients.*", "clients.accounts.create", false),
            ("clients.#", "clients.accounts.create", true),
            ("#", "clients.create", true),
            ("*.accounts.#", "clients.accounts.create", true),
            ("clients.create", "clients.create", true),
            ("clients.create", "clients.delete", false),
        ] {
            assert_eq!(name(text).matches(pattern), matches, "{pattern} on {text}");
        }
    }
}
