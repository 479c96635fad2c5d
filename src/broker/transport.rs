//! The byte stream below a connection: TCP, with TLS for `amqps://`.
//!
//! lapin would bring a TLS stack of its own, with key stores in formats that nobody here uses. This uses the TLS of the
//! rest of the program.

use std::{
    io::{self, IoSlice, Read, Write},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_rs::{Runtime, Tokio, traits::Reactor, util::RuntimeParts};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{io::ReadBuf, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::inbound::Inbound;
use crate::tls::{self, Peer, Roots};

/// Maximum bytes of one read from the socket.
const READ_SIZE: usize = 64 * 1024;

/// tokio, with [`Transport`] as the stream of its connections.
pub(super) type TransportRuntime = Runtime<RuntimeParts<Tokio, TransportReactor>>;

pub(super) fn runtime() -> TransportRuntime {
    Runtime::new(RuntimeParts::new(Tokio::current(), TransportReactor(Tokio::current())))
}

/// The stream that lapin reads and writes. Inbound bytes are checked before lapin reads them.
pub(super) struct Transport {
    socket: TcpOrTls,
    inbound: Inbound,
}

enum TcpOrTls {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Connects to the first of `addresses` that answers.
    pub(super) async fn connect(addresses: Vec<SocketAddr>) -> io::Result<Self> {
        let tcp = TcpStream::connect(addresses.as_slice()).await?;
        tcp.set_nodelay(true)?;
        Ok(TcpOrTls::Plain(tcp).into())
    }

    /// Starts TLS, and verifies that the server is `host`.
    pub(super) async fn into_tls(self, host: &str, tls: Arc<ClientConfig>) -> io::Result<Self> {
        let TcpOrTls::Plain(tcp) = self.socket else { return Ok(self) };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is not a valid TLS server name"))
        })?;
        let connected = TlsConnector::from(tls).connect(name, tcp).await;
        let stream = connected.map_err(|error| tls::explained(error, &Peer::BROKER))?;
        Ok(TcpOrTls::Tls(Box::new(stream)).into())
    }
}

impl From<TcpOrTls> for Transport {
    fn from(socket: TcpOrTls) -> Self {
        Self { socket, inbound: Inbound::default() }
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            TcpOrTls::Plain(tcp) => tcp.as_fd(),
            TcpOrTls::Tls(tls) => tls.get_ref().0.as_fd(),
        }
    }
}

/// Trusts the system's certificate authorities and `own`.
pub(super) fn tls_config(own: &[CertificateDer<'static>]) -> anyhow::Result<ClientConfig> {
    Ok(tls::config(own.to_vec(), Roots::System)?.with_no_client_auth())
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { socket, inbound } = self.get_mut();
        loop {
            let count = inbound.take(bytes);
            if count > 0 || bytes.is_empty() {
                return Poll::Ready(Ok(count));
            }
            let mut buffer = ReadBuf::new(inbound.space(READ_SIZE));
            ready!(match socket {
                TcpOrTls::Plain(tcp) => tokio::io::AsyncRead::poll_read(Pin::new(tcp), cx, &mut buffer),
                TcpOrTls::Tls(tls) =>
                    tokio::io::AsyncRead::poll_read(Pin::new(tls.as_mut()), cx, &mut buffer),
            })?;
            let read = buffer.filled().len();
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            inbound.push(read);
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            TcpOrTls::Plain(tcp) => tokio::io::AsyncWrite::poll_write(Pin::new(tcp), cx, bytes),
            TcpOrTls::Tls(tls) => tokio::io::AsyncWrite::poll_write(Pin::new(tls.as_mut()), cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            TcpOrTls::Plain(tcp) => tokio::io::AsyncWrite::poll_write_vectored(Pin::new(tcp), cx, parts),
            TcpOrTls::Tls(tls) => {
                tokio::io::AsyncWrite::poll_write_vectored(Pin::new(tls.as_mut()), cx, parts)
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            TcpOrTls::Plain(tcp) => tokio::io::AsyncWrite::poll_flush(Pin::new(tcp), cx),
            TcpOrTls::Tls(tls) => tokio::io::AsyncWrite::poll_flush(Pin::new(tls.as_mut()), cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            TcpOrTls::Plain(tcp) => tokio::io::AsyncWrite::poll_shutdown(Pin::new(tcp), cx),
            TcpOrTls::Tls(tls) => tokio::io::AsyncWrite::poll_shutdown(Pin::new(tls.as_mut()), cx),
        }
    }
}

/// tokio's timers and sockets, with [`Transport`] as the stream type.
#[derive(Clone, Debug)]
pub(super) struct TransportReactor(Tokio);

impl Reactor for TransportReactor {
    type TcpStream = Transport;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, period: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(period)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        Transport::connect(vec![address])
    }
}
