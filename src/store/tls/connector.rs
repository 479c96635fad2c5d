//! TLS streams to PostgreSQL. They know the hash of the server's certificate, for the channel binding of SCRAM.
//!
//! Like tokio-postgres-rustls, but also for certificates that are signed with RSA-PSS, or with ECDSA and SHA-512, and
//! with errors that say what to do.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName},
};
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::{TlsConnector, client};

use crate::tls::{Peer, explained, hash_bits};

/// Makes TLS streams with one configuration.
#[derive(Clone)]
pub struct Connector(Arc<ClientConfig>);

/// Makes the TLS stream of one connection.
pub struct Connect {
    host: String,
    connector: TlsConnector,
}

pub struct Stream<S>(client::TlsStream<S>);

impl Connector {
    pub fn new(config: ClientConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl<S> MakeTlsConnect<S> for Connector
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type TlsConnect = Connect;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Connect, Infallible> {
        Ok(Connect { host: host.to_owned(), connector: Arc::clone(&self.0).into() })
    }
}

impl<S> TlsConnect<S> for Connect
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let name = ServerName::try_from(self.host)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let connected = self.connector.connect(name, stream).await;
            connected.map(Stream).map_err(|error| explained(error, &Peer::DATABASE))
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        let (_, session) = self.0.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        certificate
            .and_then(end_point)
            .map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// `tls-server-end-point` (RFC 5929): the hash of the certificate, by the hash function of its signature. `None` if
/// the signature has no hash function of its own, as with Ed25519.
fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    match hash_bits(certificate)? {
        256 => Some(Sha256::digest(certificate).to_vec()),
        384 => Some(Sha384::digest(certificate).to_vec()),
        512 => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustls::pki_types::pem::PemObject;

    use super::*;

    /// A self-signed certificate, made with `openssl`.
    fn certificate(key: &[&str], options: &[&str]) -> CertificateDer<'static> {
        let dir = tempfile::tempdir().expect("a directory");
        let output = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-subj", "/CN=h", "-keyout", "key", "-out", "cert", "-newkey"])
            .args(key)
            .args(options)
            .current_dir(dir.path())
            .output()
            .expect("openssl");
        assert!(output.status.success(), "{key:?}: {}", String::from_utf8_lossy(&output.stderr));
        CertificateDer::from_pem_file(dir.path().join("cert")).expect("a certificate")
    }

    #[test]
    fn the_hash_follows_the_signature_of_the_certificate() {
        let (rsa, pss) = (&["rsa:2048"][..], &["rsa-pss"][..]);
        let curve = |name| ["ec", "-pkeyopt", name];
        let [p256, p384, p521] =
            ["ec_paramgen_curve:P-256", "ec_paramgen_curve:P-384", "ec_paramgen_curve:P-521"].map(curve);
        let padding = &["-sigopt", "rsa_padding_mode:pss"][..];
        for (key, options, bits) in [
            (rsa, &["-sha1"][..], Some(256)),
            (rsa, &["-sha256"], Some(256)),
            (rsa, &["-sha384"], Some(384)),
            (rsa, &["-sha512"], Some(512)),
            (rsa, &[&["-sha256"], padding].concat(), Some(256)),
            (rsa, &[&["-sha384"], padding].concat(), Some(384)),
            (rsa, &[&["-sha512"], padding].concat(), Some(512)),
            (pss, &["-sha384"], Some(384)),
            (&p256, &["-sha256"], Some(256)),
            (&p384, &["-sha384"], Some(384)),
            (&p384, &["-sha512"], Some(512)),
            (&p521, &["-sha512"], Some(512)),
            (&["ed25519"], &[], None),
        ] {
            let certificate = certificate(key, options);
            let length = end_point(&certificate).map(|hash| 8 * hash.len());
            assert_eq!(length, bits, "{key:?} {options:?}");
        }
    }
}
