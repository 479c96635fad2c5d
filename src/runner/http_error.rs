//! Errors of the HTTP client in words of people: one line, with the whole chain of causes, and
//! without what may be secret (the url's path and query, headers, bodies).

use std::{error::Error, io, time::Duration};

use humantime::format_duration;

use super::{
    address::{Refused, Unresolved},
    http::client::{MAX_HEADER_BYTES, MAX_HEADER_LINES, PING},
    shortage, tls,
};
use crate::domain::{outcome::FailureKind, task::HttpTarget};

/// Whether trying again can help: always, unless the request could not even be put together, must not go where it points,
/// or is refused over HTTP/2.
pub fn kind(error: &reqwest::Error) -> FailureKind {
    if error.is_builder() || refused(error).is_some() || needs_http1(error) {
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
    let advice = advice(error, url.scheme()).map(|advice| format!("; {advice}")).unwrap_or_default();
    match io_kind(error) {
        Some(io::ErrorKind::ConnectionRefused) => format!("connection refused by {peer}"),
        Some(io::ErrorKind::ConnectionReset) => format!("connection reset by {peer}"),
        _ if error.is_connect() => format!("no connection to {peer}: {}{advice}", causes(error)),
        _ => format!("no answer from {peer}: {}{advice}", causes(error)),
    }
}

fn needs_http1(error: &reqwest::Error) -> bool {
    find::<h2::Error>(error).and_then(h2::Error::reason) == Some(h2::Reason::HTTP_1_1_REQUIRED)
}

/// What the operator can do about `error`, where that is known.
fn advice(error: &reqwest::Error, scheme: &str) -> Option<String> {
    if let Some(error) = find::<rustls::Error>(error) {
        return tls::advice::advice(error).map(str::to_owned);
    }
    if let Some(error) = find::<h2::Error>(error) {
        return h2_advice(error);
    }
    let error = find::<hyper::Error>(error)?;
    if error.is_parse_too_large() {
        Some(format!("an answer has at most {MAX_HEADER_LINES} header lines and 400 KiB of them"))
    } else if error.is_parse() && scheme == "http" {
        Some(
            "the endpoint did not answer in HTTP: if the port speaks TLS, the url begins with https://"
                .to_owned(),
        )
    } else if error.is_parse() {
        Some("the endpoint did not answer in HTTP".to_owned())
    } else {
        None
    }
}

/// What is wrong on an HTTP/2 connection. It is never the event's fault.
fn h2_advice(error: &h2::Error) -> Option<String> {
    if error.is_io() {
        return None;
    }
    Some(match error.reason() {
        Some(h2::Reason::HTTP_1_1_REQUIRED) => {
            "the endpoint offered HTTP/2 and requires HTTP/1.1: turn off HTTP/2 there, \
             or give the handler the header Host, whose calls go over HTTP/1.1"
                .to_owned()
        }
        Some(h2::Reason::ENHANCE_YOUR_CALM) => format!(
            "the endpoint closed the HTTP/2 connection because of too many pings or resets: \
             allow a ping every {} there",
            format_duration(PING)
        ),
        _ => format!(
            "the HTTP/2 protocol failed; an answer has at most {} KiB of headers",
            MAX_HEADER_BYTES >> 10
        ),
    })
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

fn find<E: Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// `error` and its causes. What an IO error wraps is not its source: it would be passed over.
fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(Some(error as &(dyn Error + 'static)), |error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|wrapped| wrapped as &(dyn Error + 'static)).or_else(|| (*error).source())
    })
}
