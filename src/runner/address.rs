//! Where a call may go: the rules on addresses, held against what is really connected to.
//!
//! A name is judged by what it resolves to at the moment of the connection, in the client's own
//! resolver: what it resolved to before, when its handler was saved, proves nothing. An address that
//! is written in a url never meets the resolver, and is judged before the call. The `url` crate has
//! made an ordinary address of every spelling of one (decimal, octal, hexadecimal, short) by then.

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

/// For the name of a handler that is being saved.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How a name becomes addresses. The port is of no meaning.
pub(super) type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Where no handler may point.
#[derive(Debug, thiserror::Error)]
pub enum AddressRefused {
    #[error("the address {0}")]
    Address(Denied),
    #[error("the name {name} leads to {} only: {first}", if *.others == 0 { "a denied address" } else { "denied addresses" })]
    Name { name: String, first: Denied, others: usize },
}

/// Why a name gives nothing to connect to.
#[derive(Debug, thiserror::Error)]
pub enum Unresolved {
    #[error(transparent)]
    Unknown(#[from] io::Error),
    #[error(transparent)]
    Refused(AddressRefused),
}

/// Resolves names, and leaves out what is denied.
#[derive(Clone)]
pub struct AddressFilter {
    rules: Arc<AddressRules>,
    lookup: Lookup,
}

/// Whether a handler may point to `url`, as far as that can be told before it is called: a name that
/// cannot be resolved here and now is no error.
///
/// # Errors
/// Names the address and the rule.
pub async fn check_target(rules: &AddressRules, url: &HttpTarget) -> Result<(), AddressRefused> {
    AddressFilter::new(rules.clone()).check(url).await
}

/// Judges the address that is written in `url`, if one is.
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

    /// As [`check_literal`].
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

    /// The addresses of `name` that may be called; at least one.
    async fn addresses(&self, name: &str) -> Result<Vec<SocketAddr>, Unresolved> {
        let found = (self.lookup)(name.to_owned()).await?;
        let mut first = None;
        let mut may_be_called = |address: &SocketAddr| match self.rules.check(address.ip()) {
            Ok(()) => true,
            Err(denied) => {
                first.get_or_insert(denied);
                false
            }
        };
        let all = found.len();
        let allowed: Vec<_> = found.into_iter().filter(|address| may_be_called(address)).collect();
        match first {
            _ if !allowed.is_empty() => Ok(allowed),
            Some(first) => {
                let name = name.to_owned();
                Err(Unresolved::Refused(AddressRefused::Name { name, first, others: all.saturating_sub(1) }))
            }
            None => Err(io::Error::new(io::ErrorKind::NotFound, "it has no address").into()),
        }
    }
}

impl Resolve for AddressFilter {
    fn resolve(&self, name: Name) -> Resolving {
        let gate = self.clone();
        Box::pin(async move {
            let addresses = gate.addresses(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
