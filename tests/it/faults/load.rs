//! The platform: publishes numbered events at a steady rate, and remembers which of them the broker confirmed.
//!
//! What was not confirmed when the connection was lost is published again under the same `message_id`, as a platform
//! must that wants to lose nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::task::JoinHandle;

use super::receivers::EVENT;
use crate::support::{World, envelope, eventually};

/// With more events than this in the queue the platform waits: a recovery is to be seen on any machine, and not how long
/// a slow one needs for what piled up.
const MAX_QUEUE_DEPTH: u32 = 300;

/// Publishes that wait for their confirm at a time.
const WINDOW: usize = 256;

/// The running load.
pub struct Load {
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    url: String,
    exchange: String,
    period: Duration,
    /// Each event is published so many times.
    times: usize,
    next: AtomicU64,
    /// At least so many events are published.
    min_events: u64,
    /// No more than needed.
    ending: AtomicBool,
    confirmed: Mutex<BTreeMap<u64, Published>>,
}

/// What the platform knows of an event that the broker confirmed.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Whether the first try was not confirmed: the broker may have it twice.
    pub was_republished: bool,
}

type PublishResult = (u64, lapin::Result<bool>);

pub fn event_id(number: u64) -> String {
    format!("e{number}")
}

impl Load {
    pub fn start(world: &World, per_second: u32, min_events: u64, times: usize) -> Self {
        let state = Arc::new(State {
            url: format!("{}?heartbeat=5", world.amqp_url),
            exchange: world.broker.name("events"),
            period: Duration::from_secs(1) / per_second,
            times,
            next: AtomicU64::new(0),
            min_events,
            ending: AtomicBool::new(false),
            confirmed: Mutex::default(),
        });
        let task = tokio::spawn(publish(Arc::clone(&state)));
        Self { state, task }
    }

    pub fn count(&self) -> usize {
        self.state.confirmed.lock().expect("unpoisoned").len()
    }

    /// The number of the event that is published next.
    pub fn next(&self) -> u64 {
        self.state.next.load(Ordering::SeqCst)
    }

    /// Waits until `more` further events are confirmed.
    pub async fn wait_for(&self, more: usize) {
        let wanted = self.count() + more;
        eventually(&format!("{wanted} events are confirmed"), || async { self.count() >= wanted }).await;
    }

    /// Publishes what is missing, waits for every confirm, and gives what was confirmed.
    pub async fn finish(&mut self) -> BTreeMap<u64, Published> {
        self.state.ending.store(true, Ordering::SeqCst);
        let ended = tokio::time::timeout(Duration::from_mins(3), &mut self.task).await;
        ended.expect("the broker confirms what is published").expect("the load does not panic");
        self.state.confirmed.lock().expect("unpoisoned").clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn publish(state: Arc<State>) {
    let mut republish = Vec::new();
    loop {
        if let Ok(connection) = Connection::connect(&state.url, ConnectionProperties::default()).await
            && let Ok(channel) = connection.create_channel().await
            && channel.confirm_select(ConfirmSelectOptions::default()).await.is_ok()
        {
            republish = state.session(&connection, &channel, republish).await;
            if republish.is_empty() && state.is_over() {
                let _ = connection.close(200, "done".into()).await;
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.ending.load(Ordering::SeqCst) && self.next.load(Ordering::SeqCst) >= self.min_events
    }

    /// Publishes until the end or the loss of the connection; gives what is unconfirmed then.
    async fn session(&self, connection: &Connection, channel: &Channel, republish: Vec<u64>) -> Vec<u64> {
        let repeated: BTreeSet<u64> = republish.iter().copied().collect();
        let mut unconfirmed: FuturesUnordered<BoxFuture<PublishResult>> =
            republish.into_iter().map(|number| self.publish_event(channel, number).boxed()).collect();
        let mut tick = tokio::time::interval(self.period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut depth_check = tokio::time::interval(Duration::from_millis(250));
        depth_check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let (mut lost, mut is_backlogged) = (Vec::new(), false);
        loop {
            tokio::select! {
                Some((number, result)) = unconfirmed.next() => match result {
                    Ok(true) => {
                        let published = Published { was_republished: repeated.contains(&number) };
                        self.confirmed.lock().expect("unpoisoned").insert(number, published);
                    }
                    Ok(false) => unconfirmed.push(self.publish_event(channel, number).boxed()),
                    Err(_) => lost.push(number),
                },
                _ = depth_check.tick(), if lost.is_empty() => is_backlogged = self.is_backlogged(connection).await,
                _ = tick.tick(), if lost.is_empty() && !is_backlogged && unconfirmed.len() < WINDOW && !self.is_over() => {
                    let number = self.next.fetch_add(1, Ordering::SeqCst);
                    unconfirmed.push(self.publish_event(channel, number).boxed());
                }
                else => {}
            }
            if unconfirmed.is_empty() && (!lost.is_empty() || self.is_over()) {
                return lost;
            }
        }
    }

    /// Whether the queue holds much; not if nobody knows.
    async fn is_backlogged(&self, connection: &Connection) -> bool {
        let depth = async {
            let channel = connection.create_channel().await.ok()?;
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let queue = format!("{}.{EVENT}", self.exchange);
            let queue =
                channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.ok()?;
            let _ = channel.close(200, "seen".into()).await;
            Some(queue.message_count())
        };
        let depth = tokio::time::timeout(Duration::from_secs(1), depth).await;
        depth.ok().flatten().is_some_and(|depth| depth > MAX_QUEUE_DEPTH)
    }

    /// One event, until the broker says yes (true) or no to each of its publishes.
    async fn publish_event(&self, channel: &Channel, number: u64) -> PublishResult {
        let body = envelope(EVENT, number, &serde_json::json!({"number": number}));
        for _ in 0..self.times {
            let properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_message_id(event_id(number).as_str().into());
            let (exchange, key) = (self.exchange.as_str().into(), EVENT.into());
            let options = BasicPublishOptions::default();
            let confirmed = async {
                channel.basic_publish(exchange, key, options, body.as_bytes(), properties).await?.await
            };
            match confirmed.await {
                Ok(confirmation) if confirmation.is_ack() => {}
                Ok(_) => return (number, Ok(false)),
                Err(error) => return (number, Err(error)),
            }
        }
        (number, Ok(true))
    }
}
