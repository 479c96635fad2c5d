//! The recorder role: writes executions and dead letters to Postgres.
//!
//! It takes batches from the queues, writes each with one statement, and acknowledges them after the commit.
//! Rows are idempotent on their id, so a redelivered message is stored once. While Postgres is away,
//! everything waits in the queues.

mod batch;
mod entry;
mod housekeeping;
mod queue_metrics;
mod report;
mod write;

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    broker::{
        BrokerSettings, ConfirmMode, Consumer, Link, Publisher, QueueConfig, QueueOwner, RecorderQueue,
    },
    config,
    domain::execution::WorkerId,
    process_id::this_process,
    status_reporter::StatusReporter,
    store::Store,
};
use housekeeping::Retention;
use report::RecorderStats;

/// What a recorder is started with.
#[derive(Clone)]
pub struct RecorderSettings {
    pub config: config::Recorder,
    pub broker: BrokerSettings,
}

/// If PostgreSQL is away for this long, the consumers are cancelled and their deliveries are requeued.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);
const RETRY_DELAY: Duration = Duration::from_secs(1);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The state of a running recorder.
struct Recorder {
    settings: RecorderSettings,
    store: Store,
    id: WorkerId,
    /// Publishes dead letters for results that cannot be stored, and retry copies that missed their queue.
    publisher: Publisher,
    link: Link,
    stats: Arc<RecorderStats>,
    stop: CancellationToken,
}

/// Runs a recorder until `stop`, then writes what it holds and ends.
pub async fn run(
    settings: RecorderSettings,
    store: Store,
    status_reporter: &StatusReporter,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let links_stop = CancellationToken::new();
    let supervise = |purpose| Link::supervise(settings.broker.clone(), purpose, links_stop.clone());
    let (consuming, consuming_task) = supervise("recorder: consume");
    let (publishing, publishing_task) = supervise("recorder: publish");
    let (publisher, publisher_task) =
        Publisher::start(publishing, "what the recorder sends on", ConfirmMode::Required, stop.clone());
    let retention = Retention {
        executions: settings.config.retention_days,
        dead_letters: settings.config.dead_letter_retention_days,
    };
    let housekeeping =
        tokio::spawn(housekeeping::keep(store.clone(), retention, settings.config.index_text, stop.clone()));

    let metrics_task =
        tokio::spawn(queue_metrics::keep(store.clone(), settings.broker.clone(), stop.clone()));

    let stats = Arc::new(RecorderStats::default());
    stats.add_to_reports(status_reporter, consuming.clone());
    let (id, link) = (this_process(), consuming);
    let recorder = Recorder { settings, store, id, publisher, link, stats, stop: stop.clone() };
    while !stop.is_cancelled() {
        recorder.consume().await;
        if !stop.is_cancelled() {
            recorder.wait_for_postgres().await;
        }
    }
    drop(recorder);
    let ended = tokio::time::timeout(Duration::from_secs(5), publisher_task).await;
    links_stop.cancel();
    consuming_task.await?;
    publishing_task.await?;
    housekeeping.await?;
    metrics_task.await?;
    info!("recorder drained");
    ended.unwrap_or(Ok(Ok(())))?
}

impl Recorder {
    /// Consumes and writes until `stop`, or until Postgres was away for too long.
    async fn consume(&self) {
        let session = self.stop.child_token();
        let prefetch = u16::try_from(self.settings.config.batch_size.saturating_mul(2)).unwrap_or(u16::MAX);
        let (sender, entries) = mpsc::channel(usize::from(prefetch) * 3);
        let consumers: Vec<_> = self
            .queues()
            .into_iter()
            .map(|(queue, name)| {
                let queue_config = QueueConfig { queue: name, prefetch, owner: QueueOwner::Shared };
                let consumer = Consumer {
                    link: self.link.clone(),
                    queue_config,
                    renew: Arc::default(),
                    taking: Arc::default(),
                };
                let (sender, session) = (sender.clone(), session.clone());
                tokio::spawn(consumer.run(session, move |delivery| {
                    // The channel holds as much as all prefetches together. If it is full or closed, dropping
                    // the delivery requeues it.
                    let _ = sender.try_send((queue, delivery));
                }))
            })
            .collect();
        drop(sender);
        self.write_batches(entries, &session).await;
        for consumer in consumers {
            // A consumer ends when its deliveries are settled, which never happens if the broker is away.
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, consumer).await;
        }
    }

    fn queues(&self) -> Vec<(RecorderQueue, String)> {
        let names = &self.settings.broker.topology.names;
        let mut queues = vec![
            (RecorderQueue::ExecutionLog, names.execution_log()),
            (RecorderQueue::Unrouted, names.unrouted()),
        ];
        if self.settings.config.drain_dead_letters {
            queues.push((RecorderQueue::DeadLetters, names.dead_letters()));
        }
        queues
    }

    async fn wait_for_postgres(&self) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(RETRY_DELAY) => {}
            }
            if self.store.ping().await.is_ok() {
                return info!("PostgreSQL answers again: recorder resumed");
            }
        }
    }
}
