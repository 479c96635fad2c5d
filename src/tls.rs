//! TLS to endpoints, to the broker and to PostgreSQL: whom it trusts, and what its errors mean.
//!
//! Each of them makes its connections itself; what must be the same for all three is here.

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
