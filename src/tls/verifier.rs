//! Decides which server certificates are trusted.

use std::{fmt, sync::Arc};

use anyhow::{Context, ensure};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        WantsClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::{algorithms::rsa_bits, explain::is_ca_as_server};

/// The minimum size of an RSA key.
const MIN_RSA_BITS: usize = 2048;

/// The CAs that are trusted in addition to the certificates of a `ca_file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The CAs of the system.
    System,
    /// No other CAs.
    Own,
}

/// The beginning of a configuration that trusts the certificates `own`, and `roots`. The caller adds the
/// client certificate.
///
/// # Errors
/// If no certificate would be trusted.
pub fn config(
    own: Vec<CertificateDer<'static>>,
    roots: Roots,
) -> anyhow::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let provider = provider()?;
    let verifier = Verifier::new(own, roots, &provider)?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

/// A configuration for clients that make no TLS connection.
pub fn without_trust() -> anyhow::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider()?).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn provider() -> anyhow::Result<Arc<CryptoProvider>> {
    // It fails only if a provider is installed already, and that is the same one.
    let _ = ring::default_provider().install_default();
    CryptoProvider::get_default().cloned().context("no TLS provider is installed in this process")
}

/// Verifies server certificates as rustls does, with two exceptions: see [`Verifier::verify_server_cert`] and
/// [`WeakKey`].
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    /// The certificates of the `ca_file`.
    own: Vec<CertificateDer<'static>>,
}

/// An RSA key that is too short. For its signatures rustls reports only a bad signature.
#[derive(Debug)]
pub(super) struct WeakKey {
    bits: usize,
}

impl fmt::Display for WeakKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an RSA key of {} bits", self.bits)
    }
}

impl std::error::Error for WeakKey {}

impl Verifier {
    fn new(
        own: Vec<CertificateDer<'static>>,
        additional: Roots,
        provider: &Arc<CryptoProvider>,
    ) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in &own {
            roots.add(certificate.clone())?;
        }
        if additional == Roots::System {
            // The CA collection of a system often contains a certificate that no library can parse. It is
            // skipped.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        ensure!(
            !roots.is_empty(),
            "TLS needs the system's CA certificates (install ca-certificates, or point SSL_CERT_FILE at a bundle)"
        );
        let provider = Arc::clone(provider);
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        Ok(Self { webpki, own })
    }
}

impl ServerCertVerifier for Verifier {
    /// Accepts a CA certificate as a server's certificate, if exactly this one is in the `ca_file`.
    ///
    /// `openssl req -x509` makes such certificates, and webpki rejects them for servers. It does so after it
    /// has checked the dates, so only the name is left to verify.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            Err(error) if is_ca_as_server(&error) && self.own.iter().any(|own| own == end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            Err(error) => {
                let issuers = intermediates.iter().chain(&self.own).map(CertificateDer::as_ref);
                Err(with_weak_key(error, issuers))
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.webpki.verify_tls12_signature(message, certificate, signature);
        verified.map_err(|error| with_weak_key(error, [certificate.as_ref()]))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.webpki.verify_tls13_signature(message, certificate, signature);
        verified.map_err(|error| with_weak_key(error, [certificate.as_ref()]))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Returns `error`, or the [`WeakKey`] among `signers` if that is why a signature is bad.
fn with_weak_key<'a>(error: Error, signers: impl IntoIterator<Item = &'a [u8]>) -> Error {
    if error != Error::InvalidCertificate(CertificateError::BadSignature) {
        return error;
    }
    let mut bits = signers.into_iter().filter_map(rsa_bits);
    match bits.find(|bits| *bits < MIN_RSA_BITS) {
        Some(bits) => CertificateError::Other(OtherError(Arc::new(WeakKey { bits }))).into(),
        None => error,
    }
}
