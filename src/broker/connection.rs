//! Supervised connections: redialled forever with backoff and jitter, and handed out after the topology is declared.

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
/// Short enough that, well within 15 seconds after the broker is back, we are connected and everything is declared.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);
/// How often a process checks that its installation still owns the prefix.
const MARK_CHECK_INTERVAL: Duration = Duration::from_secs(20);
/// Dedicated connections that consumers may open in addition to the shared one.
const MAX_OWN_LINKS: usize = 64;

/// One supervised connection. Clones share it.
#[derive(Clone)]
pub struct Link {
    purpose: &'static str,
    state: watch::Receiver<Option<Arc<Connection>>>,
    last_error: watch::Receiver<Option<LastError>>,
    activity: Activity,
    failed_attempts: Arc<AtomicUsize>,
    settings: BrokerSettings,
    /// Permits for further dedicated connections.
    own_link_permits: Arc<Semaphore>,
    /// Problems of the users of this link, and of consumers with a dedicated connection.
    hindrances: Hindrances,
}

/// A dedicated connection of one consumer. Dropping it closes the connection.
pub struct OwnLink {
    pub link: Link,
    _stop: DropGuard,
    _permit: OwnedSemaphorePermit,
}

/// Why no channel could be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoChannel {
    /// The supervisor has stopped.
    Stopped,
    /// The connection has as many channels as the broker allows (`channel_max`).
    Full,
}

/// Keeps one connection open, and publishes its state.
struct Supervisor {
    settings: BrokerSettings,
    purpose: &'static str,
    state: watch::Sender<Option<Arc<Connection>>>,
    last_error: watch::Sender<Option<LastError>>,
    activity: Activity,
    /// Failed attempts to connect.
    failed_attempts: Arc<AtomicUsize>,
    declares: bool,
    stop: CancellationToken,
}

impl Link {
    /// Connects, and reconnects until `stop`. Hands a connection out only after the topology is declared on it. The
    /// task ends when the last connection is closed.
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
        let ((state_sender, state), (error_sender, last_error)) =
            (watch::channel(None), watch::channel(None));
        let (activity, failed_attempts) = (Activity::default(), Arc::default());
        let supervisor = Supervisor {
            settings: settings.clone(),
            purpose,
            state: state_sender,
            last_error: error_sender,
            activity: activity.clone(),
            failed_attempts: Arc::clone(&failed_attempts),
            declares,
            stop,
        };
        let (own_link_permits, hindrances) = (Arc::new(Semaphore::new(MAX_OWN_LINKS)), Hindrances::default());
        let link = Self {
            purpose,
            state,
            last_error,
            activity,
            failed_attempts,
            settings,
            own_link_permits,
            hindrances,
        };
        (link, tokio::spawn(supervisor.run()))
    }

    /// Opens a dedicated connection, on which nothing is declared. `None` if there are too many of them.
    pub fn beside(&self) -> Option<OwnLink> {
        let permit = Arc::clone(&self.own_link_permits).try_acquire_owned().ok()?;
        let stop = CancellationToken::new();
        let (mut link, _) = Self::start(self.settings.clone(), self.purpose, false, stop.clone());
        link.hindrances = self.hindrances.clone();
        Some(OwnLink { link, _stop: stop.drop_guard(), _permit: permit })
    }

    /// Records that a user of this link cannot work, although the connection is up.
    pub(super) fn hindered(&self, who: &str, why: &str) -> Hindrance {
        self.hindrances.add(self.purpose, who, why)
    }

    /// Records that the broker sent something, so it responds.
    pub(super) fn note_heard(&self) {
        self.activity.note();
    }

    /// Whether the connection is up now.
    pub(super) fn is_up(&self) -> bool {
        self.state.borrow().as_ref().is_some_and(|connection| connection.status().connected())
    }

    /// Failed attempts to connect so far. If the number grows, the broker was away.
    pub(super) fn failed_attempts(&self) -> usize {
        self.failed_attempts.load(Relaxed)
    }

    /// Whether the broker currently blocks publishers (`connection.blocked`).
    pub(super) fn is_blocked(&self) -> bool {
        self.state.borrow().as_ref().is_some_and(|connection| connection.status().blocked())
    }

    /// Whether the connection is up and the broker accepts messages.
    pub fn takes_messages(&self) -> bool {
        self.is_up() && !self.is_blocked()
    }

    /// The state of this link, for the status report of the process.
    pub fn report(&self) -> LinkReport {
        let is_up = self.is_up();
        let hindrance = self.hindrances.summary().filter(|_| is_up);
        let is_hindered = hindrance.is_some();
        let last_error = match hindrance {
            Some(error) => Some(LastError { at: Timestamp::now(), error: header_error(&error) }),
            None => self.last_error.borrow().clone(),
        };
        LinkReport { connected: is_up && !is_hindered, blocked: self.is_blocked(), trouble: last_error }
    }

    pub const fn topology(&self) -> &Topology {
        &self.settings.topology
    }

    /// Waits for a connection. `None` after the supervisor has stopped.
    pub async fn connection(&mut self) -> Option<Arc<Connection>> {
        self.state.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Waits for a connection with a free channel, and opens it. `None` after the supervisor has stopped.
    pub async fn channel(&mut self) -> Option<Channel> {
        loop {
            match self.free_channel().await {
                Ok(channel) => return Some(channel),
                Err(NoChannel::Stopped) => return None,
                Err(NoChannel::Full) => {
                    warn!(purpose = self.purpose, "no free channel: channel_max of the broker is too low");
                    tokio::time::sleep(MAX_RETRY_DELAY).await;
                }
            }
        }
    }

    /// Waits for a connection, and opens a channel unless the connection has reached its limit.
    pub(super) async fn free_channel(&mut self) -> Result<Channel, NoChannel> {
        loop {
            let connection = self.connection().await.ok_or(NoChannel::Stopped)?;
            match timeout(RPC_TIMEOUT, connection.create_channel()).await {
                Ok(Ok(channel)) => return Ok(channel),
                Ok(Err(error)) if matches!(error.kind(), ErrorKind::ChannelsLimitReached) => {
                    return Err(NoChannel::Full);
                }
                Ok(Err(error)) => {
                    debug!(purpose = self.purpose, error = %BrokerError::from(error), "cannot open a channel");
                }
                Err(_) => warn!(purpose = self.purpose, "the broker did not open a channel in time"),
            }
            tokio::time::sleep(jittered(MIN_RETRY_DELAY)).await;
        }
    }
}

impl Supervisor {
    async fn run(self) {
        let (mut pause, mut logged) = (MIN_RETRY_DELAY, String::new());
        while !self.stop.is_cancelled() {
            tokio::select! {
                () = self.stop.cancelled() => break,
                connected = self.connect() => match connected {
                    Ok((connection, socket)) => {
                        logged.clear();
                        let began = Instant::now();
                        self.hold(connection, socket).await;
                        // A connection that is closed at once (a limit of the user) must not be retried several times a
                        // second.
                        if began.elapsed() > MAX_RETRY_DELAY {
                            pause = MIN_RETRY_DELAY;
                        }
                    }
                    Err(error) => {
                        let error = format!("{error:#}");
                        // Warn only when the error changes.
                        if logged == error {
                            debug!(purpose = self.purpose, %error, retry_in = ?pause, "cannot connect to the broker");
                        } else {
                            warn!(purpose = self.purpose, %error, retry_in = ?pause, "cannot connect to the broker");
                        }
                        self.report_error(&error);
                        logged = error;
                    }
                },
            }
            tokio::select! { () = self.stop.cancelled() => {}, () = tokio::time::sleep(jittered(pause)) => {} }
            pause = longer(pause);
        }
    }

    async fn connect(&self) -> anyhow::Result<(Arc<Connection>, Socket)> {
        let dialled = self.settings.dial_with_socket(self.purpose).await;
        let (connection, socket) = dialled.inspect_err(|_| {
            self.failed_attempts.fetch_add(1, Relaxed);
        })?;
        if self.declares {
            self.settings.topology.declare(&connection).await?;
        } else if let Some(refused) = other_owner(&self.settings.topology, &connection).await {
            return Err(refused);
        }
        Ok((Arc::new(connection), socket))
    }

    /// Announces the connection, and waits until it is lost or `stop` closes it.
    async fn hold(&self, connection: Arc<Connection>, socket: Socket) {
        let purpose = self.purpose;
        info!(purpose, "connected to the broker");
        self.state.send_replace(Some(Arc::clone(&connection)));
        let mut events = pin!(connection.events_listener());
        let mut unanswered =
            pin!(wait_until_unresponsive(&connection, &self.activity, self.settings.heartbeat));
        let mut taken_over = pin!(taken_over(&self.settings.topology, &connection));
        // Events report a loss at once; the timer finds a loss that no event reports.
        let mut why = String::new();
        let mut poll = tokio::time::interval(Duration::from_secs(1));
        while connection.status().connected() {
            tokio::select! {
                () = self.stop.cancelled() => break,
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => warn!(purpose, reason, "the broker blocks publishers"),
                    Some(Event::ConnectionUnblocked) => info!(purpose, "the broker accepts messages again"),
                    Some(Event::Error(error)) => why = BrokerError::from(error).to_string(),
                    Some(_) => {}
                    None => { poll.tick().await; }
                },
                () = &mut unanswered => {
                    "the broker does not answer requests on an open connection".clone_into(&mut why);
                    break;
                }
                refused = &mut taken_over => {
                    why = refused.to_string();
                    break;
                }
                _ = poll.tick() => {}
            }
        }
        self.state.send_replace(None);
        if self.stop.is_cancelled() {
            // close() hung in 3 of 196 runs, so it needs a timeout.
            let _ = timeout(CLOSE_TIMEOUT, connection.close(200, "bye".into())).await;
        } else {
            // Otherwise every user of an unresponsive connection would wait for it.
            socket.shut_down();
            connection_lost(purpose);
            warn!(purpose, why, "connection to the broker lost");
            self.report_error(&format!("connection lost: {why}"));
        }
    }

    fn report_error(&self, error: &str) {
        let error = header_error(error);
        self.last_error.send_replace(Some(LastError { at: Timestamp::now(), error }));
    }
}

/// Returns when another installation owns the prefix.
async fn taken_over(topology: &Topology, connection: &Connection) -> anyhow::Error {
    loop {
        tokio::time::sleep(MARK_CHECK_INTERVAL).await;
        if let Some(refused) = other_owner(topology, connection).await {
            return refused;
        }
    }
}

/// The error, if another installation owns the prefix. Declares a missing mark again. Ignores every other error,
/// because the users of the connection meet it as well.
async fn other_owner(topology: &Topology, connection: &Connection) -> Option<anyhow::Error> {
    topology.mark(connection).await.err().filter(anyhow::Error::is::<OtherInstallation>)
}

/// The delay after a failed attempt: doubled, up to `MAX_RETRY_DELAY`.
pub(super) fn longer(pause: Duration) -> Duration {
    (pause * 2).min(MAX_RETRY_DELAY)
}

/// A random delay between half of `pause` and all of it, so that many processes do not reconnect at the same time.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.0))
}
