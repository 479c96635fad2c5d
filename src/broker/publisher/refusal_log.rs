//! Counts what a publisher publishes, and logs when the broker refuses messages.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::{
    broker::{connection::Link, hindrance::Hindrance},
    telemetry::metrics::PublishMeters,
};

const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Logs refusals at once, then every minute, and when they end.
pub(super) struct RefusalLog {
    purpose: &'static str,
    meters: PublishMeters,
    logged_at: Option<Instant>,
    /// Set while the channel is lost again and again although the connection is up.
    hindrance: Option<Hindrance>,
}

impl RefusalLog {
    pub(super) fn new(purpose: &'static str) -> Self {
        Self { purpose, meters: PublishMeters::new(purpose), logged_at: None, hindrance: None }
    }

    pub(super) fn refused(&mut self, exchange: &str, waiting: usize) {
        self.meters.refused();
        if self.logged_at.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            self.logged_at = Some(Instant::now());
            warn!(
                exchange,
                waiting,
                "the broker refuses messages; retrying (does a queue have no majority, or a length limit?)"
            );
        }
    }

    /// Records a lost channel. (The supervisor logs a lost connection.)
    pub(super) fn lost(&mut self, link: &Link, why: &str, unconfirmed: usize) {
        if self.hindrance.is_none() {
            info!(
                purpose = self.purpose,
                error = why,
                unconfirmed,
                "channel lost: publishing the unconfirmed messages again"
            );
            self.hindrance = link.is_up().then(|| link.hindered(self.purpose, why));
        }
    }

    /// Whether nothing was confirmed since the channel was lost.
    pub(super) const fn is_hindered(&self) -> bool {
        self.hindrance.is_some()
    }

    pub(super) fn confirmed(&mut self) {
        self.meters.confirmed();
        self.hindrance = None;
        if self.logged_at.take().is_some() {
            info!("the broker accepts messages again");
        }
    }
}
