//! Metrics: their names, help texts and counters.
//!
//! Users build on names and labels (dashboards, alerts), so all of them are in this module. Code that counts often
//! keeps its counters (`meters`), because finding one by its labels costs more than counting. The number of series is
//! bounded: event types are those of the catalogue, and only a limited number of handlers have series of their own.

mod describe;
mod exposition;
mod gauges;
mod handlers;
mod meters;

use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::log_lines_lost;
pub use exposition::Exposition;
pub use gauges::{set_gauges, set_limits};
pub use handlers::{AttemptOutcome, HandlerMeters};
pub use meters::{
    BatchMeters, DeliveryKind, EventMeters, PublishMeters, connection_lost, console_request,
    consumer_rebuilt, dead_letter, dead_letter_without_worker, dead_letters_open, id_reused, queue_messages,
    skip, write_failed,
};

/// How often samples of histograms are put into their buckets, even if nobody scrapes: until then each takes memory.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Starts counting, once per process. Before that, and in commands that never start it, counting does nothing.
    ///
    /// # Errors
    /// If it was called before.
    pub fn install() -> anyhow::Result<Self> {
        let mut builder = PrometheusBuilder::new();
        for (name, buckets) in describe::BUCKETS {
            builder = builder
                .set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)
                .with_context(|| format!("cannot set the buckets of {name}"))?;
        }
        let handle = builder.install_recorder().context("cannot start the metrics")?;
        describe::all();
        metrics_process::Collector::default().describe();
        Ok(Self(handle))
    }

    /// Keeps memory bounded when nobody scrapes the metrics. Never returns.
    pub async fn keep(self) {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            self.0.run_upkeep();
        }
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        metrics_process::Collector::default().collect();
        metrics::counter!(describe::LOG_LOST).absolute(log_lines_lost());
        self.0.render()
    }
}
