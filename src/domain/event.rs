//! An event: its name, its identity and its envelope.
//!
//! The body stays byte for byte as received; provisiond parses only the fields that it needs.

mod cloud_event;
mod decode;
mod id;
mod name;
mod parts;
mod plain;
mod sample;

use bytes::Bytes;
use jiff::Timestamp;

pub use decode::{decode, object_id_in};
pub(super) use id::derive_uuid as id_of;
pub use id::{EventId, RunId};
pub use name::{EventName, InvalidEventName};
pub(super) use parts::check_depth;
pub use parts::{Arrival, MAX_OBJECT_ID_BYTES, Malformed};
pub use plain::readable;
pub use sample::{ObjectId, compose, compose_fitting, sample_data};

/// A well-formed event.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: EventId,
    /// Whether the publisher gave the id. Only then do two events with the same id count as duplicates.
    pub is_identified: bool,
    pub name: EventName,
    /// The entity that the event is about, as text (`12` and `"12"` are the same object).
    pub object_id: String,
    /// When the event happened, according to its publisher.
    pub dt: Timestamp,
    /// The envelope that handlers receive: JSON, byte for byte as published unless a handler changed it.
    pub body: Bytes,
}
