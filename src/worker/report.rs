//! What a worker tells of itself.

use std::sync::Arc;

use super::Worker;
use crate::{
    broker::Link,
    domain::{
        dead_letter::header_error,
        process::{CircuitReport, WorkerReport},
    },
    presence::Presence,
};

/// A bad hour of everything must still fit into a row.
const MOST_CIRCUITS: usize = 200;

/// Lets `presence` tell of `worker` for as long as that lives.
pub(super) fn tell_of(
    worker: &Arc<Worker>,
    presence: &Presence,
    events: Vec<String>,
    [consuming, publishing]: [Link; 2],
) {
    // Not to be kept from ending: its publishers do when it is dropped.
    let worker = Arc::downgrade(worker);
    presence.tells(move |report| {
        let Some(worker) = worker.upgrade() else { return };
        let registry = worker.registry.snapshot();
        report.worker = Some(WorkerReport {
            events: events.clone(),
            in_flight: count(worker.deliveries.len()),
            handlers: count(registry.enabled_count()),
            registry_read_at: registry.read_at(),
            consuming: consuming.report(),
            publishing: publishing.report(),
            circuits: worker.circuits(),
        });
    });
}

impl Worker {
    /// Of handlers as they are now: one that was changed or switched off since is not left alone any more.
    fn circuits(&self) -> Vec<CircuitReport> {
        let registry = self.registry.snapshot();
        let mut circuits = self.breakers.not_closed();
        circuits.retain(|(report, version)| registry.version_of_enabled(report.handler_id) == Some(*version));
        circuits.sort_by_key(|(report, _)| (report.since, report.handler_id.0));
        circuits.truncate(MOST_CIRCUITS);
        let one_line =
            |(report, _): (CircuitReport, _)| CircuitReport { error: header_error(&report.error), ..report };
        circuits.into_iter().map(one_line).collect()
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
