//! The ids of events and of their runs.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The namespace of all UUIDv5 that provisiond derives. It is part of the protocol: never change it.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_3a52_9c0e_4b7d_8a41_52d0_c3b9_7e60);

/// The id of an event: 1 to 128 printable ASCII characters without spaces. Retries and replays keep it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
pub struct EventId(String);

/// A text is not an event id.
#[derive(Debug, thiserror::Error)]
#[error("an event id is 1 to 128 printable ASCII characters without spaces")]
pub struct InvalidEventId;

impl EventId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id for a publisher's `message_id`: the same text if it is valid, else its UUIDv5.
    pub fn from_message_id(message_id: &str) -> Self {
        Self::try_from(message_id.to_owned()).unwrap_or_else(|_| derive(&["message-id", message_id], &[]))
    }

    /// The id of a message that is not a CloudEvent: from its `message_id`, or from its content if it has none.
    pub fn of_message(message_id: Option<&str>, name: &str, timestamp: Option<u64>, body: &[u8]) -> Self {
        message_id.map_or_else(|| Self::from_content(name, timestamp, body), Self::from_message_id)
    }

    /// The id of a CloudEvent, which its source and id identify together.
    pub fn from_cloud_event(source: &str, id: &str) -> Self {
        derive(&["cloudevent", source, id], &[])
    }

    /// The id of an event that was made by editing another one. With the old id, receivers would take it for the old
    /// event.
    pub fn of_edited(original: &str, body: &[u8]) -> Self {
        derive(&["edited", original], body)
    }

    /// The id of a message without `message_id`. A redelivery has the same content, so it gets the same id.
    fn from_content(name: &str, timestamp: Option<u64>, body: &[u8]) -> Self {
        let timestamp = timestamp.map(|t| t.to_string()).unwrap_or_default();
        derive(&["content", name, &timestamp], body)
    }
}

/// A UUIDv5 over `parts` and `tail`. A NUL ends each part, so that two different lists never give the same bytes.
pub(in super::super) fn derive_uuid(parts: &[&str], tail: &[u8]) -> Uuid {
    let mut bytes = Vec::with_capacity(tail.len() + 128);
    for part in parts {
        bytes.extend_from_slice(part.as_bytes());
        bytes.push(0);
    }
    bytes.extend_from_slice(tail);
    Uuid::new_v5(&NAMESPACE, &bytes)
}

fn derive(parts: &[&str], tail: &[u8]) -> EventId {
    EventId(derive_uuid(parts, tail).to_string())
}

impl TryFrom<String> for EventId {
    type Error = InvalidEventId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_valid = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if is_valid { Ok(Self(text)) } else { Err(InvalidEventId) }
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of one run. The first delivery has the event id; a copy that provisiond published has its own `message_id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct RunId(EventId);

impl RunId {
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The run id of the copy that follows this run. It is derived, not random: a worker that died before it
    /// acknowledged publishes a copy with the same id again, and a dead letter of that copy has the same id too.
    pub fn next(&self, step: &str) -> Self {
        Self(derive(&["run", self.as_str(), step], &[]))
    }
}

impl From<EventId> for RunId {
    fn from(id: EventId) -> Self {
        Self(id)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_message_id_is_kept_and_an_invalid_one_is_hashed() {
        assert_eq!(EventId::from_message_id("order-7/b").as_str(), "order-7/b");
        for invalid in ["with space", "", "ümlaut", "line\nbreak", &"x".repeat(129)] {
            let id = EventId::from_message_id(invalid);
            assert_eq!(id.as_str().len(), 36, "{invalid:?} becomes a UUID");
            assert_eq!(id, EventId::from_message_id(invalid));
        }
    }

    #[test]
    fn different_parts_give_different_ids() {
        assert_ne!(EventId::from_cloud_event("a", "bc"), EventId::from_cloud_event("ab", "c"));
        let name = "clients.create";
        assert_ne!(EventId::from_content(name, Some(1), b"{}"), EventId::from_content(name, None, b"{}"));
    }
}
