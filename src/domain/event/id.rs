//! Identities: of an event, and of one run of it.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Namespace of every UUIDv5 that provisiond derives. Part of the protocol: never change it.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_3a52_9c0e_4b7d_8a41_52d0_c3b9_7e60);

/// The identity of an event: 1–128 printable ASCII characters without spaces. Retries and replays keep it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
pub struct EventId(String);

/// Why a text is no event id.
#[derive(Debug, thiserror::Error)]
#[error("an event id is 1 to 128 printable ASCII characters without spaces")]
pub struct InvalidEventId;

impl EventId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id a publisher's `message_id` stands for: itself where it fits, else its UUIDv5.
    pub fn from_message_id(message_id: &str) -> Self {
        Self::try_from(message_id.to_owned()).unwrap_or_else(|_| derive(&["message-id", message_id], &[]))
    }

    /// The id of a message that is no CloudEvent: by its `message_id` if it has one, else by its content.
    pub fn of_message(message_id: Option<&str>, name: &str, timestamp: Option<u64>, body: &[u8]) -> Self {
        message_id.map_or_else(|| Self::from_content(name, timestamp, body), Self::from_message_id)
    }

    /// A CloudEvent is identified by its source and id together.
    pub fn from_cloud_event(source: &str, id: &str) -> Self {
        derive(&["cloudevent", source, id], &[])
    }

    /// The id of an event that is made of another by editing it: receivers would take the old one's for it.
    pub fn of_edited(original: &str, body: &[u8]) -> Self {
        derive(&["edited", original], body)
    }

    /// Without a `message_id`: the same event told again (a redelivery) has the same identity.
    fn from_content(name: &str, timestamp: Option<u64>, body: &[u8]) -> Self {
        let timestamp = timestamp.map(|t| t.to_string()).unwrap_or_default();
        derive(&["content", name, &timestamp], body)
    }
}

/// A UUIDv5 over `parts`, each ended by a NUL so that no two lists of parts read the same, and `tail`.
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
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text)) } else { Err(InvalidEventId) }
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

/// The identity of one run: of the first delivery (then it is the event id) or of one copy that
/// provisiond published (then it is that copy's `message_id`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct RunId(EventId);

impl RunId {
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The run of the copy that follows this run. Derived, not random: a worker that died between
    /// publishing a copy and acknowledging publishes the same copy again, and its dead letter, if it
    /// comes to that, is the same letter.
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
    fn a_message_id_is_kept_where_it_fits_and_hashed_where_not() {
        assert_eq!(EventId::from_message_id("order-7/b").as_str(), "order-7/b");
        for odd in ["with space", "", "ümlaut", "line\nbreak", &"x".repeat(129)] {
            let id = EventId::from_message_id(odd);
            assert_eq!(id.as_str().len(), 36, "{odd:?} becomes a UUID");
            assert_eq!(id, EventId::from_message_id(odd));
        }
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(EventId::from_cloud_event("a", "bc"), EventId::from_cloud_event("ab", "c"));
        let name = "clients.create";
        assert_ne!(EventId::from_content(name, Some(1), b"{}"), EventId::from_content(name, None, b"{}"));
    }
}
