//! Exchanges, queues and bindings, declared idempotently on every new connection.

use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use lapin::{
    Connection, ExchangeKind,
    types::{AMQPValue, FieldTable},
};
use parking_lot::Mutex;
use tracing::warn;

use super::{
    declare::{ArgumentMismatch, Declared, Declarer, within},
    delay,
    installation::{Installation, mark},
    names::{Names, exchange_arguments},
};
use crate::{config::QueueType, domain::event::EventName};

/// What is declared on every new connection.
#[derive(Clone, Debug)]
pub struct Topology {
    pub names: Names,
    pub queue_type: QueueType,
    pub installation: Installation,
    /// The event types of the catalogue, as far as they are known.
    events: Arc<ArcSwap<Vec<EventName>>>,
    /// Mismatches that were logged: each is logged once, not at every reconnect.
    logged: Arc<Mutex<Vec<ArgumentMismatch>>>,
}

impl Topology {
    pub fn new(prefix: &str, queue_type: QueueType) -> Self {
        let (names, installation) = (Names::new(prefix), Installation::default());
        Self { names, queue_type, installation, events: Arc::default(), logged: Arc::default() }
    }

    /// Sets the event types whose queues are declared from the next connection on.
    pub fn set_events(&self, events: Vec<EventName>) {
        self.events.store(Arc::new(events));
    }

    /// The event types that are known now.
    pub fn events(&self) -> Vec<EventName> {
        self.events.load().to_vec()
    }

    /// Declares everything that is shared, and the queues of the known event types.
    pub async fn declare(&self, connection: &Connection) -> anyhow::Result<Declared> {
        self.mark(connection).await?;
        self.declare_all(Declarer::new(connection)).await
    }

    /// Marks the prefix as owned by this installation, if its id is known.
    ///
    /// # Errors
    /// [`OtherInstallation`](super::OtherInstallation), or an error of the broker.
    pub async fn mark(&self, connection: &Connection) -> anyhow::Result<()> {
        match self.installation.get() {
            Some(id) => mark(connection, &self.names, id).await,
            None => Ok(()),
        }
    }

    /// Compares what exists with the design, and creates nothing.
    pub async fn inspect(&self, connection: &Connection) -> anyhow::Result<Declared> {
        self.declare_all(Declarer::inspecting(connection)).await
    }

    async fn declare_all(&self, mut declarer: Declarer<'_>) -> anyhow::Result<Declared> {
        self.declare_shared(&mut declarer).await.context("cannot declare the shared exchanges and queues")?;
        for event in self.events.load().iter() {
            self.declare_event_on(&mut declarer, event).await?;
        }
        Ok(self.finish(declarer).await)
    }

    /// Declares the queue of one event type.
    pub async fn declare_event(
        &self,
        connection: &Connection,
        event: &EventName,
    ) -> anyhow::Result<Declared> {
        let mut declarer = Declarer::new(connection);
        self.declare_event_on(&mut declarer, event).await?;
        Ok(self.finish(declarer).await)
    }

    async fn declare_shared(&self, declarer: &mut Declarer<'_>) -> anyhow::Result<()> {
        let names = &self.names;
        let unrouted = names.unrouted();
        declarer.exchange(&unrouted, ExchangeKind::Fanout, FieldTable::default()).await?;
        for exchange in [names.events(), names.results(), names.dead_letters()] {
            declarer.exchange(&exchange, ExchangeKind::Topic, exchange_arguments(&unrouted)).await?;
        }
        for (queue, exchange) in [
            (unrouted.clone(), unrouted),
            (names.execution_log(), names.results()),
            (names.dead_letters(), names.dead_letters()),
        ] {
            declarer.queue(&queue, self.queue_type.consumed_arguments()).await?;
            declarer.bind_queue(&queue, &exchange, "#").await?;
        }
        delay::declare(declarer, names, self.queue_type).await
    }

    async fn declare_event_on(&self, declarer: &mut Declarer<'_>, event: &EventName) -> anyhow::Result<()> {
        let names = &self.names;
        let queue = names.event_queue(event);
        let mut arguments = self.queue_type.dead_lettering_arguments(&names.dead_letters());
        if self.queue_type == QueueType::Quorum {
            // A last backstop: the worker gives up a crashing event long before.
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(100));
        }
        declarer.queue(&queue, arguments).await?;
        declarer.bind_queue(&queue, &names.events(), event.as_str()).await?;
        declarer.bind_queue(&queue, &names.delay_deliver(), &delay::delivery_binding(event)).await
    }

    /// Unbinds the queue of `event` from the events exchange. Its messages stay, and are consumed.
    pub async fn unbind_event(&self, connection: &Connection, event: &EventName) -> anyhow::Result<()> {
        let channel = connection.create_channel().await?;
        let queue = self.names.event_queue(event);
        let unbinding = channel.queue_unbind(
            queue.as_str().into(),
            self.names.events().into(),
            event.as_str().into(),
            FieldTable::default(),
        );
        within(unbinding).await.with_context(|| format!("cannot unbind the queue {queue}"))
    }

    async fn finish(&self, declarer: Declarer<'_>) -> Declared {
        let result = declarer.finish().await;
        let mut logged = self.logged.lock();
        for mismatch in &result.mismatches {
            if !logged.contains(mismatch) {
                warn!(
                    queue = mismatch.name,
                    difference = mismatch.what,
                    "exists with different arguments and is used as it is; to correct it, let it run empty and delete it: it is then declared again"
                );
                logged.push(mismatch.clone());
            }
        }
        result
    }
}
