//! What is counted of a publisher, and what is said of a broker that refuses messages.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::telemetry::metrics::PublishMeters;

const EVERY: Duration = Duration::from_mins(1);

/// It is told at once, every minute, and when it is over.
pub(super) struct Complaint {
    meters: PublishMeters,
    told: Option<Instant>,
}

impl Complaint {
    pub(super) fn new(purpose: &'static str) -> Self {
        Self { meters: PublishMeters::new(purpose), told: None }
    }

    pub(super) fn refused(&mut self, exchange: &str, waiting: usize) {
        self.meters.refused();
        if self.told.is_none_or(|last| last.elapsed() >= EVERY) {
            self.told = Some(Instant::now());
            warn!(
                exchange,
                waiting,
                "the broker refuses messages: has a queue no majority, or a length limit? trying again"
            );
        }
    }

    pub(super) fn confirmed(&mut self) {
        self.meters.confirmed();
        if self.told.take().is_some() {
            info!("the broker takes messages again");
        }
    }
}
