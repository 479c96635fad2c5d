//! What is said of a broker that refuses messages.

use std::time::{Duration, Instant};

use tracing::{info, warn};

const EVERY: Duration = Duration::from_mins(1);

/// It is told at once, every minute, and when it is over.
#[derive(Default)]
pub(super) struct Complaint(Option<Instant>);

impl Complaint {
    pub(super) fn refused(&mut self, exchange: &str, waiting: usize) {
        if self.0.is_none_or(|last| last.elapsed() >= EVERY) {
            self.0 = Some(Instant::now());
            warn!(
                exchange,
                waiting,
                "the broker refuses messages: has a queue no majority, or a length limit? trying again"
            );
        }
    }

    pub(super) fn confirmed(&mut self) {
        if self.0.take().is_some() {
            info!("the broker takes messages again");
        }
    }
}
