//! Supervised connections: dialled for ever, with backoff and jitter, and prepared before use.

use std::{
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use futures_util::StreamExt;
use lapin::{
    AsyncTcpStream, Channel, Connection, ConnectionProperties, Event,
    tcp::OwnedTLSConfig,
    uri::{AMQPScheme, AMQPUri},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{declare::RPC_TIMEOUT, error::BrokerError, topology::Topology};

/// RabbitMQ's own default. A header frame above it would close the connection: not to be made smaller.
const FRAME_MAX: u32 = 131_072;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// A broker that is back is to be found, and everything declared, well within 15 seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Where the broker is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// The nodes of a cluster, tried in turn.
    pub urls: Vec<SecretString>,
    /// A link that is silent for twice this long is given up. Whole seconds.
    pub heartbeat: Duration,
    pub connect_timeout: Duration,
    /// PEM certificates that are trusted beside the system's.
    pub ca_pem: Option<String>,
    pub topology: Topology,
}

impl BrokerSettings {
    /// Dials the nodes in turn, once each.
    ///
    /// # Errors
    /// If none of them answers in time; the errors name the nodes, never their passwords.
    pub async fn dial(&self, purpose: &str) -> anyhow::Result<Connection> {
        let mut failure = anyhow::anyhow!("no amqp.url is configured");
        for url in &self.urls {
            let uri: AMQPUri = url
                .expose_secret()
                .parse()
                .map_err(|e| anyhow::anyhow!("amqp.url is not understood: {e}"))?;
            let node = format!("{}:{}", uri.authority.host, uri.authority.port);
            match self
                .dial_node(uri, purpose)
                .await
                .with_context(|| format!("cannot connect to RabbitMQ at {node}"))
            {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn dial_node(&self, mut uri: AMQPUri, purpose: &str) -> anyhow::Result<Connection> {
        // Named before the broker names it: lapin then allocates its buffers (2 × 4 MB) once, as pages
        // that are not touched, rather than growing small ones and filling them with zeros.
        uri.query.frame_max = Some(FRAME_MAX);
        uri.query.heartbeat = Some(u16::try_from(self.heartbeat.as_secs()).unwrap_or(u16::MAX));
        let name = format!("provisiond {purpose} (pid {})", std::process::id());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        // lapin has no timeout of its own, and dropping its future leaks a thread and a socket: on
        // timeout the socket is shut down under it, and it ends by itself.
        let socket = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&socket);
        let tls = OwnedTLSConfig { identity: None, cert_chain: self.ca_pem.clone() };
        let dialling = Connection::connector(
            uri,
            lapin::runtime::default_runtime()?,
            async move |uri: AMQPUri, runtime| {
                let address = (uri.authority.host.clone(), uri.authority.port);
                let address = tokio::net::lookup_host(address).await?.collect::<Vec<_>>();
                let stream = AsyncTcpStream::connect(&runtime, address.as_slice()).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    let tcp = plain.get_ref();
                    tcp.set_nodelay(true)?;
                    let copy = rustix::io::dup(tcp.as_fd()).map_err(std::io::Error::from)?;
                    *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
                }
                match uri.scheme {
                    AMQPScheme::AMQP => Ok(stream),
                    AMQPScheme::AMQPS => Ok(stream.into_tls(&uri.authority.host, tls.as_ref()).await?),
                }
            },
            properties,
        );
        let connected = timeout(self.connect_timeout, dialling).await;
        let socket: Option<OwnedFd> = socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Ok(connected) = connected {
            return Ok(connected.map_err(BrokerError::from)?);
        }
        if let Some(socket) = socket {
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
        anyhow::bail!("no answer within {:?} (amqp.connect_timeout)", self.connect_timeout)
    }
}

/// One supervised connection. Clones share it.
#[derive(Clone)]
pub struct Link {
    purpose: &'static str,
    state: watch::Receiver<Option<Arc<Connection>>>,
    topology: Topology,
}

impl Link {
    /// Starts dialling, and goes on until `stop`. A connection is handed out only after the
    /// topology is declared on it; the task ends when the last connection is closed.
    pub fn supervise(
        settings: BrokerSettings,
        purpose: &'static str,
        stop: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let (announce, state) = watch::channel(None);
        let topology = settings.topology.clone();
        let task = tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            while !stop.is_cancelled() {
                tokio::select! {
                    () = stop.cancelled() => break,
                    connected = connect(&settings, purpose) => match connected {
                        Ok(connection) => {
                            pause = FIRST_PAUSE;
                            hold(connection, purpose, &announce, &stop).await;
                        }
                        Err(error) => warn!(purpose, error = format!("{error:#}"), retry_in = ?pause, "broker not reached"),
                    },
                }
                tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(jittered(pause)) => {} }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
        (Self { purpose, state, topology }, task)
    }

    /// Whether the connection stands now.
    pub(super) fn is_up(&self) -> bool {
        self.state.borrow().as_ref().is_some_and(|connection| connection.status().connected())
    }

    /// Whether the broker has asked to publish nothing for now.
    pub(super) fn is_blocked(&self) -> bool {
        self.state.borrow().as_ref().is_some_and(|connection| connection.status().blocked())
    }

    pub const fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The connection, once there is one. `None` after the supervisor has stopped.
    pub async fn connection(&mut self) -> Option<Arc<Connection>> {
        self.state.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// A fresh channel, once there is a connection that gives one. `None` after the supervisor has stopped.
    pub async fn channel(&mut self) -> Option<Channel> {
        loop {
            let connection = self.connection().await?;
            match timeout(RPC_TIMEOUT, connection.create_channel()).await {
                Ok(Ok(channel)) => return Some(channel),
                Ok(Err(error)) => {
                    debug!(purpose = self.purpose, error = %BrokerError::from(error), "no channel");
                }
                Err(_) => warn!(purpose = self.purpose, "the broker gave no channel in time"),
            }
            tokio::time::sleep(jittered(FIRST_PAUSE)).await;
        }
    }
}

async fn connect(settings: &BrokerSettings, purpose: &str) -> anyhow::Result<Arc<Connection>> {
    let connection = settings.dial(purpose).await?;
    settings.topology.declare(&connection).await?;
    Ok(Arc::new(connection))
}

/// Announces the connection and stays until it is lost or `stop` asks to close it.
async fn hold(
    connection: Arc<Connection>,
    purpose: &'static str,
    announce: &watch::Sender<Option<Arc<Connection>>>,
    stop: &CancellationToken,
) {
    info!(purpose, "connected to the broker");
    announce.send_replace(Some(Arc::clone(&connection)));
    let mut events = pin!(connection.events_listener());
    // The events tell at once; the clock is for what no event tells.
    let mut why = String::new();
    let mut look = tokio::time::interval(Duration::from_secs(1));
    while connection.status().connected() {
        tokio::select! {
            () = stop.cancelled() => break,
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(reason)) => warn!(purpose, reason, "the broker blocks publishers"),
                Some(Event::ConnectionUnblocked) => info!(purpose, "the broker takes messages again"),
                Some(Event::Error(error)) => why = BrokerError::from(error).to_string(),
                Some(_) => {}
                None => { look.tick().await; }
            },
            _ = look.tick() => {}
        }
    }
    announce.send_replace(None);
    if stop.is_cancelled() {
        // close() hung in 3 of 196 runs: never without a timeout.
        let _ = timeout(CLOSE_TIMEOUT, connection.close(200, "bye".into())).await;
    } else {
        warn!(purpose, why, "connection to the broker lost");
    }
}

/// Between half of `pause` and all of it, so that many processes do not come back at the same moment.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.0))
}
