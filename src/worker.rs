//! The worker role: takes events from RabbitMQ and runs their handlers.
//!
//! The registry keeps handlers in memory, so that a first delivery needs no database query unless
//! `worker.deduplicate` is set. The other exceptions are in `admission` and `attempt`.

mod admission;
mod attempt;
mod attempted;
mod breaker;
mod deliver;
mod event_run;
mod intake;
mod malformed;
mod outbox;
mod queue_state;
mod registry;
mod reply_request;
mod report;
mod requeue;
mod shared;
mod slots;
mod watchdog;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    broker::Link,
    config::Telemetry,
    process_id::this_process,
    runner::Runner,
    status_reporter::StatusReporter,
    store::Store,
    telemetry::traces::{TraceSettings, Traces},
};
use event_run::RunContext;
use outbox::Outbox;
use registry::Registry;
use shared::Shared;

pub use shared::WorkerSettings;

/// Runs a worker until `stop`, then drains it.
///
/// # Errors
/// If traces cannot be set up, or a consumer or a publisher failed. If `stop` comes before the registry is
/// loaded, there is nothing to drain, and that is not an error.
pub async fn run(
    settings: WorkerSettings,
    runner: Arc<Runner>,
    store: Store,
    status_reporter: Arc<StatusReporter>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let id = this_process();
    let traces = traces(&settings.config.telemetry).map(|traces| Traces::start(&traces, &id)).transpose()?;
    let registry = Registry::new(settings.config.handler_defaults());
    let registry_task = tokio::spawn(Arc::clone(&registry).keep_up_to_date(store.clone(), stop.clone()));
    if !registry.loaded(&stop).await {
        registry_task.await?;
        return Ok(());
    }
    let topology = &settings.broker.topology;
    topology.set_events(registry.snapshot().active_events());
    let links_stop = CancellationToken::new();
    let supervise = |purpose| Link::supervise(settings.broker.clone(), purpose, links_stop.clone());
    let (consuming, consuming_task) = supervise("worker: consume");
    let (link, publishing_task) = supervise("worker: publish");
    let (outbox, publishing) = Outbox::start(topology.names.clone(), id, &link, &stop);
    let context = RunContext {
        outbox,
        registry,
        store,
        status_reporter,
        traces: traces.clone(),
        draining: stop.clone(),
        max_event_bytes: settings.config.worker.max_event_bytes,
        record_unhandled: settings.config.worker.record_unhandled,
    };
    let shared = Shared::new(settings, context, runner, [consuming.clone(), link]);
    report::report_worker(&shared);
    let consumed = intake::consume(&shared, consuming, &stop).await;
    // After the failure of a consumer, `stop` is not cancelled yet: end the publishers and the registry as
    // well.
    stop.cancel();
    // The outbox is dropped with it. Its publishers end once everything is confirmed.
    drop(shared);
    let published = publishing.end().await;
    links_stop.cancel();
    consuming_task.await?;
    publishing_task.await?;
    registry_task.await?;
    if let Some(traces) = traces {
        traces.end().await;
    }
    info!("worker drained");
    consumed.and(published)
}

/// None: the worker makes no spans.
fn traces(telemetry: &Telemetry) -> Option<TraceSettings> {
    let endpoint = telemetry.otlp_endpoint.clone()?;
    Some(TraceSettings { endpoint, sample_ratio: telemetry.otlp_sample_ratio })
}
