//! Checks the addresses that handlers call against `http.deny` and `http.allow`.
//!
//! A name is resolved and checked when the connection is made, in the resolver of the HTTP client. What it
//! resolved to when the handler was saved proves nothing, because DNS answers change.
//!
//! An address that is written in a url never reaches the resolver, so it is checked before the call. By then
//! the `url` crate has normalised every spelling of an address (decimal, octal, hexadecimal, short).

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::timeout;
use url::Host;

use crate::domain::{
    address::{AddressRules, Denied},
    task::HttpTarget,
};

/// Limit for resolving the name of a handler that is being saved.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Resolves a name to addresses. Their port is ignored.
pub(super) type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Why an address or a name must not be called.
#[derive(Debug, thiserror::Error)]
pub enum AddressRefused {
    #[error("the address {0}")]
    Address(Denied),
    #[error("the name {name} resolves only to {}: {first}", if *.others == 0 { "a denied address" } else { "denied addresses" })]
    Name { name: String, first: Denied, others: usize },
}

/// Why a name has no address to connect to.
#[derive(Debug, thiserror::Error)]
pub enum Unresolved {
    #[error(transparent)]
    Unknown(#[from] io::Error),
    #[error(transparent)]
    Refused(AddressRefused),
}

/// Resolves names, and removes denied addresses.
#[derive(Clone)]
pub struct AddressFilter {
    rules: Arc<AddressRules>,
    lookup: Lookup,
}

/// Checks whether a handler may call `url`, as far as that is known before the call. A name that cannot be
/// resolved now is no error.
///
/// # Errors
/// Names the address and the rule.
pub async fn check_target(rules: &AddressRules, url: &HttpTarget) -> Result<(), AddressRefused> {
    AddressFilter::new(rules.clone()).check(url).await
}

/// Checks the address in `url`, if its host is an address and not a name.
///
/// # Errors
/// Names the address and the rule.
pub fn check_literal(rules: &AddressRules, url: &HttpTarget) -> Result<(), AddressRefused> {
    let address = match url.url().host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    rules.check(address).map_err(AddressRefused::Address)
}

impl AddressFilter {
    pub fn new(rules: AddressRules) -> Self {
        let lookup = |name: String| -> BoxFuture<'static, _> {
            Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
        };
        Self::with_lookup(rules, Arc::new(lookup))
    }

    pub(super) fn with_lookup(rules: AddressRules, lookup: Lookup) -> Self {
        Self { rules: Arc::new(rules), lookup }
    }

    /// Like the function [`check_literal`].
    pub fn check_literal(&self, url: &HttpTarget) -> Result<(), AddressRefused> {
        check_literal(&self.rules, url)
    }

    pub async fn check(&self, url: &HttpTarget) -> Result<(), AddressRefused> {
        self.check_literal(url)?;
        let Some(Host::Domain(name)) = url.url().host() else { return Ok(()) };
        match timeout(LOOKUP_TIMEOUT, self.addresses(name)).await {
            Ok(Err(Unresolved::Refused(refused))) => Err(refused),
            _ => Ok(()),
        }
    }

    /// Resolves `name` to the addresses that may be called: at least one.
    async fn addresses(&self, name: &str) -> Result<Vec<SocketAddr>, Unresolved> {
        let resolved = (self.lookup)(name.to_owned()).await?;
        let mut first = None;
        let mut may_be_called = |address: &SocketAddr| match self.rules.check(address.ip()) {
            Ok(()) => true,
            Err(denied) => {
                first.get_or_insert(denied);
                false
            }
        };
        let total = resolved.len();
        let allowed: Vec<_> = resolved.into_iter().filter(|address| may_be_called(address)).collect();
        match first {
            _ if !allowed.is_empty() => Ok(allowed),
            Some(first) => {
                let name = name.to_owned();
                Err(Unresolved::Refused(AddressRefused::Name {
                    name,
                    first,
                    others: total.saturating_sub(1),
                }))
            }
            None => Err(io::Error::new(io::ErrorKind::NotFound, "it has no address").into()),
        }
    }
}

impl Resolve for AddressFilter {
    fn resolve(&self, name: Name) -> Resolving {
        let filter = self.clone();
        Box::pin(async move {
            let addresses = filter.addresses(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
