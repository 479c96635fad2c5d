//! What to do about a TLS connection that failed.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::is_ca_as_server;

/// A sentence that says what the operator can do about `error`; none where that is not known.
pub fn advice(error: &Error) -> Option<&'static str> {
    match error {
        Error::InvalidCertificate(_) if is_ca_as_server(error) => Some(
            "the endpoint's certificate is a CA's: put exactly this certificate into http.ca_file, \
             or give the endpoint a certificate with CA:FALSE",
        ),
        Error::InvalidCertificate(error) => certificate(error),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(
            "the endpoint does not speak TLS on this port: if it speaks plain HTTP, the url begins with http://",
        ),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            Some("the endpoint is too old: provisiond speaks TLS 1.2 and 1.3")
        }
        Error::AlertReceived(alert) => self::alert(*alert),
        _ => None,
    }
}

fn certificate(error: &CertificateError) -> Option<&'static str> {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Some(
            "the endpoint's certificate has expired: renew it there (if it has not, set this machine's clock)",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Some(
            "the endpoint's certificate is not valid yet: check the clocks of this machine and of the one that made it",
        ),
        CertificateError::UnknownIssuer => Some(
            "nobody trusted has issued the endpoint's certificate: put its CA's certificate into http.ca_file, \
             and let the endpoint send its intermediate certificates",
        ),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => Some(
            "the endpoint's certificate has no subjectAltName, and its Common Name does not count: renew it with one",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Some(
            "call the endpoint by a name of its certificate, or give it a certificate for the name in the url",
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Some("the endpoint's certificate is not one for servers (extendedKeyUsage serverAuth)")
        }
        _ => None,
    }
}

fn alert(alert: AlertDescription) -> Option<&'static str> {
    match alert {
        AlertDescription::CertificateRequired => {
            Some("the endpoint asks for a client certificate: set http.client_cert")
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnknownCA
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => {
            Some("the endpoint does not accept the client certificate (http.client_cert)")
        }
        AlertDescription::UnrecognisedName => Some("the endpoint does not know the name in the url"),
        AlertDescription::NoApplicationProtocol => Some(
            "the endpoint speaks HTTP/2 only, which is not used for a handler with a header Host of its own",
        ),
        AlertDescription::HandshakeFailure => Some(
            "the endpoint has no TLS version and cipher in common with provisiond, which speaks TLS 1.2 and 1.3",
        ),
        _ => None,
    }
}
