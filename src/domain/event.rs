//! An event: its name, its identity and its envelope.
//!
//! The body stays the bytes that came; only what provisiond itself needs is read out of it.

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
    /// Whether its publisher gave the id: only then are two with the same id the same event told twice.
    pub is_identified: bool,
    pub name: EventName,
    /// The entity it is about, as text (`12` and `"12"` are the same object).
    pub object_id: String,
    /// When it happened, as its publisher says.
    pub dt: Timestamp,
    /// The envelope as handlers get it: JSON, byte for byte as it came unless a handler changed it.
    pub body: Bytes,
}
