//! A consumer that survives any number of lost connections.
//!
//! Consumers share one connection. If it is lost again and again although the broker is reachable, a message in one of
//! their queues may be the cause, whatever the fault. Then each consumer opens a dedicated connection, so that such a
//! message harms no other queue, and takes one delivery at a time, then two, four and so on while the connection lasts.
//! A consumer whose own connection is stable for a while returns to the shared one.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{
    Channel,
    options::{BasicCancelOptions, BasicQosOptions},
};
use tokio::{
    sync::{Notify, mpsc},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    acker,
    connection::{Link, NoChannel, OwnLink, jittered, longer},
    declare::{RPC_TIMEOUT, consume, within},
    delivery::{Delivery, Settled},
    error::{BrokerError, is_not_found},
    held::Held,
    hindrance::Hindrance,
};
use crate::domain::event::EventName;

const RETRY_DELAY: Duration = Duration::from_millis(500);
/// A consumer that received nothing for this long, and holds nothing, starts again. A broker can silently lose a
/// consumer or an acknowledgement (seen on a cluster that lost its majority and recovered).
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// A connection that lasts this long is stable: a message that ends connections is delivered first each time, and ends
/// them at once.
const STABLE_AFTER: Duration = Duration::from_secs(20);
/// Short-lived connections in a row after which a consumer is isolated. A rolling restart of the broker causes a few.
const MAX_LOSSES: u32 = 3;

/// Which queue to consume, and how.
#[derive(Clone, Debug)]
pub struct QueueConfig {
    pub queue: String,
    /// How many deliveries may be unsettled at a time.
    pub prefetch: u16,
    pub owner: QueueOwner,
}

/// Who owns the queue. It decides what happens when the queue is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueOwner {
    /// Shared by all event types: declared again with the topology.
    Shared,
    /// The queue of an event type: declared again.
    Event(EventName),
    /// The queue of an event type that was removed: consumed until an operator deletes it.
    RemovedEvent,
}

/// Consumes one queue.
pub struct Consumer {
    pub link: Link,
    pub queue_config: QueueConfig,
    /// Notify it to restart a stuck consumer: all its unsettled deliveries are requeued.
    pub renew: Arc<Notify>,
    /// The current prefetch; the consumer updates it for the watchdog.
    pub taking: Arc<AtomicUsize>,
}

/// Why a session ended.
enum End {
    Stopped,
    /// Nothing was received, and nothing is unsettled.
    Idle,
    /// Its own connection was stable. Running deliveries are settled there, while it consumes on the shared one.
    Stable,
    Lost(String),
}

/// One channel and its consumer.
struct Session {
    channel: Channel,
    consumer: lapin::Consumer,
    settled: mpsc::UnboundedSender<Settled>,
    acker: JoinHandle<lapin::Result<()>>,
    held: Held,
    /// Deliveries received since the prefetch was set.
    received: u16,
    /// When the session is idle, if nothing was received until then.
    idle_at: Instant,
    /// When the connection counts as stable, and allows more.
    stable_at: Instant,
}

/// A prefetch to continue with, and why.
#[derive(Clone, Copy)]
enum Prefetch {
    /// The size of the messages.
    Size(u16),
    /// A message of the queue may end the connection, which lasts so far.
    Careful(u16),
}

/// What happens next in a session.
enum Step {
    Continue,
    /// Continue with another prefetch.
    Adapt(Prefetch),
    /// End the session after the running deliveries are settled.
    End(End),
    Lost(String),
}

/// Where a consumer consumes: on the shared connection, or on a dedicated one.
#[derive(Default)]
struct Place {
    own: Option<OwnLink>,
    /// The shared connection has no free channel.
    is_full: bool,
    /// Set while it cannot consume although the connection is up.
    hindrance: Option<Hindrance>,
    /// The lower prefetch while its messages are large.
    size_prefetch: Option<u16>,
    /// The lower prefetch while a message of the queue may end the connection.
    careful_prefetch: Option<u16>,
    /// Sessions on connections that it gave up, until their deliveries are settled.
    draining: JoinSet<()>,
    /// Short-lived connections in a row.
    losses: u32,
    /// The last retry delay while it is hindered.
    last_delay: Duration,
}

impl Place {
    /// On a connection of its own, to which it need not stay.
    const fn is_isolated(&self) -> bool {
        self.own.is_some() && !self.is_full
    }

    const fn is_unusual(&self) -> bool {
        self.careful_prefetch.is_some() || self.size_prefetch.is_some() || self.is_isolated()
    }

    fn prefetch(&self, usual: u16) -> u16 {
        let by_size = self.size_prefetch.unwrap_or(usual);
        self.careful_prefetch.map_or(by_size, |careful| careful.min(by_size))
    }

    /// Counts a connection that was lost after `lasted`. Returns true if the consumer must be careful from now on.
    fn note_lost(&mut self, lasted: Duration) -> bool {
        self.losses = if lasted < STABLE_AFTER { self.losses.saturating_add(1) } else { 1 };
        self.careful_prefetch = (self.losses >= MAX_LOSSES).then_some(1);
        self.losses == MAX_LOSSES
    }

    /// The delay before the next try. It grows while the consumer is hindered.
    fn next_delay(&mut self) -> Duration {
        self.last_delay =
            if self.hindrance.is_some() { longer(self.last_delay.max(RETRY_DELAY)) } else { RETRY_DELAY };
        self.last_delay
    }

    fn hinder(&mut self, link: &Link, queue: &str, why: &str) {
        self.hindrance.get_or_insert_with(|| link.hindered(queue, why));
    }

    /// Gives up the connection of its own when the running deliveries of `session` are settled.
    fn give_up_own(&mut self, session: Session, queue: String) {
        let own = self.own.take();
        while self.draining.try_join_next().is_some() {}
        self.draining.spawn(async move {
            session.drain(&queue, End::Stable).await;
            drop(own);
        });
    }
}

impl Consumer {
    /// Passes every delivery to `take` until `stop`. Then cancels the consumer, requeues deliveries that were not
    /// taken, and returns when every delivery is settled.
    pub async fn run(self, stop: CancellationToken, take: impl FnMut(Delivery)) {
        let mut place = Place::default();
        self.consume(&mut place, stop, take).await;
        while place.draining.join_next().await.is_some() {}
    }

    async fn consume(&self, place: &mut Place, stop: CancellationToken, mut take: impl FnMut(Delivery)) {
        loop {
            let mut link = place.own.as_ref().map_or(&self.link, |own| &own.link).clone();
            let channel = tokio::select! {
                () = stop.cancelled() => return,
                channel = link.free_channel() => match channel {
                    Ok(channel) => channel,
                    Err(NoChannel::Stopped) => return,
                    Err(NoChannel::Full) => {
                        self.handle_no_channel(place);
                        tokio::time::sleep(jittered(RETRY_DELAY)).await;
                        continue;
                    }
                },
            };
            let (begun, failed_attempts, mut lost_after) = (Instant::now(), link.failed_attempts(), None);
            match self.session(channel, &link, place, &stop, &mut take).await {
                End::Stopped => return,
                End::Idle => continue,
                End::Stable => {
                    debug!(queue = self.queue_config.queue, "back on the shared connection");
                    continue;
                }
                // The supervisor logs a lost connection, once for all its users.
                End::Lost(why) if !link.is_up() => {
                    debug!(queue = self.queue_config.queue, why, "consumer lost");
                    lost_after = Some(begun.elapsed());
                }
                End::Lost(why) if place.hindrance.is_none() => {
                    info!(queue = self.queue_config.queue, why, "consumer lost: starting it again");
                }
                End::Lost(_) => {}
            }
            let delay = place.next_delay();
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(jittered(delay)) => {} }
            tokio::select! { () = stop.cancelled() => return, () = self.redeclare(&mut link, place) => {} }
            match lost_after {
                // The broker was away, so the loss accuses no message.
                Some(_) if link.failed_attempts() > failed_attempts => {}
                Some(lasted) if place.note_lost(lasted) => self.isolate(place),
                _ => {}
            }
        }
    }

    /// Opens a dedicated connection if the shared one has no free channel. If that is impossible too, records a
    /// hindrance.
    fn handle_no_channel(&self, place: &mut Place) {
        if place.own.is_none() {
            place.own = self.link.beside();
            place.is_full = true;
            if place.own.is_some() {
                return info!(
                    queue = self.queue_config.queue,
                    "no free channel (channel_max of the broker): opening a separate connection for this queue"
                );
            }
        }
        place.hinder(
            &self.link,
            &self.queue_config.queue,
            "channel_max of the broker allows too few channels",
        );
    }

    /// Isolates the consumer on a dedicated connection. If none can be opened, it stays on the shared one.
    fn isolate(&self, place: &mut Place) {
        if place.own.is_none() {
            place.own = self.link.beside();
        }
        warn!(
            queue = self.queue_config.queue,
            lost = place.losses,
            on_its_own = place.own.is_some(),
            "connection lost again and again, perhaps because of a message in a queue: taking one delivery at a time, then more while the connection lasts"
        );
    }

    async fn session(
        &self,
        channel: Channel,
        link: &Link,
        place: &mut Place,
        stop: &CancellationToken,
        take: &mut impl FnMut(Delivery),
    ) -> End {
        let consumer = match self.begin(&channel, place).await {
            Ok(consumer) => consumer,
            Err(end) => return end,
        };
        place.hindrance = None;
        let (settled, settlements) = mpsc::unbounded_channel::<Settled>();
        let acker = tokio::spawn(acker::run(channel.clone(), settlements));
        let (idle_at, stable_at) = (Instant::now() + jittered(IDLE_TIMEOUT), Instant::now() + STABLE_AFTER);
        let mut session = Session {
            channel,
            consumer,
            settled,
            acker,
            idle_at,
            stable_at,
            held: Held::default(),
            received: 0,
        };
        loop {
            match self.step(&mut session, link, place, stop, take).await {
                Step::Continue => {}
                Step::Adapt(prefetch) => {
                    self.adapt(&mut session, place, prefetch);
                    if let Err(end) = self.restart(&mut session, place).await {
                        return session.drain(&self.queue_config.queue, end).await;
                    }
                }
                Step::End(End::Stable) => {
                    session.cancel_and_requeue().await;
                    place.give_up_own(session, self.queue_config.queue.clone());
                    return End::Stable;
                }
                Step::End(end) => {
                    session.cancel_and_requeue().await;
                    return session.drain(&self.queue_config.queue, end).await;
                }
                Step::Lost(why) => {
                    session.acker.abort();
                    return End::Lost(why);
                }
            }
        }
    }

    /// Takes note of the prefetch that the session is to be restarted with. The usual one is no limit.
    fn adapt(&self, session: &mut Session, place: &mut Place, prefetch: Prefetch) {
        let (queue, usual) = (&self.queue_config.queue, self.queue_config.prefetch);
        match prefetch {
            Prefetch::Size(prefetch) => {
                place.size_prefetch = Some(prefetch).filter(|limit| *limit < usual);
                session.stable_at = Instant::now() + STABLE_AFTER;
                debug!(queue, prefetch, "prefetch adapted to the message size");
            }
            Prefetch::Careful(prefetch) => {
                place.careful_prefetch = Some(prefetch).filter(|limit| *limit < usual);
                if place.careful_prefetch.is_none() {
                    place.losses = 0;
                    info!(queue, "connection stable: consuming normally again");
                }
            }
        }
    }

    async fn step(
        &self,
        session: &mut Session,
        link: &Link,
        place: &Place,
        stop: &CancellationToken,
        take: &mut impl FnMut(Delivery),
    ) -> Step {
        tokio::select! {
            () = stop.cancelled() => Step::End(End::Stopped),
            () = sleep_until(session.idle_at) => {
                session.idle_at = Instant::now() + jittered(IDLE_TIMEOUT);
                if session.is_settled() { Step::End(End::Idle) } else { Step::Continue }
            }
            () = sleep_until(session.stable_at), if place.is_unusual() => self.step_when_stable(session, place),
            () = self.renew.notified() => {
                // Only closing the channel requeues unsettled deliveries.
                let _ = timeout(RPC_TIMEOUT, session.channel.close(200, "stuck".into())).await;
                Step::Lost("the consumer was stuck".to_owned())
            }
            ended = &mut session.acker => Step::Lost(match ended {
                Ok(Err(error)) => format!("acknowledging failed: {}", BrokerError::from(error)),
                _ => "the task that acknowledges ended".to_owned(),
            }),
            next = session.consumer.next() => match next {
                Some(Ok(raw)) => {
                    session.idle_at = Instant::now() + jittered(IDLE_TIMEOUT);
                    link.note_heard();
                    let delivery = Delivery::new(raw, session.settled.clone(), &session.held);
                    session.received = session.received.saturating_add(1);
                    match session.held.lower_prefetch(self.prefetch(place)) {
                        None => {
                            take(delivery);
                            // One more than may be held: the first ones are settled.
                            let exceeded = place.careful_prefetch.filter(|limit| session.received > *limit);
                            exceeded.map_or(Step::Continue, |limit| Step::Adapt(Prefetch::Careful(limit.saturating_mul(2))))
                        }
                        // Dropping the delivery requeues it.
                        Some(lower) => Step::Adapt(Prefetch::Size(lower)),
                    }
                }
                // lapin ends the stream without an error when the queue is deleted.
                Some(Err(error)) => Step::Lost(BrokerError::from(error).to_string()),
                None => Step::Lost("the broker cancelled the consumer: was the queue deleted?".to_owned()),
            },
        }
    }

    /// What a connection that lasts allows.
    fn step_when_stable(&self, session: &mut Session, place: &Place) -> Step {
        session.stable_at = Instant::now() + STABLE_AFTER;
        if place.careful_prefetch.is_some() {
            return Step::Adapt(Prefetch::Careful(self.queue_config.prefetch));
        }
        if let Some(higher) = place.size_prefetch.and_then(|limit| session.held.higher_prefetch(limit)) {
            return Step::Adapt(Prefetch::Size(higher));
        }
        if place.is_isolated() { Step::End(End::Stable) } else { Step::Continue }
    }

    /// The current prefetch.
    fn prefetch(&self, place: &Place) -> u16 {
        place.prefetch(self.queue_config.prefetch)
    }

    async fn begin(&self, channel: &Channel, place: &Place) -> Result<lapin::Consumer, End> {
        let prefetch = self.prefetch(place);
        self.taking.store(prefetch.into(), Relaxed);
        let begun = async {
            within(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
            consume(channel, &self.queue_config.queue).await
        };
        begun.await.map_err(|error: anyhow::Error| match &self.queue_config.owner {
            // The queue of a removed event type is deleted: nothing is left to consume.
            QueueOwner::RemovedEvent if is_not_found(&error) => End::Stopped,
            _ => End::Lost(format!("{error:#}")),
        })
    }

    /// Starts a new consumer, which a new prefetch needs. On the same channel, running deliveries continue.
    async fn restart(&self, session: &mut Session, place: &Place) -> Result<(), End> {
        session.cancel_and_requeue().await;
        session.received = 0;
        session.consumer = self.begin(&session.channel, place).await?;
        Ok(())
    }

    /// Declares the queue again, because it may be gone after a lost session.
    async fn redeclare(&self, link: &mut Link, place: &mut Place) {
        let topology = link.topology().clone();
        let Some(connection) = link.connection().await else { return };
        let declared = match &self.queue_config.owner {
            QueueOwner::Event(event) => topology.declare_event(&connection, event).await,
            QueueOwner::Shared => topology.declare(&connection).await,
            QueueOwner::RemovedEvent => return,
        };
        if let Err(error) = declared
            && link.is_up()
        {
            place.hinder(link, &self.queue_config.queue, &format!("{error:#}"));
        }
    }
}

impl Session {
    /// Whether every delivery is settled: each unsettled one holds a sender.
    fn is_settled(&self) -> bool {
        self.settled.strong_count() == 1
    }

    /// Cancels the consumer, and requeues the deliveries that arrive before the broker has cancelled it.
    async fn cancel_and_requeue(&mut self) {
        let Self { channel, consumer, settled, held, .. } = self;
        let cancel = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
        let mut cancelled = pin!(timeout(RPC_TIMEOUT, cancel));
        let mut is_cancelled = false;
        // Cancel first: a delivery requeued before that would be redelivered at once. After the cancellation lapin ends
        // the stream behind the last delivery.
        loop {
            tokio::select! {
                biased;
                cancelled = &mut cancelled, if !is_cancelled => match cancelled {
                    Ok(Ok(())) => is_cancelled = true,
                    Ok(Err(_)) | Err(_) => return,
                },
                next = consumer.next() => match next {
                    Some(Ok(raw)) => Delivery::new(raw, settled.clone(), held).ack.requeue(),
                    Some(Err(_)) | None => return,
                },
            }
        }
    }

    /// Waits until the running deliveries are settled, closes the channel, and returns `end`.
    async fn drain(self, queue: &str, end: End) -> End {
        let Self { channel, consumer, settled, acker, .. } = self;
        drop((consumer, settled));
        if let Ok(Err(error)) = acker.await {
            debug!(queue, %error, "acknowledgements were lost with the connection");
        }
        let _ = timeout(RPC_TIMEOUT, channel.close(200, "drained".into())).await;
        end
    }
}
