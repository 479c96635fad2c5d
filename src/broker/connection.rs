//! Supervised connections: dialled for ever, with backoff and jitter, and prepared before use.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use jiff::Timestamp;
use lapin::{Channel, Connection, ErrorKind, Event};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info, warn};

use super::{
    connect::{BrokerSettings, Socket},
    declare::RPC_TIMEOUT,
    error::BrokerError,
    hindrance::{Hindrance, Hindrances},
    installation::OtherInstallation,
    probe::{Activity, wait_until_unresponsive},
    topology::Topology,
};
use crate::{
    domain::{
        dead_letter::header_error,
        process::{LastError, LinkReport},
    },
    telemetry::metrics::connection_lost,
};

const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const MIN_RETRY_DELAY: Duration = Duration::from_millis(200);
/// A broker that is back is to be found, and everything declared, well within 15 seconds.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);
/// How often a process looks whether what it uses is still its installation's.
const MARK_CHECK_INTERVAL: Duration = Duration::from_secs(20);
/// Connections that single users may have for themselves, beside the one that they share.
const MAX_OWN_LINKS: usize = 64;

/// One supervised connection. Clones share it.
#[derive(Clone)]
pub struct Link {
    purpose: &'static str,
    state: watch::Receiver<Option<Arc<Connection>>>,
    trouble: watch::Receiver<Option<LastError>>,
    heard: Activity,
    unreached: Arc<AtomicUsize>,
    settings: BrokerSettings,
    /// Connections that may still be made beside it.
    beside: Arc<Semaphore>,
    /// Of those who use it, and of consumers that have one beside it.
    hindrances: Hindrances,
}

/// A connection that one of its users has for itself; it is closed when this is dropped.
pub struct OwnLink {
    pub link: Link,
    _stop: DropGuard,
    _one_of: OwnedSemaphorePermit,
}

/// Why there is no channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoChannel {
    /// The supervisor has stopped.
    Stopped,
    /// The connection has as many as the broker allows (`channel_max`).
    Full,
}

/// The supervisor of a connection, and where it tells of it.
struct Supervisor {
    settings: BrokerSettings,
    purpose: &'static str,
    state: watch::Sender<Option<Arc<Connection>>>,
    trouble: watch::Sender<Option<LastError>>,
    heard: Activity,
    /// Attempts to connect that failed.
    unreached: Arc<AtomicUsize>,
    declares: bool,
    stop: CancellationToken,
}

impl Link {
    /// Starts dialling, and goes on until `stop`. A connection is handed out only after the
    /// topology is declared on it; the task ends when the last connection is closed.
    pub fn supervise(
        settings: BrokerSettings,
        purpose: &'static str,
        stop: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        Self::start(settings, purpose, true, stop)
    }

    fn start(
        settings: BrokerSettings,
        purpose: &'static str,
        declares: bool,
        stop: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let ((announce, state), (tell, trouble)) = (watch::channel(None), watch::channel(None));
        let (heard, unreached) = (Activity::default(), Arc::default());
        let supervisor = Supervisor {
            settings: settings.clone(),
            purpose,
            state: announce,
            trouble: tell,
            heard: heard.clone(),
            unreached: Arc::clone(&unreached),
            declares,
            stop,
        };
        let (beside, hindrances) = (Arc::new(Semaphore::new(MAX_OWN_LINKS)), Hindrances::default());
        let link = Self { purpose, state, trouble, heard, unreached, settings, beside, hindrances };
        (link, tokio::spawn(supervisor.run()))
    }

    /// A connection beside this one; what is declared is left to this one. None: there are too many.
    pub fn beside(&self) -> Option<OwnLink> {
        let one_of = Arc::clone(&self.beside).try_acquire_owned().ok()?;
        let stop = CancellationToken::new();
        let (mut link, _) = Self::start(self.settings.clone(), self.purpose, false, stop.clone());
        link.hindrances = self.hindrances.clone();
        Some(OwnLink { link, _stop: stop.drop_guard(), _one_of: one_of })
    }

    /// Notes that one who uses this link cannot do its work, although it stands.
    pub(super) fn hindered(&self, who: &str, why: &str) -> Hindrance {
        self.hindrances.add(self.purpose, who, why)
    }

    /// Something came from the broker: it answers.
    pub(super) fn note_heard(&self) {
        self.heard.note();
    }

    /// Whether the connection stands now.
    pub(super) fn is_up(&self) -> bool {
        self.state.borrow().as_ref().is_some_and(|connection| connection.status().connected())
    }

    /// Attempts to connect that failed so far: where there are more than before, the broker was away.
    pub(super) fn unreached(&self) -> usize {
        self.unreached.load(Relaxed)
    }

    /// Whether the broker has asked to publish nothing for now.
    pub(super) fn is_blocked(&self) -> bool {
        self.state.borrow().as_ref().is_some_and(|connection| connection.status().blocked())
    }

    /// Whether it stands, and the broker takes messages.
    pub fn takes_messages(&self) -> bool {
        self.is_up() && !self.is_blocked()
    }

    /// How it does.
    pub fn report(&self) -> LinkReport {
        let is_up = self.is_up();
        let hindrance = self.hindrances.told().filter(|_| is_up);
        let is_hindered = hindrance.is_some();
        let trouble = match hindrance {
            Some(error) => Some(LastError { at: Timestamp::now(), error: header_error(&error) }),
            None => self.trouble.borrow().clone(),
        };
        LinkReport { connected: is_up && !is_hindered, blocked: self.is_blocked(), trouble }
    }

    pub const fn topology(&self) -> &Topology {
        &self.settings.topology
    }

    /// The connection, once there is one. `None` after the supervisor has stopped.
    pub async fn connection(&mut self) -> Option<Arc<Connection>> {
        self.state.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// A fresh channel, once there is a connection that gives one. `None` after the supervisor has stopped.
    pub async fn channel(&mut self) -> Option<Channel> {
        loop {
            match self.free_channel().await {
                Ok(channel) => return Some(channel),
                Err(NoChannel::Stopped) => return None,
                Err(NoChannel::Full) => {
                    warn!(purpose = self.purpose, "no channel is free: channel_max of the broker is too low");
                    tokio::time::sleep(MAX_RETRY_DELAY).await;
                }
            }
        }
    }

    /// A fresh channel, once there is a connection, unless that has as many as it may.
    pub(super) async fn free_channel(&mut self) -> Result<Channel, NoChannel> {
        loop {
            let connection = self.connection().await.ok_or(NoChannel::Stopped)?;
            match timeout(RPC_TIMEOUT, connection.create_channel()).await {
                Ok(Ok(channel)) => return Ok(channel),
                Ok(Err(error)) if matches!(error.kind(), ErrorKind::ChannelsLimitReached) => {
                    return Err(NoChannel::Full);
                }
                Ok(Err(error)) => {
                    debug!(purpose = self.purpose, error = %BrokerError::from(error), "no channel");
                }
                Err(_) => warn!(purpose = self.purpose, "the broker gave no channel in time"),
            }
            tokio::time::sleep(jittered(MIN_RETRY_DELAY)).await;
        }
    }
}

impl Supervisor {
    async fn run(self) {
        let (mut pause, mut told) = (MIN_RETRY_DELAY, String::new());
        while !self.stop.is_cancelled() {
            tokio::select! {
                () = self.stop.cancelled() => break,
                connected = self.connect() => match connected {
                    Ok((connection, socket)) => {
                        told.clear();
                        let began = Instant::now();
                        self.hold(connection, socket).await;
                        // One that is taken away at once (a limit of the user) is not asked for several times a second.
                        if began.elapsed() > MAX_RETRY_DELAY {
                            pause = MIN_RETRY_DELAY;
                        }
                    }
                    Err(error) => {
                        self.unreached.fetch_add(1, Relaxed);
                        let error = format!("{error:#}");
                        // Once, and again when it is something else.
                        if told == error {
                            debug!(purpose = self.purpose, %error, retry_in = ?pause, "broker not reached");
                        } else {
                            warn!(purpose = self.purpose, %error, retry_in = ?pause, "broker not reached");
                        }
                        self.tell(&error);
                        told = error;
                    }
                },
            }
            tokio::select! { () = self.stop.cancelled() => {}, () = tokio::time::sleep(jittered(pause)) => {} }
            pause = longer(pause);
        }
    }

    async fn connect(&self) -> anyhow::Result<(Arc<Connection>, Socket)> {
        let (connection, socket) = self.settings.dial_with_socket(self.purpose).await?;
        if self.declares {
            self.settings.topology.declare(&connection).await?;
        } else if let Some(refused) = other_owner(&self.settings.topology, &connection).await {
            return Err(refused);
        }
        Ok((Arc::new(connection), socket))
    }

    /// Announces the connection and stays until it is lost or `stop` asks to close it.
    async fn hold(&self, connection: Arc<Connection>, socket: Socket) {
        let purpose = self.purpose;
        info!(purpose, "connected to the broker");
        self.state.send_replace(Some(Arc::clone(&connection)));
        let mut events = pin!(connection.events_listener());
        let mut unanswered = pin!(wait_until_unresponsive(&connection, &self.heard, self.settings.heartbeat));
        let mut taken_over = pin!(taken_over(&self.settings.topology, &connection));
        // The events tell at once; the clock is for what no event tells.
        let mut why = String::new();
        let mut look = tokio::time::interval(Duration::from_secs(1));
        while connection.status().connected() {
            tokio::select! {
                () = self.stop.cancelled() => break,
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => warn!(purpose, reason, "the broker blocks publishers"),
                    Some(Event::ConnectionUnblocked) => info!(purpose, "the broker takes messages again"),
                    Some(Event::Error(error)) => why = BrokerError::from(error).to_string(),
                    Some(_) => {}
                    None => { look.tick().await; }
                },
                () = &mut unanswered => {
                    "the broker does not answer, although it can be heard".clone_into(&mut why);
                    break;
                }
                refused = &mut taken_over => {
                    why = refused.to_string();
                    break;
                }
                _ = look.tick() => {}
            }
        }
        self.state.send_replace(None);
        if self.stop.is_cancelled() {
            // close() hung in 3 of 196 runs: never without a timeout.
            let _ = timeout(CLOSE_TIMEOUT, connection.close(200, "bye".into())).await;
        } else {
            // One that does not answer would be waited for by all who use it.
            socket.shut_down();
            connection_lost(purpose);
            warn!(purpose, why, "connection to the broker lost");
            self.tell(&format!("connection lost: {why}"));
        }
    }

    fn tell(&self, error: &str) {
        let error = header_error(error);
        self.trouble.send_replace(Some(LastError { at: Timestamp::now(), error }));
    }
}

/// Returns when everything under the prefix belongs to another installation.
async fn taken_over(topology: &Topology, connection: &Connection) -> anyhow::Error {
    loop {
        tokio::time::sleep(MARK_CHECK_INTERVAL).await;
        if let Some(refused) = other_owner(topology, connection).await {
            return refused;
        }
    }
}

/// The refusal, if everything under the prefix belongs to another installation. A mark that is gone is made again. Any other
/// error is left to those who use the connection, who meet it as well.
async fn other_owner(topology: &Topology, connection: &Connection) -> Option<anyhow::Error> {
    topology.mark(connection).await.err().filter(anyhow::Error::is::<OtherInstallation>)
}

/// The pause after one of `pause` that was in vain.
pub(super) fn longer(pause: Duration) -> Duration {
    (pause * 2).min(MAX_RETRY_DELAY)
}

/// Between half of `pause` and all of it, so that many processes do not come back at the same moment.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.0))
}
