//! Whom https trusts beside the authorities of the system, and how we say who we are.

pub mod advice;
#[cfg(test)]
pub mod tests;

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, bail, ensure};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use super::HttpSettings;

/// How TLS connections are made, but for the protocols that are offered inside of them. Clones share
/// the sessions that they resume.
pub fn client_config(settings: &HttpSettings) -> anyhow::Result<ClientConfig> {
    let provider = CryptoProvider::get_default().context("no TLS provider is installed in this process")?;
    let own = settings.ca_file.as_deref().map(authorities).transpose()?.unwrap_or_default();
    let verifier = Verifier::new(own, provider)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match &settings.client_cert {
        Some(path) => {
            let (chain, key) = identity(path, provider)?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    })
}

/// Trusts the system's authorities and the certificates of `http.ca_file`.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    /// The certificates of `http.ca_file`.
    own: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(own: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in &own {
            roots.add(certificate.clone())?;
        }
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        ensure!(
            !roots.is_empty(),
            "the HTTP client needs the system's CA certificates (install ca-certificates, or point SSL_CERT_FILE at a bundle)"
        );
        let provider = Arc::clone(provider);
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        Ok(Self { webpki, own })
    }
}

impl ServerCertVerifier for Verifier {
    /// `openssl req -x509` makes a certificate that is marked as a CA's. webpki refuses such a one for a server after it
    /// has looked at the dates. If exactly this certificate is in `http.ca_file`, only the name is left to verify.
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
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Whether a server showed a CA's certificate as its own.
fn is_ca_as_server(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// The certificates of `http.ca_file`.
fn authorities(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let what = || format!("http.ca_file {}", path.display());
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", what()))?;
    let found = certificates(&bytes).with_context(what)?;
    let mut roots = RootCertStore::empty();
    for certificate in &found {
        roots
            .add(certificate.clone())
            .with_context(|| format!("{} holds a certificate that cannot be used", what()))?;
    }
    Ok(found)
}

/// The certificate of `http.client_cert`, with its chain and key.
fn identity(
    path: &Path,
    provider: &CryptoProvider,
) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let what = || format!("http.client_cert {}", path.display());
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", what()))?;
    let chain = certificates(&bytes).with_context(what)?;
    let Ok(key) = PrivateKeyDer::from_pem_slice(&bytes) else {
        bail!(
            "{} holds no private key in PEM without a password, which belongs beside the certificate",
            what()
        );
    };
    CertifiedKey::from_der(chain.clone(), key.clone_key(), provider)
        .with_context(|| format!("{}: certificate and key cannot be used together", what()))?;
    Ok((chain, key))
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().context("it is no proper PEM")?;
    ensure!(!found.is_empty(), "it holds no certificate (PEM, -----BEGIN CERTIFICATE-----)");
    Ok(found)
}
