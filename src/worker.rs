//! The role that takes events and runs their handlers.
//!
//! Its hot path touches no database: handlers come from the registry, in memory.

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
    domain::execution::WorkerId,
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

pub use registry::Defaults;

/// What a worker needs to know.
pub struct WorkerSettings {
    pub broker: BrokerSettings,
    /// Deliveries at a time, per event queue.
    pub concurrency: u16,
    pub max_event_bytes: usize,
    pub record_unhandled: bool,
    /// For how long an event is remembered, to know it when it is published again.
    pub deduplicate: Option<Duration>,
    /// What was begun alone this often, and took its worker down, is given up.
    pub crash_limit: u32,
    /// How long running handlers may take to end at a shutdown.
    pub drain_timeout: Duration,
    /// Scripts at a time.
    pub script_concurrency: usize,
    /// What a script gets between TERM and KILL, beyond its timeout.
    pub kill_grace: Duration,
    /// Handlers whose attempts are counted one by one.
    pub handler_series: usize,
    /// Topic patterns of the events that are consumed.
    pub events: Vec<String>,
    pub defaults: Defaults,
    /// None: no spans are made.
    pub traces: Option<TraceSettings>,
}

/// What every running delivery shares.
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
    /// Everything that runs.
    deliveries: TaskTracker,
    /// A shutdown has begun: start no further handler.
    draining: CancellationToken,
    /// The drain ran out of time: abandon what runs.
    cut: CancellationToken,
}

/// Each kind of message has a channel of its own: one bad publish fails all that are in flight on its channel.
struct Publishers {
    results: Publisher,
    copies: Publisher,
    letters: Publisher,
    replies: Publisher,
}

/// Runs a worker until `stop`, then drains it.
///
/// # Errors
/// If a consumer ended by itself. That the registry could not be loaded before `stop` is none: then
/// there is nothing to drain.
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
    // After a fault the others are still to be told.
    stop.cancel();
    // The last clone of the worker is dropped here: its publishers end when all is confirmed.
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

/// Gives the broker a few seconds.
async fn all_confirmed(mut publishers: JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    let all = async {
        while let Some(ended) = publishers.join_next().await {
            ended??;
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(5), all).await.unwrap_or_else(|_| {
        warn!("the broker did not confirm everything in time; what it has not will be run again");
        Ok(())
    })
}

fn start_publishers(link: &Link, stop: &CancellationToken) -> (Publishers, JoinSet<anyhow::Result<()>>) {
    let mut tasks = JoinSet::new();
    // Where an answer goes is the publisher's word: should the broker close the connection over it, nothing else is on that.
    let for_replies = link.beside();
    let mut start = |purpose, care, own: Option<OwnLink>| {
        let link = own.as_ref().map_or(link, |own| &own.link).clone();
        let (publisher, task) = Publisher::start(link, purpose, care, stop.clone());
        tasks.spawn(async move {
            // Until everything is confirmed.
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
