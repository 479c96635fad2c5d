//! Dialling the broker: once, bounded in time.

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

/// Where the broker is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// The nodes of a cluster, tried in turn.
    pub urls: Vec<SecretString>,
    /// A link that is silent for twice this long is given up. Whole seconds.
    pub heartbeat: Duration,
    pub connect_timeout: Duration,
    /// The certificates of `amqp.ca_file`, which are trusted beside the system's.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Of RabbitMQ's management API, with its user and password if they are others than those of `urls`.
    pub management_url: Option<SecretString>,
    pub topology: Topology,
}

/// The socket of a connection. lapin has no way to give one up that does not answer: `close` waits for the answer.
pub(super) struct Socket(Option<OwnedFd>);

impl Socket {
    /// The connection fails at once, and with it all that waits on it.
    pub(super) fn shut_down(self) {
        if let Some(socket) = self.0 {
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
    }
}

impl BrokerSettings {
    /// Dials the nodes in turn, once each.
    ///
    /// # Errors
    /// If none of them answers in time; the errors name the nodes, never their passwords.
    pub async fn dial(&self, purpose: &str) -> anyhow::Result<Connection> {
        self.dial_with_socket(purpose).await.map(|(connection, _)| connection)
    }

    /// As [`BrokerSettings::dial`], with the socket below the connection, which can be shut down under it.
    pub(super) async fn dial_with_socket(&self, purpose: &str) -> anyhow::Result<(Connection, Socket)> {
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

    async fn dial_node(&self, mut uri: AMQPUri, purpose: &str) -> anyhow::Result<(Connection, Socket)> {
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
                // Close-on-exec: a script would inherit the connection.
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
                    "it does not answer in AMQP: if the port speaks TLS, amqp.url begins with amqps://"
                ),
                _ => BrokerError::from(error).into(),
            })?;
            return Ok((connection, socket));
        }
        socket.shut_down();
        anyhow::bail!(
            "no answer within {:?} (amqp.connect_timeout): a broker that accepts a connection and does not answer has \
             mostly used up its open files (rabbitmqctl status, File Descriptors), or is overloaded",
            self.connect_timeout
        )
    }
}
