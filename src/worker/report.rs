//! The worker's part of the process report, and its metrics that are computed on request.

use std::sync::Arc;

use super::shared::Shared;
use crate::{
    domain::{
        dead_letter::header_error,
        process::{CircuitReport, CircuitState, WorkerReport},
    },
    telemetry::metrics::{Exposition, set_limits},
};

/// Most circuits in one report, so that the report fits into a row.
const MAX_CIRCUITS: usize = 200;

/// Adds the worker to the reports and the metrics of this process, for as long as it lives.
pub(super) fn report_worker(shared: &Arc<Shared>) {
    let status_reporter = &shared.context.status_reporter;
    let config = &shared.settings.config;
    set_limits(config.worker.concurrency, config.script.concurrency);
    // Weak: the publishers end when the outbox is dropped, so the report must not keep it alive.
    let worker = Arc::downgrade(shared);
    status_reporter.add_metrics(move |exposition| {
        if let Some(shared) = worker.upgrade() {
            add_metrics(&shared, exposition);
        }
    });
    let worker = Arc::downgrade(shared);
    status_reporter.add_report(move |report| {
        let Some(shared) = worker.upgrade() else { return };
        let registry = shared.context.registry.snapshot();
        report.worker = Some(WorkerReport {
            events: shared.settings.events.clone(),
            in_flight: count(shared.deliveries.len()),
            handlers: count(registry.enabled_count()),
            registry_read_at: registry.read_at(),
            consuming: shared.consuming.report(),
            publishing: shared.publishing.report(),
            circuits: circuits(&shared),
            wedged: shared.watchdog.wedged(),
        });
    });
}

/// Adds the names of the handlers that have series of their own, and the circuits that are not closed.
fn add_metrics(shared: &Shared, exposition: &mut Exposition) {
    let registry = shared.context.registry.snapshot();
    let named = shared.attempts.meters.known().into_iter().filter_map(|id| {
        let known = registry.get(id)?;
        let spec = &known.handler.spec;
        let labels =
            [("handler", id.to_string()), ("name", spec.name.to_string()), ("event", spec.event.to_string())];
        Some((labels.into(), 1.0))
    });
    exposition.gauge(
        "provisiond_handler_info",
        "Always 1; the labels name the handlers of the other series",
        named,
    );
    let circuits = circuits(shared).into_iter().map(|circuit| {
        let state = if circuit.state == CircuitState::Open { 2.0 } else { 1.0 };
        (vec![("handler", circuit.handler_id.to_string())], state)
    });
    let help = "Circuit breakers that are not closed: 2 = open, no calls; 1 = one probe call is running";
    exposition.gauge("provisiond_circuit_state", help, circuits);
}

/// The circuits that are not closed, of enabled handlers in their current version only: a changed handler
/// gets a new circuit.
fn circuits(shared: &Shared) -> Vec<CircuitReport> {
    let registry = shared.context.registry.snapshot();
    let mut circuits = shared.attempts.breakers.not_closed();
    circuits.retain(|(report, version)| registry.version_of_enabled(report.handler_id) == Some(*version));
    circuits.sort_by_key(|(report, _)| (report.since, report.handler_id.0));
    circuits.truncate(MAX_CIRCUITS);
    let one_line =
        |(report, _): (CircuitReport, _)| CircuitReport { error: header_error(&report.error), ..report };
    circuits.into_iter().map(one_line).collect()
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
