//! TLS to handler endpoints, RabbitMQ and PostgreSQL: which certificates are trusted, and what errors mean.
//!
//! Each client makes its connections itself. This module contains what must be the same for all three.

mod algorithms;
mod explain;
mod files;
#[cfg(test)]
mod tests;
mod verifier;

pub use algorithms::hash_bits;
pub use explain::{Peer, advice, explained, words};
pub use files::{authorities, expired, identity};
pub use verifier::{Roots, config, without_trust};
