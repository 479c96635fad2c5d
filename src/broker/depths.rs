//! Reads queue depths, for the status of the installation.
//!
//! It declares each queue passively, which needs neither the management plugin nor further rights. Concurrent callers
//! share one request, and its result is cached for two seconds. The counts exclude messages that a consumer holds
//! unsettled: the broker does not report these in a declaration.

use std::{sync::Arc, time::Duration};

use lapin::Connection;
use serde::Serialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{
    client::{Depth, depth_of},
    connect::BrokerSettings,
    declare::within,
    delay,
    names::Names,
};
use crate::domain::event::EventName;

/// How long a result is cached.
const CACHE_TTL: Duration = Duration::from_secs(2);
/// Timeout for reading all queues.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A queue of provisiond, and its depth.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct QueueDepth {
    pub queue: String,
    #[serde(flatten)]
    pub kind: QueueKind,
    /// Null if the queue does not exist.
    pub depth: Option<Depth>,
}

/// What a queue is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum QueueKind {
    /// Events that wait for a worker.
    Event {
        event: EventName,
    },
    /// Results that wait for a recorder.
    ExecutionLog,
    DeadLetters,
    Unrouted,
    /// Retries that wait in the level of the delay ladder with this delay.
    Delay {
        seconds: u32,
    },
}

/// All queue depths, read at one time.
#[derive(Debug, Default)]
pub struct Depths {
    /// Event queues in the requested order, then the shared queues, then the delay ladder from its shortest delay.
    pub queues: Vec<QueueDepth>,
}

/// Reads queue depths on a connection of its own, which it opens when needed.
pub struct QueueWatch {
    settings: BrokerSettings,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    connection: Option<Connection>,
    events: Vec<EventName>,
    last: Option<(Instant, Arc<Depths>)>,
}

impl Depths {
    /// Retries that wait in the delay ladder, all levels together.
    pub fn retries_waiting(&self) -> u64 {
        let levels = self.queues.iter().filter(|queue| matches!(queue.kind, QueueKind::Delay { .. }));
        levels.filter_map(|queue| queue.depth).map(|depth| u64::from(depth.messages)).sum()
    }
}

impl QueueWatch {
    pub fn new(settings: BrokerSettings) -> Self {
        Self { settings, cache: Mutex::default() }
    }

    /// The queues of these events and the shared queues, at most two seconds old.
    ///
    /// # Errors
    /// If the broker cannot be reached, or does not answer in time.
    pub async fn look(&self, events: &[EventName]) -> anyhow::Result<Arc<Depths>> {
        let mut cache = self.cache.lock().await;
        if let Some((read_at, depths)) = &cache.last
            && read_at.elapsed() < CACHE_TTL
            && cache.events == events
        {
            return Ok(Arc::clone(depths));
        }
        // Put back only on success: after an error, or if the caller is cancelled, the next call connects again.
        let connection = cache.connection.take();
        let result = timeout(REQUEST_TIMEOUT, self.read(connection, events)).await;
        let (connection, depths) = result.map_err(|_| {
            anyhow::anyhow!("the broker did not report its queue depths within {REQUEST_TIMEOUT:?}")
        })??;
        let depths = Arc::new(depths);
        *cache = Cache {
            connection: Some(connection),
            events: events.to_vec(),
            last: Some((Instant::now(), Arc::clone(&depths))),
        };
        Ok(depths)
    }

    /// The names of the queues that [`QueueWatch::look`] reads.
    pub fn names(&self, events: &[EventName]) -> Vec<String> {
        queues(&self.settings.topology.names, events).into_iter().map(|(queue, _)| queue).collect()
    }

    async fn read(
        &self,
        connection: Option<Connection>,
        events: &[EventName],
    ) -> anyhow::Result<(Connection, Depths)> {
        let connection = match connection.filter(|connection| connection.status().connected()) {
            Some(connection) => connection,
            None => self.settings.dial("look at queues").await?,
        };
        let mut channel = None;
        let mut depths = Depths::default();
        for (queue, kind) in queues(&self.settings.topology.names, events) {
            let depth = depth_of(&connection, &mut channel, &queue).await?;
            depths.queues.push(QueueDepth { queue, kind, depth });
        }
        if let Some(channel) = channel {
            within(channel.close(200, "looked".into())).await?;
        }
        Ok((connection, depths))
    }
}

fn queues(names: &Names, events: &[EventName]) -> Vec<(String, QueueKind)> {
    let mut queues: Vec<_> = events
        .iter()
        .map(|event| (names.event_queue(event), QueueKind::Event { event: event.clone() }))
        .collect();
    queues.extend([
        (names.execution_log(), QueueKind::ExecutionLog),
        (names.dead_letters(), QueueKind::DeadLetters),
        (names.unrouted(), QueueKind::Unrouted),
    ]);
    queues.extend(
        (0..delay::LEVELS).map(|level| (names.delay_level(level), QueueKind::Delay { seconds: 1 << level })),
    );
    queues
}
