//! The worker role: takes events from RabbitMQ and runs their handlers.
//!
//! The registry keeps handlers in memory, so that a first delivery needs no database query unless
//! `worker.deduplicate` is set. The other exceptions are in `admission` and `attempt`.

mod admission;
mod attempt;
mod breaker;
mod deliver;
mod event_run;
mod intake;
mod queue_state;
mod registry;
mod report;
mod slots;
mod watchdog;

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    broker::{BrokerSettings, ConfirmMode, Link, Names, OwnLink, Publisher},
    domain::{execution::WorkerId, handler::HandlerDefaults},
    process_id::this_process,
    runner::Runner,
    status_reporter::StatusReporter,
    store::Store,
    telemetry::metrics::HandlerMeters,
    telemetry::traces::{TraceSettings, Traces},
};
use admission::Admission;
use breaker::Breakers;
use registry::Registry;
use slots::Slots;
use watchdog::Watched;

/// The configuration of a worker.
pub struct WorkerSettings {
    pub broker: BrokerSettings,
    /// How many deliveries of one event queue are processed at a time; also its prefetch.
    pub concurrency: u16,
    pub max_event_bytes: usize,
    pub record_unhandled: bool,
    /// How long the inbox remembers an event, to detect that it is published again. None: no deduplication.
    pub deduplicate: Option<Duration>,
    /// A suspect that started this often and never ended becomes a dead letter (`crash_loop`).
    pub crash_limit: u32,
    /// How long a shutdown waits for running handlers.
    pub drain_timeout: Duration,
    /// How many scripts run at a time.
    pub script_concurrency: usize,
    /// Time between SIGTERM and SIGKILL for a script that exceeds its timeout.
    pub kill_grace: Duration,
    /// How many handlers have metric series of their own.
    pub handler_series: usize,
    /// Topic patterns: the worker consumes the event types that match one of them.
    pub events: Vec<String>,
    pub defaults: HandlerDefaults,
    /// None: the worker makes no spans.
    pub traces: Option<TraceSettings>,
}

/// The state that all running deliveries share.
struct Worker {
    id: WorkerId,
    names: Names,
    max_event_bytes: usize,
    record_unhandled: bool,
    admission: Admission,
    registry: Arc<Registry>,
    runner: Arc<Runner>,
    slots: Slots,
    breakers: Breakers,
    store: Store,
    presence: Arc<StatusReporter>,
    publishers: Publishers,
    traces: Option<Traces>,
    links: [Link; 2],
    meters: HandlerMeters,
    watched: Watched,
    /// Tasks that must end before the process does: running deliveries, and the deletion of suspects.
    deliveries: TaskTracker,
    /// Cancelled when a shutdown begins: no further handler starts.
    draining: CancellationToken,
    /// Cancelled when the drain timeout is over: running handlers are aborted.
    cut: CancellationToken,
}

/// The publishers of a worker.
///
/// Each kind of message has its own channel, because one failed publish fails every publish that is in flight
/// on the same channel.
struct Publishers {
    results: Publisher,
    copies: Publisher,
    letters: Publisher,
    replies: Publisher,
}

/// Runs a worker until `stop`, then drains it.
///
/// # Errors
/// If traces cannot be set up, or a consumer or a publisher failed. If `stop` comes before the registry is
/// loaded, there is nothing to drain, and that is not an error.
pub async fn run(
    settings: WorkerSettings,
    runner: Arc<Runner>,
    store: Store,
    presence: Arc<StatusReporter>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let id = this_process();
    let traces = settings.traces.as_ref().map(|traces| Traces::start(traces, &id)).transpose()?;
    let registry = Registry::new(settings.defaults.clone());
    let keeping = tokio::spawn(Arc::clone(&registry).keep(store.clone(), stop.clone()));
    if !registry.loaded(&stop).await {
        keeping.await?;
        return Ok(());
    }
    settings.broker.topology.set_events(registry.snapshot().active_events());
    let (links_stop, deliveries) = (CancellationToken::new(), TaskTracker::new());
    let (consuming, consuming_task) =
        Link::supervise(settings.broker.clone(), "worker: consume", links_stop.clone());
    let (publishing, publishing_task) =
        Link::supervise(settings.broker.clone(), "worker: publish", links_stop.clone());
    let (publishers, publisher_tasks) = start_publishers(&publishing, &stop);
    let worker = Arc::new(Worker {
        id,
        names: settings.broker.topology.names.clone(),
        max_event_bytes: settings.max_event_bytes,
        record_unhandled: settings.record_unhandled,
        admission: Admission::new(&store, settings.deduplicate, settings.crash_limit, &deliveries, &stop),
        slots: Slots::new(settings.script_concurrency),
        breakers: Breakers::default(),
        registry,
        runner,
        store,
        presence,
        publishers,
        traces: traces.clone(),
        links: [consuming.clone(), publishing],
        meters: HandlerMeters::new(settings.handler_series),
        watched: Watched::new(settings.kill_grace),
        deliveries,
        draining: stop.clone(),
        cut: CancellationToken::new(),
    });
    report::report_worker(&worker, &worker.presence, &settings);
    let consumed = intake::consume(&settings, consuming, &worker, &stop).await;
    // After the failure of a consumer, `stop` is not cancelled yet: end the publishers and the registry as
    // well.
    stop.cancel();
    // This is the last clone of the worker. Its publishers end once everything is confirmed.
    drop(worker);
    let published = all_confirmed(publisher_tasks).await;
    links_stop.cancel();
    consuming_task.await?;
    publishing_task.await?;
    keeping.await?;
    if let Some(traces) = traces {
        traces.end().await;
    }
    info!("worker drained");
    consumed.and(published)
}

/// Waits at most five seconds for the publishers to end, which they do when all their messages are confirmed.
async fn all_confirmed(mut publishers: JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    let all = async {
        while let Some(ended) = publishers.join_next().await {
            ended??;
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(5), all).await.unwrap_or_else(|_| {
        warn!(
            "the broker did not confirm all messages in time; events with unconfirmed messages will run again"
        );
        Ok(())
    })
}

fn start_publishers(link: &Link, stop: &CancellationToken) -> (Publishers, JoinSet<anyhow::Result<()>>) {
    let mut tasks = JoinSet::new();
    // Replies get a connection of their own if possible: the publisher of the event chooses `reply_to`. If
    // the broker closes the connection because of it, only replies are affected.
    let for_replies = link.beside();
    let mut start = |purpose, care, own: Option<OwnLink>| {
        let link = own.as_ref().map_or(link, |own| &own.link).clone();
        let (publisher, task) = Publisher::start(link, purpose, care, stop.clone());
        tasks.spawn(async move {
            // Keep the connection open until everything is confirmed.
            let _own = own;
            task.await?
        });
        publisher
    };
    let publishers = Publishers {
        results: start("results", ConfirmMode::Required, None),
        copies: start("retry copies", ConfirmMode::Required, None),
        letters: start("dead letters", ConfirmMode::Required, None),
        replies: start("replies", ConfirmMode::BestEffort, for_replies),
    };
    (publishers, tasks)
}
