//! What this process tells of itself to those who watch over it.

mod log;
pub mod metrics;
pub mod traces;

pub use log::init;
