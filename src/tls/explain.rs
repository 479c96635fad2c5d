//! Texts for TLS errors, and what to do about them.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::{algorithms::name_of, verifier::WeakKey};

const SUPPORTED: &str = "a certificate with an RSA key of 2048 bits or more, or a P-256, P-384 or Ed25519 key, signed \
    with such a key (RSA with SHA-256, SHA-384 or SHA-512; P-256 and P-384 with SHA-256 or SHA-384)";

/// The other end of a connection, as the texts of errors name it.
pub struct Peer {
    pub name: &'static str,
    /// The configuration key of the file with trusted certificates.
    pub ca_file: &'static str,
    /// Where the host name of the other end is configured.
    pub address: &'static str,
    /// What to do if it asks for a client certificate.
    pub asks_for_certificate: &'static str,
    /// What to do if it does not speak TLS.
    pub plain: &'static str,
}

impl Peer {
    pub const ENDPOINT: Self = Self {
        name: "the endpoint",
        ca_file: "http.ca_file",
        address: "the URL",
        asks_for_certificate: "set http.client_cert",
        plain: "if it speaks plain HTTP, the URL must begin with http://",
    };
    pub const BROKER: Self = Self {
        name: "the broker",
        ca_file: "amqp.ca_file",
        address: "amqp.url",
        asks_for_certificate: "provisiond sends none to the broker; set ssl_options.fail_if_no_peer_cert = false in RabbitMQ",
        plain: "if it speaks plain AMQP, amqp.url must begin with amqp://; the usual port of amqps:// is 5671",
    };
    pub const DATABASE: Self = Self {
        name: "the server",
        ca_file: "database.ca_file",
        address: "database.url",
        asks_for_certificate: "provisiond sends none to PostgreSQL; remove clientcert from pg_hba.conf",
        plain: "set ssl = on in postgresql.conf",
    };
}

/// Adds to an error of a TLS stream what to do about it. Returns other errors unchanged.
pub fn explained(error: io::Error, peer: &Peer) -> io::Error {
    let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else { return error };
    let advice = advice(cause, peer).map(|advice| format!("; {advice}")).unwrap_or_default();
    io::Error::new(error.kind(), format!("{}{advice}", words(cause)))
}

/// `error` as text, without what only programmers read.
pub fn words(error: &Error) -> String {
    let Error::InvalidCertificate(why) = error else { return error.to_string() };
    match why {
        CertificateError::Other(other) => format!("invalid peer certificate: {other}"),
        CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id, ..
        } => format!(
            "invalid peer certificate: it, or an issuer above it, is signed with {}",
            name_of(signature_algorithm_id)
        ),
        _ => error.to_string(),
    }
}

/// A sentence that says what the operator can do about `error`. None if that is not known.
pub fn advice(error: &Error, peer: &Peer) -> Option<String> {
    let name = peer.name;
    match error {
        Error::InvalidCertificate(error) => certificate(error, peer),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Some(format!("{name} does not speak TLS on this port: {}", peer.plain))
        }
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            Some(format!("{name} is too old: provisiond speaks TLS 1.2 and 1.3"))
        }
        Error::AlertReceived(alert) => self::alert(*alert, peer),
        _ => None,
    }
}

fn certificate(error: &CertificateError, peer: &Peer) -> Option<String> {
    let Peer { name, ca_file, address, .. } = peer;
    Some(match error {
        CertificateError::Other(_) => return other(error, peer),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
            "{name}'s certificate has expired: renew it (if it has not expired, correct the clock of this machine)"
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => format!(
            "{name}'s certificate is not valid yet: check the clocks of this machine and of the machine that issued it"
        ),
        CertificateError::UnknownIssuer => format!(
            "no trusted CA has issued {name}'s certificate: put its CA's certificate into {ca_file}, \
             and make {name} send its intermediate certificates"
        ),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => format!(
            "{name}'s certificate has no subjectAltName (the Common Name is not used): renew it with one"
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "use a name of the certificate in {address}, or give {name} a certificate for this host name"
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!("{name}'s certificate is not for servers: renew it with extendedKeyUsage serverAuth")
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            format!("give {name} {SUPPORTED}")
        }
        CertificateError::BadSignature => format!(
            "a signature is wrong: {ca_file} may contain an older CA of the same name, or {name}'s key does not belong to its certificate"
        ),
        _ => return None,
    })
}

/// Advice about errors for which rustls has no variant.
fn other(error: &CertificateError, peer: &Peer) -> Option<String> {
    let CertificateError::Other(other) = error else { return None };
    let Peer { name, ca_file, .. } = peer;
    if other.0.is::<WeakKey>() {
        return Some(format!("such a key is too short: give {name} {SUPPORTED}"));
    }
    Some(match other.0.downcast_ref()? {
        webpki::Error::CaUsedAsEndEntity => format!(
            "{name}'s certificate is a CA certificate: put exactly this certificate into {ca_file}, \
             or give {name} a certificate with CA:FALSE"
        ),
        webpki::Error::UnsupportedCertVersion => format!(
            "{name}'s certificate, or an issuer above it, has X.509 version 1: renew it as version 3, with a subjectAltName \
             (openssl x509 -req needs -extfile for that)"
        ),
        webpki::Error::UnsupportedCriticalExtension => format!(
            "{name}'s certificate, or an issuer above it, has an unknown extension that is marked as critical: \
             renew it without that extension"
        ),
        webpki::Error::NameConstraintViolation => format!(
            "the CA of {name}'s certificate may not issue it for this name (nameConstraints): use an allowed name or another CA"
        ),
        webpki::Error::EndEntityUsedAsCa => format!(
            "an issuer of {name}'s certificate is not a CA (basicConstraints CA:TRUE): use a certificate that a CA has issued"
        ),
        webpki::Error::PathLenConstraintViolated => format!(
            "there are more CAs between {name}'s certificate and a trusted CA than one of them allows (pathlen)"
        ),
        _ => format!("{name}'s certificate, or an issuer above it, does not conform to RFC 5280: renew it"),
    })
}

fn alert(alert: AlertDescription, peer: &Peer) -> Option<String> {
    let Peer { name, address, asks_for_certificate, .. } = peer;
    Some(match alert {
        AlertDescription::CertificateRequired => {
            format!("{name} asks for a client certificate: {asks_for_certificate}")
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnknownCA
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => {
            format!("{name} does not accept the client certificate: {asks_for_certificate}")
        }
        AlertDescription::UnrecognisedName => format!("{name} does not know the host name in {address}"),
        AlertDescription::NoApplicationProtocol => format!(
            "{name} speaks HTTP/2 only, which provisiond does not use for a handler that sets the header Host"
        ),
        AlertDescription::HandshakeFailure => format!(
            "{name} does not say why. Possible causes: it asks for a client certificate ({asks_for_certificate}); \
             the key of its certificate is not supported (P-521, Ed448, secp256k1, P-224, brainpool and RSA-PSS keys are not); \
             it allows none of the curves X25519, P-256 and P-384; with TLS 1.2, it allows no ECDHE cipher with AES-GCM or ChaCha20"
        ),
        _ => return None,
    })
}

/// Whether a server presented a CA certificate as its own.
pub(super) fn is_ca_as_server(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}
