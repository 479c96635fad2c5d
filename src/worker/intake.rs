//! Starts and stops the consumers: one for each event type of the catalogue that matches a pattern.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use tokio::{
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{deliver, queue_state::QueueState, shared::Shared};
use crate::{
    broker::{Consumer, Link, QueueConfig, QueueOwner},
    domain::event::EventName,
};

/// The consumer of one event queue.
struct Subscription {
    owner: QueueOwner,
    stop: CancellationToken,
}

/// How long to wait for requeues after the drain timeout.
const REQUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// Consumes until `stop`, then drains: returns when every delivery is settled, and aborts handlers that still
/// run at the drain timeout.
///
/// # Errors
/// If a consumer ended by itself. That would be a bug, and the event type would no longer be consumed.
pub(super) async fn consume(
    shared: &Arc<Shared>,
    link: Link,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut changes = shared.context.registry.changes();
    let mut subscriptions: HashMap<EventName, Subscription> = HashMap::new();
    let mut consumers = JoinSet::new();
    let mut result = Ok(());
    while !stop.is_cancelled() && result.is_ok() {
        changes.mark_unchanged();
        let before = subscriptions.len();
        subscribe(&mut subscriptions, &mut consumers, &link, shared);
        if subscriptions.is_empty() {
            warn!(patterns = ?shared.settings.events, "no event type of the catalogue matches the patterns: consuming nothing (serve --events)");
        } else if subscriptions.len() != before {
            let handlers = shared.context.registry.snapshot().enabled_count();
            info!(events = subscriptions.len(), handlers, "consuming");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            _ = changes.changed() => {}
            Some(ended) = consumers.join_next() => result = is_expected(ended),
        }
    }
    drop(link);
    for subscription in subscriptions.values() {
        subscription.stop.cancel();
    }
    info!(running = shared.deliveries.len(), "draining: taking no new events");
    drain(shared, consumers).await;
    result
}

/// Waits for all running deliveries, also for those whose connection was lost.
async fn drain(shared: &Shared, mut consumers: JoinSet<Ended>) {
    let drain_timeout = shared.settings.config.worker.drain_timeout;
    shared.deliveries.close();
    let mut drained = pin!(async {
        while consumers.join_next().await.is_some() {}
        shared.deliveries.wait().await;
    });
    if timeout(drain_timeout, &mut drained).await.is_err() {
        warn!(after = ?drain_timeout, "drain timeout reached: cutting off running handlers and requeueing their events (worker.drain_timeout)");
        shared.abort.cancel();
        let _ = timeout(REQUEUE_TIMEOUT, drained).await;
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
    link: &Link,
    shared: &Arc<Shared>,
) {
    let concurrency = shared.settings.config.worker.concurrency;
    let snapshot = shared.context.registry.snapshot();
    link.topology().set_events(snapshot.active_events());
    for (name, removed) in snapshot.event_types() {
        if !shared.settings.events.iter().any(|pattern| name.matches(pattern)) {
            continue;
        }
        let owner = if removed { QueueOwner::RemovedEvent } else { QueueOwner::Event(name.clone()) };
        match subscriptions.get(name) {
            Some(subscription) if subscription.owner == owner => continue,
            Some(subscription) => subscription.stop.cancel(),
            None => {}
        }
        let queue = Arc::new(QueueState::new(name.clone(), concurrency));
        let (renew, taking) = (Arc::clone(&queue.renew), Arc::clone(&queue.taking));
        let queue_config = QueueConfig {
            queue: shared.context.outbox.names.event_queue(name),
            prefetch: concurrency,
            owner: owner.clone(),
        };
        let consumer = Consumer { link: link.clone(), queue_config, renew, taking };
        let stop = CancellationToken::new();
        consumers.spawn(consume_event(consumer, queue, Arc::clone(shared), stop.clone()));
        subscriptions.insert(name.clone(), Subscription { owner, stop });
    }
}

async fn consume_event(
    consumer: Consumer,
    queue: Arc<QueueState>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) -> Ended {
    let may_end = consumer.queue_config.owner == QueueOwner::RemovedEvent;
    let handle = |delivery| {
        let (running, queue) = (Arc::clone(&shared), Arc::clone(&queue));
        shared.deliveries.spawn(async move { deliver::process(&running, &queue, delivery).await });
    };
    tokio::select! {
        () = consumer.run(stop.clone(), handle) => {}
        () = shared.watchdog.watch(&queue) => {}
    }
    Ended { event: queue.event.clone(), expected: may_end || stop.is_cancelled() }
}
