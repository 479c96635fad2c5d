//! What this process tells those who watch over it: `/metrics`, `/healthz` and `/readyz` on `telemetry.listen`.
//!
//! Apart from the console: it is for machines, without access control, and each role has it. It listens before anything
//! else is there, so that a process that waits for its database is seen to be alive, and not ready.

mod ask;
mod ready;
mod server;

pub use ask::ask;
pub use server::{Listener, serve};
