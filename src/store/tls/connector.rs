//! TLS streams to PostgreSQL that know the hash of the server's certificate for SCRAM's channel binding.
//!
//! As tokio-postgres-rustls makes them, but for certificates signed with RSA-PSS or with ECDSA and SHA-512 too, and with
//! errors that name the algorithm.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as TlsError,
    pki_types::{CertificateDer, ServerName},
};
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::{TlsConnector, client};
use x509_cert::{
    Certificate,
    der::{Decode, Reader, TagMode, TagNumber, asn1::ObjectIdentifier},
    spki::AlgorithmIdentifierOwned,
};

const SUPPORTED: &str = "give the server a certificate with an RSA, P-256, P-384 or Ed25519 key, signed by one of these \
    (RSA with SHA-256, SHA-384 or SHA-512; P-256 and P-384 with SHA-256 or SHA-384)";

/// Makes TLS streams of one configuration.
#[derive(Clone)]
pub struct Connector(Arc<ClientConfig>);

/// For one connection.
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
            self.connector.connect(name, stream).await.map(Stream).map_err(explained)
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

/// `tls-server-end-point` (RFC 5929): the certificate's hash, by the hash function of its signature. None: its signature
/// has no hash function of its own, as that of Ed25519.
fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    match hash_of(&parsed.signature_algorithm)? {
        256 => Some(Sha256::digest(certificate).to_vec()),
        384 => Some(Sha384::digest(certificate).to_vec()),
        512 => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

/// The bits of the hash function; SHA-256 stands for MD5 and SHA-1.
fn hash_of(algorithm: &AlgorithmIdentifierOwned) -> Option<u16> {
    match algorithm.oid.to_string().as_str() {
        // md5WithRSA, sha1WithRSA, ecdsa-with-SHA1, sha256WithRSA, ecdsa-with-SHA256
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2" => Some(256),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(384),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(512),
        "1.2.840.113549.1.1.10" => pss_hash(algorithm),
        _ => None,
    }
}

/// RSASSA-PSS names its hash function in its parameters, of which it is the first; SHA-1 if it is not there.
fn pss_hash(algorithm: &AlgorithmIdentifierOwned) -> Option<u16> {
    let parameters = algorithm.parameters.as_ref()?;
    let mut reader = x509_cert::der::SliceReader::new(parameters.value()).ok()?;
    let hash: Option<AlgorithmIdentifierOwned> =
        reader.context_specific(TagNumber::N0, TagMode::Explicit).ok()?;
    match hash.map(|hash| hash.oid.to_string()).as_deref() {
        None | Some("1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1") => Some(256),
        Some("2.16.840.1.101.3.4.2.2") => Some(384),
        Some("2.16.840.1.101.3.4.2.3") => Some(512),
        Some(_) => None,
    }
}

/// An error of the handshake that says what to do, where the algorithms are to blame.
fn explained(error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    let why = match cause {
        Some(TlsError::AlertReceived(AlertDescription::HandshakeFailure)) => {
            "no algorithm in common; the key of its certificate is probably of P-521 or RSA-PSS, which are not \
             supported"
                .to_owned()
        }
        Some(TlsError::InvalidCertificate(
            CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { signature_algorithm_id, .. },
        )) => format!(
            "its certificate, or one above it, is signed with {}, which is not supported for such a key",
            name_of(signature_algorithm_id)
        ),
        _ => return error,
    };
    io::Error::new(error.kind(), format!("TLS with the server failed: {why}: {SUPPORTED}"))
}

/// The name of a signature algorithm, of which `id` is the content of its DER.
fn name_of(id: &[u8]) -> String {
    let oid = match id {
        [6, length, rest @ ..] => {
            rest.get(..usize::from(*length)).and_then(|oid| ObjectIdentifier::from_bytes(oid).ok())
        }
        _ => None,
    };
    match oid.map(|oid| oid.to_string()).as_deref() {
        Some("1.2.840.10045.4.3.4") => "ECDSA and SHA-512".to_owned(),
        Some("1.2.840.10045.4.1") => "ECDSA and SHA-1".to_owned(),
        Some("1.2.840.113549.1.1.5") => "RSA and SHA-1".to_owned(),
        Some("1.2.840.113549.1.1.10") => "RSA-PSS and a salt that is not as long as its hash".to_owned(),
        Some(other) => format!("the algorithm {other}"),
        None => "an unknown algorithm".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustls::pki_types::pem::PemObject;

    use super::*;

    /// A certificate that `openssl` signed itself.
    fn certificate(key: &[&str], options: &[&str]) -> CertificateDer<'static> {
        let dir = tempfile::tempdir().expect("a directory");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-subj", "/CN=h", "-keyout", "key", "-out", "cert", "-newkey"])
            .args(key)
            .args(options)
            .current_dir(dir.path())
            .output()
            .expect("openssl");
        assert!(made.status.success(), "{key:?}: {}", String::from_utf8_lossy(&made.stderr));
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

    #[test]
    fn an_algorithm_that_is_not_supported_is_named() {
        let told = |error: TlsError| explained(io::Error::new(io::ErrorKind::InvalidData, error)).to_string();
        let alert = told(TlsError::AlertReceived(AlertDescription::HandshakeFailure));
        assert!(alert.contains("P-521 or RSA-PSS") && alert.contains("P-384"), "{alert}");
        let context = CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: vec![6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 4],
            public_key_algorithm_id: Vec::new(),
        };
        let signed = told(TlsError::InvalidCertificate(context));
        assert!(signed.contains("is signed with ECDSA and SHA-512, which is not supported"), "{signed}");
        let other = told(TlsError::AlertReceived(AlertDescription::UnknownCA));
        assert!(other.contains("UnknownCA") && !other.contains("P-521"), "{other}");
    }
}
