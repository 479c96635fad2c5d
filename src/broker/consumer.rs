//! A consumer that lives through any number of connections.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use lapin::{
    Channel,
    options::{BasicCancelOptions, BasicQosOptions},
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    acker,
    connection::{Link, jittered},
    declare::{RPC_TIMEOUT, consume, within},
    delivery::{Delivery, Settled},
    error::{BrokerError, is_not_found},
};
use crate::domain::event::EventName;

const PAUSE: Duration = Duration::from_millis(500);
/// A consumer that was given nothing for this long begins anew: a broker can forget one, or an acknowledgement, and
/// say nothing (seen on a cluster of which a majority was lost and came back).
const IDLE: Duration = Duration::from_mins(1);

/// What is consumed.
#[derive(Clone, Debug)]
pub struct Intake {
    pub queue: String,
    /// Deliveries that are unsettled at a time.
    pub prefetch: u16,
    pub source: Source,
}

/// Whose queue it is: what is done when it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Shared by all events: declared again with the topology.
    Shared,
    /// The queue of an event type: declared again.
    Event(EventName),
    /// The queue of an event type that was removed: consumed until an operator deletes it.
    RemovedEvent,
}

/// Consumes one queue.
pub struct Consumer {
    pub link: Link,
    pub intake: Intake,
    /// Notified: it is stuck, gives back all that it holds, and begins anew.
    pub renew: Arc<Notify>,
}

/// Why a session ended.
enum End {
    Stopped,
    /// Nothing came, and nothing is unsettled.
    Idle,
    Lost(String),
}

impl Consumer {
    /// Hands every delivery to `take` until `stop`; then cancels, gives back what was not taken
    /// yet, and returns when every delivery is settled.
    pub async fn run(mut self, stop: CancellationToken, mut take: impl FnMut(Delivery)) {
        loop {
            let channel = tokio::select! {
                () = stop.cancelled() => return,
                channel = self.link.channel() => channel,
            };
            let Some(channel) = channel else { return };
            match self.session(channel, &stop, &mut take).await {
                End::Stopped => return,
                End::Idle => continue,
                // Of a lost connection the supervisor tells, once for all that use it.
                End::Lost(why) if !self.link.is_up() => {
                    debug!(queue = self.intake.queue, why, "consumer lost");
                }
                End::Lost(why) => info!(queue = self.intake.queue, why, "consumer lost, consuming again"),
            }
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(jittered(PAUSE)) => {} }
            tokio::select! { () = stop.cancelled() => return, () = self.redeclare() => {} }
        }
    }

    async fn session(
        &self,
        channel: Channel,
        stop: &CancellationToken,
        take: &mut impl FnMut(Delivery),
    ) -> End {
        let mut consumer = match self.begin(&channel).await {
            Ok(consumer) => consumer,
            // The queue of a removed event type was deleted: there is nothing to come back to.
            Err(error) if self.intake.source == Source::RemovedEvent && is_not_found(&error) => {
                return End::Stopped;
            }
            Err(error) => return End::Lost(format!("{error:#}")),
        };
        let (settled, duties) = mpsc::unbounded_channel::<Settled>();
        let mut acker = tokio::spawn(acker::run(channel.clone(), duties));
        let mut idle_at = Instant::now() + jittered(IDLE);
        let end = loop {
            tokio::select! {
                () = stop.cancelled() => break End::Stopped,
                () = sleep_until(idle_at) => {
                    // Each unsettled delivery has a sender.
                    if settled.strong_count() == 1 {
                        break End::Idle;
                    }
                    idle_at = Instant::now() + jittered(IDLE);
                }
                () = self.renew.notified() => {
                    acker.abort();
                    // Only a closed channel gives back what is unsettled.
                    let _ = timeout(RPC_TIMEOUT, channel.close(200, "stuck".into())).await;
                    return End::Lost("it was stuck".to_owned());
                }
                ended = &mut acker => return End::Lost(match ended {
                    Ok(Err(error)) => format!("acknowledging failed: {}", BrokerError::from(error)),
                    _ => "the acker ended".to_owned(),
                }),
                next = consumer.next() => match next {
                    Some(Ok(raw)) => {
                        idle_at = Instant::now() + jittered(IDLE);
                        self.link.note_heard();
                        take(Delivery::new(raw, settled.clone()));
                    }
                    // lapin ends the stream, without an error, when the queue was deleted.
                    Some(Err(error)) => { acker.abort(); return End::Lost(BrokerError::from(error).to_string()) }
                    None => { acker.abort(); return End::Lost("the broker cancelled the consumer: is the queue deleted?".into()) }
                },
            }
        };
        self.drain(&channel, consumer, settled, acker).await;
        end
    }

    async fn begin(&self, channel: &Channel) -> anyhow::Result<lapin::Consumer> {
        within(channel.basic_qos(self.intake.prefetch, BasicQosOptions::default())).await?;
        consume(channel, &self.intake.queue).await
    }

    /// Takes no more: what lapin has buffered goes back, what runs may end.
    async fn drain(
        &self,
        channel: &Channel,
        mut consumer: lapin::Consumer,
        settled: mpsc::UnboundedSender<Settled>,
        acker: JoinHandle<lapin::Result<()>>,
    ) {
        let cancelled =
            timeout(RPC_TIMEOUT, channel.basic_cancel(consumer.tag(), BasicCancelOptions::default())).await;
        if matches!(cancelled, Ok(Ok(()))) {
            while let Some(Ok(raw)) = consumer.next().await {
                Delivery::new(raw, settled.clone()).duty.requeue();
            }
        }
        drop(settled);
        if let Ok(Err(error)) = acker.await {
            debug!(queue = self.intake.queue, %error, "acknowledgements were lost with the connection");
        }
        let _ = timeout(RPC_TIMEOUT, channel.close(200, "drained".into())).await;
    }

    /// After a lost session the queue may be gone: it is declared before it is consumed again.
    async fn redeclare(&mut self) {
        let topology = self.link.topology().clone();
        let Some(connection) = self.link.connection().await else { return };
        let declared = match &self.intake.source {
            Source::Event(event) => topology.declare_event(&connection, event).await,
            Source::Shared => topology.declare(&connection).await,
            Source::RemovedEvent => return,
        };
        if let Err(error) = declared {
            warn!(queue = self.intake.queue, error = format!("{error:#}"), "cannot declare the queue");
        }
    }
}
