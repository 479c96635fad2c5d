//! Errors of the HTTP client in words of people: one line, with the whole chain of causes, and
//! without what may be secret (the url's path and query, headers, bodies).

use std::{error::Error, io, time::Duration};

use humantime::format_duration;

use super::{
    address::{Refused, Unresolved},
    shortage,
};
use crate::domain::{outcome::FailureKind, task::HttpTarget};

/// Whether trying again can help: always, unless the request could not even be put together, or must
/// not go where it points.
pub fn kind(error: &reqwest::Error) -> FailureKind {
    if error.is_builder() || refused(error).is_some() {
        FailureKind::Permanent
    } else {
        FailureKind::Transient
    }
}

/// Whether no connection could be made because this machine has not enough of something.
pub fn is_shortage(error: &reqwest::Error) -> bool {
    error.is_connect()
        && chain(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).any(shortage::is_shortage)
}

fn refused(error: &reqwest::Error) -> Option<&Refused> {
    chain(error).find_map(|cause| match cause.downcast_ref() {
        Some(Unresolved::Refused(refused)) => Some(refused),
        _ => None,
    })
}

/// Why there was no answer from `url`.
pub fn words(error: &reqwest::Error, url: &HttpTarget, connect_timeout: Duration) -> String {
    let url = url.url();
    let host = url.host_str().unwrap_or_default();
    let peer = url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    if error.is_builder() {
        return format!("the request to {peer} could not be put together: {}", causes(error));
    }
    if let Some(refused) = refused(error) {
        return refused.to_string();
    }
    if error.is_dns() {
        return format!("the name {host} could not be resolved: {}", causes(error));
    }
    if error.is_connect() && error.is_timeout() {
        return format!("no connection to {peer} within {}", format_duration(connect_timeout));
    }
    match io_kind(error) {
        Some(io::ErrorKind::ConnectionRefused) => format!("connection refused by {peer}"),
        Some(io::ErrorKind::ConnectionReset) => format!("connection reset by {peer}"),
        _ if error.is_connect() => format!("no connection to {peer}: {}", causes(error)),
        _ => format!("no answer from {peer}: {}", causes(error)),
    }
}

/// Causes that only say where the next one was met.
const WRAPPERS: [&str; 3] = ["client error (", "dns error", "error resolving DNS"];

/// What lies beneath `error`, from the outside in. The client's own wrappers say nothing to people.
pub fn causes(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in chain(error).filter(|cause| !cause.is::<reqwest::Error>()) {
        let text = cause.to_string();
        let said = parts.last().is_some_and(|last| last.contains(&text));
        if !said && !WRAPPERS.iter().any(|wrapper| text.starts_with(wrapper)) {
            parts.push(text.replace(char::is_control, " "));
        }
    }
    if parts.is_empty() { "no cause is known".to_owned() } else { parts.join(": ") }
}

fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    chain(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last().map(io::Error::kind)
}

fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(Some(error as &(dyn Error + 'static)), |error| (*error).source())
}
