//! A publisher that survives any number of lost connections.
//!
//! It publishes a message until the broker confirms it ([`ConfirmMode::Required`]). One task owns one channel: lapin
//! assigns tags and sends frames under different locks, so confirms on a channel that tasks share would go to the wrong
//! publish. Publishes are polled together and not awaited one by one, so that lapin writes many at once.

mod refusal_log;

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    connection::{Link, jittered, longer},
    declare::within,
    error::BrokerError,
    wire::mark_republished,
};
use refusal_log::RefusalLog;

/// Maximum number of messages that wait for their confirm.
const WINDOW: usize = 512;
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// A channel without a confirm for this long has lost its confirms, which can happen when members of a quorum queue
/// come and go. Its messages are published again. Time in which the broker blocks publishers does not count.
const CONFIRM_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a closed channel may take to return its unconfirmed messages.
const RETURN_TIMEOUT: Duration = Duration::from_secs(5);

/// A message to publish.
#[derive(Debug)]
pub struct Outgoing {
    pub exchange: String,
    pub routing_key: String,
    pub properties: BasicProperties,
    pub body: Bytes,
}

/// Whether a publisher insists on a confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmMode {
    /// Publish until the broker confirms.
    Required,
    /// Publish once: the receiver has a timeout of its own.
    BestEffort,
}

/// Passes messages to the publishing task. Clones share it.
#[derive(Clone)]
pub struct Publisher(mpsc::Sender<Request>);

/// Resolves once the broker has confirmed the message. Dropping it does not cancel the message.
pub struct Confirm(oneshot::Receiver<()>);

/// The publisher ended before the broker confirmed: a shutdown ran out of time.
#[derive(Debug, thiserror::Error)]
#[error("the publisher ended before the broker confirmed the message")]
pub struct Unconfirmed;

struct Request {
    message: Outgoing,
    confirmed: oneshot::Sender<()>,
}

/// The result of one publish.
enum PublishOutcome {
    Confirmed,
    /// The broker refused it (`basic.nack`); the channel still works.
    Refused(Request),
    /// Unknown: the channel is lost.
    Lost(Request, lapin::Error),
}

impl Publisher {
    /// Starts a publisher on `link`. Its task ends when every clone of the publisher is dropped and everything is
    /// confirmed.
    ///
    /// If it panics, which would be a bug, `stop` is cancelled and the task returns an error. Without a publisher the
    /// role could only requeue everything, again and again.
    pub fn start(
        link: Link,
        purpose: &'static str,
        confirm_mode: ConfirmMode,
        stop: CancellationToken,
    ) -> (Self, JoinHandle<anyhow::Result<()>>) {
        let (sender, requests) = mpsc::channel(WINDOW);
        let publishing = tokio::spawn(run(link, purpose, confirm_mode, requests));
        let task = tokio::spawn(async move {
            publishing.await.with_context(|| format!("the publisher of {purpose} panicked")).inspect_err(
                |_| {
                    stop.cancel();
                },
            )
        });
        (Self(sender), task)
    }

    /// Queues `message`. Waits only while [`WINDOW`] others are queued already.
    pub async fn publish(&self, message: Outgoing) -> Confirm {
        let (confirmed, confirm) = oneshot::channel();
        // If the task has ended, the dropped sender fails the confirm.
        let _ = self.0.send(Request { message, confirmed }).await;
        Confirm(confirm)
    }
}

impl Confirm {
    /// # Errors
    /// [`Unconfirmed`] if the publisher ended first; the broker may or may not have the message.
    pub async fn confirmed(self) -> Result<(), Unconfirmed> {
        self.0.await.map_err(|_| Unconfirmed)
    }
}

async fn run(
    mut link: Link,
    purpose: &'static str,
    confirm_mode: ConfirmMode,
    mut requests: mpsc::Receiver<Request>,
) {
    let (mut unconfirmed, mut refusals, mut pause) = (Vec::new(), RefusalLog::new(purpose), RETRY_DELAY);
    loop {
        if unconfirmed.is_empty() {
            // Open no channel before there is a message: an unused publisher then ends at once, even without a broker.
            let Some(first) = requests.recv().await else { return };
            unconfirmed.push(first);
        }
        let Some(channel) = link.channel().await else { return };
        let ended = match within(channel.confirm_select(ConfirmSelectOptions::default())).await {
            Ok(()) => {
                session(&link, &channel, confirm_mode, &mut refusals, &mut requests, &mut unconfirmed).await
            }
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) => return,
            Err(error) => {
                let error = format!("{error:#}");
                if confirm_mode == ConfirmMode::BestEffort {
                    warn!(
                        purpose,
                        error,
                        lost = unconfirmed.len(),
                        "publishing failed: these messages are not published again"
                    );
                    unconfirmed.clear();
                } else {
                    pause = if refusals.is_hindered() { longer(pause) } else { RETRY_DELAY };
                    refusals.lost(&link, &error, unconfirmed.len());
                }
            }
        }
        tokio::time::sleep(jittered(pause)).await;
        redeclare(&mut link).await;
    }
}

/// Publishes until the requests end (`Ok`) or the channel is lost; `unconfirmed` then holds the unconfirmed messages.
async fn session(
    link: &Link,
    channel: &Channel,
    confirm_mode: ConfirmMode,
    refusals: &mut RefusalLog,
    requests: &mut mpsc::Receiver<Request>,
    unconfirmed: &mut Vec<Request>,
) -> anyhow::Result<()> {
    let mut in_flight: FuturesUnordered<_> =
        unconfirmed.drain(..).map(|request| publish(channel, request)).collect();
    let mut batch = Vec::with_capacity(WINDOW);
    let mut open = true;
    let mut last_activity = Instant::now();
    let lost: anyhow::Error = loop {
        let room = WINDOW.saturating_sub(in_flight.len());
        tokio::select! {
            biased;
            Some(outcome) = in_flight.next() => {
                last_activity = Instant::now();
                link.note_heard();
                match outcome {
                    PublishOutcome::Confirmed => refusals.confirmed(),
                    PublishOutcome::Refused(_) if confirm_mode == ConfirmMode::BestEffort => {}
                    PublishOutcome::Refused(request) => {
                        refusals.refused(&request.message.exchange, in_flight.len());
                        in_flight.push(publish(channel, request));
                    }
                    PublishOutcome::Lost(request, error) => {
                        unconfirmed.push(request);
                        break BrokerError::from(error).into();
                    }
                }
            }
            count = requests.recv_many(&mut batch, room), if open && room > 0 => {
                open = count > 0;
                if in_flight.is_empty() {
                    last_activity = Instant::now();
                }
                in_flight.extend(batch.drain(..).map(|request| publish(channel, request)));
            }
            () = sleep_until(last_activity + CONFIRM_TIMEOUT), if !in_flight.is_empty() => {
                if !link.is_blocked() {
                    let _ = timeout(RETURN_TIMEOUT, channel.close(200, "no confirms".into())).await;
                    break anyhow::anyhow!("the broker confirmed nothing for {CONFIRM_TIMEOUT:?}");
                }
                warn!(waiting = in_flight.len(), "the broker blocks publishers: still waiting for confirms");
                last_activity = Instant::now();
            }
            else => return Ok(()),
        }
    };
    // By now the others fail as well, or were confirmed before the loss. One without a result in time is dropped, which
    // requeues its delivery.
    while let Ok(Some(outcome)) = timeout(RETURN_TIMEOUT, in_flight.next()).await {
        if let PublishOutcome::Refused(request) | PublishOutcome::Lost(request, _) = outcome {
            unconfirmed.push(request);
        }
    }
    Err(lost)
}

/// One publish up to its confirm. The first poll assigns the tag and queues the frames.
async fn publish(channel: &Channel, request: Request) -> PublishOutcome {
    let Outgoing { exchange, routing_key, properties, body } = &request.message;
    let options = BasicPublishOptions::default();
    let (exchange, routing_key) = (exchange.as_str().into(), routing_key.as_str().into());
    let written = channel.basic_publish(exchange, routing_key, options, body, properties.clone()).await;
    let confirmation = match written {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    match confirmation {
        Ok(Confirmation::Nack(_)) => {
            tokio::time::sleep(jittered(RETRY_DELAY)).await;
            PublishOutcome::Refused(request)
        }
        Ok(Confirmation::Ack(_) | Confirmation::NotRequested) => {
            let _ = request.confirmed.send(());
            PublishOutcome::Confirmed
        }
        Err(error) => {
            PublishOutcome::Lost(Request { message: mark_republished(request.message), ..request }, error)
        }
    }
}

/// Declares the exchanges again, because one may be gone after a lost channel.
async fn redeclare(link: &mut Link) {
    let topology = link.topology().clone();
    let Some(connection) = link.connection().await else { return };
    if let Err(error) = topology.declare(&connection).await {
        debug!(error = format!("{error:#}"), "cannot declare the exchanges");
    }
}
