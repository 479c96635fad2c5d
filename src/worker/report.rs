//! The worker's part of the process report, and its metrics that are computed on request.

use std::sync::Arc;

use super::{Worker, WorkerSettings};
use crate::{
    domain::{
        dead_letter::header_error,
        process::{CircuitReport, CircuitState, WorkerReport},
    },
    status_reporter::StatusReporter,
    telemetry::metrics::{Exposition, set_limits},
};

/// Most circuits in one report, so that the report fits into a row.
const MAX_CIRCUITS: usize = 200;

/// Adds the worker to the reports and the metrics of this process, for as long as it lives.
pub(super) fn report_worker(worker: &Arc<Worker>, presence: &StatusReporter, settings: &WorkerSettings) {
    set_limits(settings.concurrency, settings.script_concurrency);
    // Weak: the publishers end when the worker is dropped, so the report must not keep it alive.
    let shown = Arc::downgrade(worker);
    presence.add_metrics(move |exposition| {
        if let Some(worker) = shown.upgrade() {
            worker.show(exposition);
        }
    });
    let events = settings.events.clone();
    let worker = Arc::downgrade(worker);
    presence.add_report(move |report| {
        let Some(worker) = worker.upgrade() else { return };
        let registry = worker.registry.snapshot();
        report.worker = Some(WorkerReport {
            events: events.clone(),
            in_flight: count(worker.deliveries.len()),
            handlers: count(registry.enabled_count()),
            registry_read_at: registry.read_at(),
            consuming: worker.links[0].report(),
            publishing: worker.links[1].report(),
            circuits: worker.circuits(),
            wedged: worker.watched.wedged(),
        });
    });
}

impl Worker {
    /// Adds the names of the handlers that have series of their own, and the circuits that are not closed.
    fn show(&self, exposition: &mut Exposition) {
        let registry = self.registry.snapshot();
        let named = self.meters.known().into_iter().filter_map(|id| {
            let known = registry.get(id)?;
            let spec = &known.handler.spec;
            let labels = [
                ("handler", id.to_string()),
                ("name", spec.name.to_string()),
                ("event", spec.event.to_string()),
            ];
            Some((labels.into(), 1.0))
        });
        exposition.gauge(
            "provisiond_handler_info",
            "Always 1; the labels name the handlers of the other series",
            named,
        );
        let circuits = self.circuits().into_iter().map(|circuit| {
            let state = if circuit.state == CircuitState::Open { 2.0 } else { 1.0 };
            (vec![("handler", circuit.handler_id.to_string())], state)
        });
        let help = "Circuit breakers that are not closed: 2 = open, no calls; 1 = one probe call is running";
        exposition.gauge("provisiond_circuit_state", help, circuits);
    }

    /// The circuits that are not closed, of enabled handlers in their current version only: a changed handler
    /// gets a new circuit.
    fn circuits(&self) -> Vec<CircuitReport> {
        let registry = self.registry.snapshot();
        let mut circuits = self.breakers.not_closed();
        circuits.retain(|(report, version)| registry.version_of_enabled(report.handler_id) == Some(*version));
        circuits.sort_by_key(|(report, _)| (report.since, report.handler_id.0));
        circuits.truncate(MAX_CIRCUITS);
        let one_line =
            |(report, _): (CircuitReport, _)| CircuitReport { error: header_error(&report.error), ..report };
        circuits.into_iter().map(one_line).collect()
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
