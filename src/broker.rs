//! Everything that speaks AMQP: all of lapin is behind this door.
//!
//! Connections are supervised here and never by lapin's own recovery, which does not come back
//! from a half-open link. A consumer or publisher lives through any number of connections.

mod acker;
mod connection;
mod consumer;
mod declare;
mod delay;
mod delivery;
mod depths;
mod design;
mod dial;
mod direct;
mod error;
mod greeting;
mod header;
mod held;
mod hindrance;
mod inbound;
mod installation;
mod management;
mod peek;
mod policies;
mod probe;
mod publisher;
mod topology;
mod transport;
mod unknown_queues;
mod wire;

pub use connection::{Link, OwnLink};
pub use consumer::{Consumer, Intake, Source};
pub use declare::Drift;
pub use delivery::Delivery;
pub use depths::{QueueDepth, QueueKind, QueueWatch};
pub use design::Names;
pub use dial::BrokerSettings;
pub use direct::{Depth, OneByOne, ResultWatch, publish_all, queue_depth};
pub use error::is_not_found;
pub use installation::{
    Installation, Mark, OtherInstallation, look_at_mark, short as installation_name, take_over,
};
pub use lapin::Connection;
pub use peek::peek;
pub use policies::{Harm, HarmfulPolicy, Managed, PolicyWatch, managed, tell_of_policies};
pub use publisher::{Care, Confirm, Outgoing, Publisher, Unconfirmed};
pub use topology::Topology;
pub use unknown_queues::{UnknownQueue, queues_of};
pub use wire::{
    Burial, CopyOf, Facts, MAX_HEADER_BYTES, PutOff, again, copy_of, dead_letter, dead_letter_of, event,
    handlers_seen, letter_of, reply, resent, result, retry_copy, unrouted_event,
};
