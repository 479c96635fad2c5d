//! The AMQP layer: the only module that uses lapin.
//!
//! It supervises its connections itself, because lapin's own recovery does not come back from a half-open connection. A
//! consumer or publisher survives any number of lost connections.

mod acker;
mod client;
mod connect;
mod connection;
mod consumer;
mod declare;
mod delay;
mod delivery;
mod depths;
mod error;
mod greeting;
mod header;
mod held;
mod hindrance;
mod inbound;
mod installation;
mod management;
mod names;
mod peek;
mod policies;
mod probe;
mod publisher;
mod topology;
mod transport;
mod unknown_queues;
mod wire;

pub use client::{Depth, OneByOne, ResultWatch, publish_all, queue_depth};
pub use connect::BrokerSettings;
pub use connection::{Link, OwnLink};
pub use consumer::{Consumer, QueueConfig, QueueOwner};
pub use declare::ArgumentMismatch;
pub use delivery::Delivery;
pub use depths::{QueueDepth, QueueKind, QueueWatch};
pub use error::is_not_found;
pub use installation::{
    Installation, Mark, OtherInstallation, look_at_mark, short as installation_name, take_over,
};
pub use lapin::Connection;
pub use names::{Names, RecorderQueue};
pub use peek::peek;
pub use policies::{Harm, HarmfulPolicy, Managed, PolicyWatch, managed, tell_of_policies};
pub use publisher::{Confirm, ConfirmMode, Outgoing, Publisher, Unconfirmed};
pub use topology::Topology;
pub use unknown_queues::{UnknownQueue, queues_of};
pub use wire::{
    CopyOf, Deferred, MAX_HEADER_BYTES, MessageKind, MessageMeta, NewDeadLetter, classify, dead_letter,
    dead_letter_message, dead_letter_of, event, handlers_seen, mark_republished, reply, resent, result,
    retry_copy, retry_of, unrouted_event,
};
