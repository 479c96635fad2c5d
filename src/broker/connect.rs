//! Connects to the broker: one attempt, bounded in time.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties, ErrorKind,
    uri::{AMQPScheme, AMQPUri},
};
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::{
    error::BrokerError,
    inbound::FRAME_MAX,
    topology::Topology,
    transport::{self, Transport},
};

/// Where the broker is, and how to connect to it.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// The nodes of a cluster, tried in order.
    pub urls: Vec<SecretString>,
    /// Heartbeat interval, in whole seconds. A connection that is silent for twice as long is closed.
    pub heartbeat: Duration,
    pub connect_timeout: Duration,
    /// The certificates of `amqp.ca_file`, trusted in addition to the system's.
    pub authorities: Vec<CertificateDer<'static>>,
    /// RabbitMQ's management API, with user and password if they differ from those in `urls`.
    pub management_url: Option<SecretString>,
    pub topology: Topology,
}

/// The socket of a connection, kept to abort it. lapin cannot abort an unresponsive connection: its `close` waits for
/// the broker's answer.
pub(super) struct Socket(Option<OwnedFd>);

impl Socket {
    /// Makes the connection fail at once, and every call that waits on it.
    pub(super) fn shut_down(self) {
        if let Some(socket) = self.0 {
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
    }
}

impl BrokerSettings {
    /// Tries the nodes in order, once each.
    ///
    /// # Errors
    /// If no node answers in time. The error is that of the last node; it names the node, never its password.
    pub async fn dial(&self, purpose: &str) -> anyhow::Result<Connection> {
        self.dial_with_socket(purpose).await.map(|(connection, _)| connection)
    }

    /// Like [`BrokerSettings::dial`], but also returns the socket, so that the caller can shut it down.
    pub(super) async fn dial_with_socket(&self, purpose: &str) -> anyhow::Result<(Connection, Socket)> {
        let mut failure = anyhow::anyhow!("no amqp.url is configured");
        for url in &self.urls {
            let uri: AMQPUri = url
                .expose_secret()
                .parse()
                .map_err(|e| anyhow::anyhow!("amqp.url is not a valid AMQP URL: {e}"))?;
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

    async fn dial_node(&self, mut uri: AMQPUri, purpose: &str) -> anyhow::Result<(Connection, Socket)> {
        // Requested before the broker proposes it: lapin then allocates its buffers (2 × 4 MB) once, as untouched
        // pages, instead of growing small ones and filling them with zeros.
        uri.query.frame_max = Some(FRAME_MAX);
        uri.query.heartbeat = Some(u16::try_from(self.heartbeat.as_secs()).unwrap_or(u16::MAX));
        let name = format!("provisiond {purpose} (pid {})", std::process::id());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        // lapin has no timeout, and dropping its future leaks a thread and a socket. On timeout the socket is shut
        // down, which ends the thread.
        let socket = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&socket);
        let tls = match uri.scheme {
            AMQPScheme::AMQP => None,
            AMQPScheme::AMQPS => Some(Arc::new(transport::tls_config(&self.authorities)?)),
        };
        let dialling = Connection::connector(
            uri,
            transport::runtime(),
            async move |uri: AMQPUri, _| {
                let address = (uri.authority.host.clone(), uri.authority.port);
                let addresses = tokio::net::lookup_host(address).await?.collect::<Vec<_>>();
                let mut stream = Transport::connect(addresses).await?;
                // Close-on-exec, or a script would inherit the connection.
                let copy =
                    rustix::io::fcntl_dupfd_cloexec(stream.as_fd(), 0).map_err(std::io::Error::from)?;
                *kept.lock() = Some(copy);
                if let Some(tls) = &tls {
                    stream = stream.into_tls(&uri.authority.host, Arc::clone(tls)).await?;
                }
                Ok(AsyncTcpStream::Plain(stream))
            },
            properties,
        );
        let connected = timeout(self.connect_timeout, dialling).await;
        let socket = Socket(socket.lock().take());
        if let Ok(connected) = connected {
            let connection = connected.map_err(|error| match error.kind() {
                ErrorKind::ParsingError(_) => anyhow::anyhow!(
                    "the server does not answer with AMQP: if the port uses TLS, amqp.url must begin with amqps://"
                ),
                _ => BrokerError::from(error).into(),
            })?;
            return Ok((connection, socket));
        }
        socket.shut_down();
        anyhow::bail!(
            "no answer within {:?} (amqp.connect_timeout): a broker that accepts connections but does not answer has \
             usually used up its open files (rabbitmqctl status, File Descriptors), or is overloaded",
            self.connect_timeout
        )
    }
}
