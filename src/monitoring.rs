//! Serves `/metrics`, `/healthz` and `/readyz` on `telemetry.listen`.
//!
//! It is separate from the console: it is for machines, has no access control, and runs with every role. It listens
//! before anything else starts, so that a process that waits for its database is alive, but not ready.

mod ask;
mod ready;
mod server;

pub use ask::ask;
pub use server::{Listener, serve};
