//! Logs, metrics and traces of this process.

mod log;
pub mod metrics;
pub mod traces;

pub use log::{init, init_serving, lost as log_lines_lost, report_lost as tell_of_lost_log_lines};
