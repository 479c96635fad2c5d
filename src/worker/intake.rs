//! Starts and stops the consumers: one for each event type of the catalogue that matches a pattern.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use tokio::{
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Worker, WorkerSettings, deliver, queue_state::QueueState, watchdog};
use crate::{
    broker::{Consumer, Link, QueueConfig, QueueOwner},
    domain::event::EventName,
};

/// The consumer of one event queue.
struct Subscription {
    source: QueueOwner,
    stop: CancellationToken,
}

/// How long to wait for requeues after the drain timeout.
const CUT_TIMEOUT: Duration = Duration::from_secs(5);

/// Consumes until `stop`, then drains: returns when every delivery is settled, and aborts handlers that still
/// run at the drain timeout.
///
/// # Errors
/// If a consumer ended by itself. That would be a bug, and the event type would no longer be consumed.
pub(super) async fn consume(
    settings: &WorkerSettings,
    link: Link,
    worker: &Arc<Worker>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut changes = worker.registry.changes();
    let mut subscriptions: HashMap<EventName, Subscription> = HashMap::new();
    let mut consumers = JoinSet::new();
    let mut fault = Ok(());
    while !stop.is_cancelled() && fault.is_ok() {
        changes.mark_unchanged();
        let before = subscriptions.len();
        subscribe(&mut subscriptions, &mut consumers, settings, &link, worker);
        if subscriptions.is_empty() {
            warn!(patterns = ?settings.events, "no event type of the catalogue matches the patterns: consuming nothing (serve --events)");
        } else if subscriptions.len() != before {
            let handlers = worker.registry.snapshot().enabled_count();
            info!(events = subscriptions.len(), handlers, "consuming");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            _ = changes.changed() => {}
            Some(ended) = consumers.join_next() => fault = is_expected(ended),
        }
    }
    drop(link);
    for subscription in subscriptions.values() {
        subscription.stop.cancel();
    }
    info!(running = worker.deliveries.len(), "draining: taking no new events");
    drain(settings.drain_timeout, worker, consumers).await;
    fault
}

/// Waits for all running deliveries, also for those whose connection was lost.
async fn drain(drain_timeout: Duration, worker: &Worker, mut consumers: JoinSet<Ended>) {
    worker.deliveries.close();
    let mut drained = pin!(async {
        while consumers.join_next().await.is_some() {}
        worker.deliveries.wait().await;
    });
    if timeout(drain_timeout, &mut drained).await.is_err() {
        warn!(after = ?drain_timeout, "drain timeout reached: cutting off running handlers and requeueing their events (worker.drain_timeout)");
        worker.cut.cancel();
        let _ = timeout(CUT_TIMEOUT, drained).await;
    }
}

/// A consumer that ended, and whether that was expected.
struct Ended {
    event: EventName,
    expected: bool,
}

fn is_expected(ended: Result<Ended, JoinError>) -> anyhow::Result<()> {
    match ended {
        Ok(Ended { expected: true, .. }) => Ok(()),
        Ok(Ended { event, .. }) => Err(anyhow::anyhow!("the consumer of {event} ended unexpectedly")),
        Err(error) => Err(anyhow::Error::new(error).context("a consumer panicked")),
    }
}

fn subscribe(
    subscriptions: &mut HashMap<EventName, Subscription>,
    consumers: &mut JoinSet<Ended>,
    settings: &WorkerSettings,
    link: &Link,
    worker: &Arc<Worker>,
) {
    let snapshot = worker.registry.snapshot();
    link.topology().set_events(snapshot.active_events());
    for (name, removed) in snapshot.event_types() {
        if !settings.events.iter().any(|pattern| name.matches(pattern)) {
            continue;
        }
        let source = if removed { QueueOwner::RemovedEvent } else { QueueOwner::Event(name.clone()) };
        match subscriptions.get(name) {
            Some(subscription) if subscription.source == source => continue,
            Some(subscription) => subscription.stop.cancel(),
            None => {}
        }
        let queue = worker.names.event_queue(name);
        let intake = QueueConfig { queue, prefetch: settings.concurrency, owner: source.clone() };
        let lane = Arc::new(QueueState::new(name.clone(), settings.concurrency));
        let (renew, taking) = (Arc::clone(&lane.renew), Arc::clone(&lane.taking));
        let consumer = Consumer { link: link.clone(), queue_config: intake, renew, taking };
        let stop = CancellationToken::new();
        consumers.spawn(consume_event(consumer, lane, Arc::clone(worker), stop.clone()));
        subscriptions.insert(name.clone(), Subscription { source, stop });
    }
}

async fn consume_event(
    consumer: Consumer,
    lane: Arc<QueueState>,
    worker: Arc<Worker>,
    stop: CancellationToken,
) -> Ended {
    let may_end = consumer.queue_config.owner == QueueOwner::RemovedEvent;
    let take = |delivery| {
        let (running, lane) = (Arc::clone(&worker), Arc::clone(&lane));
        worker.deliveries.spawn(async move { deliver::process(&running, &lane, delivery).await });
    };
    tokio::select! {
        () = consumer.run(stop.clone(), take) => {}
        () = watchdog::watch(&worker, &lane) => {}
    }
    Ended { event: lane.event.clone(), expected: may_end || stop.is_cancelled() }
}
