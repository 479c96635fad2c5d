//! TLS for calls of endpoints: the certificates that are trusted, and the client certificate.

#[cfg(test)]
pub mod tests;

use rustls::ClientConfig;

use super::HttpSettings;
use crate::tls::{self, Roots};

/// The TLS configuration of all HTTP clients, without the protocols (ALPN). Its clones share a cache of TLS
/// sessions.
pub fn client_config(settings: &HttpSettings) -> anyhow::Result<ClientConfig> {
    let extra_authorities = match &settings.ca_file {
        Some(path) => tls::authorities("http.ca_file", path)?,
        None => Vec::new(),
    };
    let builder = tls::config(extra_authorities, Roots::System)?;
    Ok(match &settings.client_cert {
        Some(path) => {
            let (chain, key) = tls::identity("http.client_cert", path)?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    })
}
