//! Which event queues are consumed: those of the catalogue that match, following its changes.

use std::{collections::HashMap, sync::Arc};

use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Worker, WorkerSettings, process};
use crate::{
    broker::{Consumer, Intake, Link, Source},
    domain::event::EventName,
};

/// One consumed event queue.
struct Subscription {
    source: Source,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Consumes until `stop`, and returns when everything that was taken is settled; what is not by
/// the end of the drain time is cut.
pub(super) async fn consume(
    settings: &WorkerSettings,
    link: Link,
    worker: &Arc<Worker>,
    stop: &CancellationToken,
    cut: &CancellationToken,
) {
    let mut changes = worker.registry.changes();
    let mut subscriptions: HashMap<EventName, Subscription> = HashMap::new();
    while !stop.is_cancelled() {
        changes.mark_unchanged();
        subscribe(&mut subscriptions, settings, &link, worker, stop);
        tokio::select! { () = stop.cancelled() => {}, _ = changes.changed() => {} }
    }
    drop(link);
    info!("draining: no new events are taken");
    let tasks = subscriptions.into_values().map(|s| s.task);
    let mut drained = futures_util::future::join_all(tasks);
    if timeout(settings.drain_timeout, &mut drained).await.is_err() {
        warn!(after = ?settings.drain_timeout, "handlers still run and are cut; their events go back (worker.drain_timeout)");
        cut.cancel();
        drained.await;
    }
}

fn subscribe(
    subscriptions: &mut HashMap<EventName, Subscription>,
    settings: &WorkerSettings,
    link: &Link,
    worker: &Arc<Worker>,
    stop: &CancellationToken,
) {
    let snapshot = worker.registry.snapshot();
    link.topology().set_events(snapshot.active_events());
    for (name, removed) in snapshot.event_types() {
        if !settings.events.iter().any(|pattern| name.matches(pattern)) {
            continue;
        }
        let source = if removed { Source::RemovedEvent } else { Source::Event(name.clone()) };
        match subscriptions.get(name) {
            Some(subscription) if subscription.source == source => continue,
            Some(subscription) => subscription.stop.cancel(),
            None => {}
        }
        let intake = Intake {
            queue: worker.names.event_queue(name),
            prefetch: settings.concurrency,
            source: source.clone(),
        };
        let consumer = Consumer { link: link.clone(), intake };
        let stop = stop.child_token();
        let task = tokio::spawn(consume_event(consumer, name.clone(), Arc::clone(worker), stop.clone()));
        subscriptions.insert(name.clone(), Subscription { source, stop, task });
    }
}

async fn consume_event(consumer: Consumer, name: EventName, worker: Arc<Worker>, stop: CancellationToken) {
    consumer
        .run(stop, |delivery| {
            let (worker, name) = (Arc::clone(&worker), name.clone());
            tokio::spawn(async move { process::process(&worker, &name, delivery).await });
        })
        .await;
}
