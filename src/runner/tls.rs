//! Whom https trusts beside the authorities of the system, and how we say who we are.

#[cfg(test)]
mod tests;

use std::{fs, path::Path};

use anyhow::{Context, bail, ensure};
use reqwest::{Certificate, Identity};
use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

/// The certificates of `http.ca_file`.
pub fn authorities(path: &Path) -> anyhow::Result<Vec<Certificate>> {
    let what = || format!("http.ca_file {}", path.display());
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", what()))?;
    let found = certificates(&bytes).with_context(what)?;
    let mut roots = RootCertStore::empty();
    found
        .into_iter()
        .map(|certificate| {
            let der = Certificate::from_der(&certificate);
            roots
                .add(certificate)
                .with_context(|| format!("{} holds a certificate that cannot be used", what()))?;
            der.with_context(what)
        })
        .collect()
}

/// The certificate of `http.client_cert`, with its chain and key.
pub fn identity(path: &Path) -> anyhow::Result<Identity> {
    let what = || format!("http.client_cert {}", path.display());
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", what()))?;
    let chain = certificates(&bytes).with_context(what)?;
    let Ok(key) = PrivateKeyDer::from_pem_slice(&bytes) else {
        bail!(
            "{} holds no private key in PEM without a password, which belongs beside the certificate",
            what()
        );
    };
    let provider = CryptoProvider::get_default().context("no TLS provider is installed in this process")?;
    CertifiedKey::from_der(chain, key, provider)
        .with_context(|| format!("{}: certificate and key cannot be used together", what()))?;
    Identity::from_pem(&bytes).with_context(what)
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().context("it is no proper PEM")?;
    ensure!(!found.is_empty(), "it holds no certificate (PEM, -----BEGIN CERTIFICATE-----)");
    Ok(found)
}
