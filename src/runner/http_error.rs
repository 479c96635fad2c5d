//! Errors of the HTTP client as text for operators: one line with the whole chain of causes.
//!
//! The text leaves out what may be secret: the path and query of the url, headers and bodies.

use std::{error::Error, io, time::Duration};

use humantime::format_duration;

use super::{
    address::{AddressRefused, Unresolved},
    http::client::{MAX_HEADER_BYTES, MAX_HEADER_LINES, PING_INTERVAL},
    shortage,
};
use crate::{
    domain::{outcome::FailureKind, task::HttpTarget},
    tls::{self, Peer},
};

/// Whether a retry can help. It can, unless the request could not be built, the address is denied, the
/// endpoint requires HTTP/1.1 on an HTTP/2 connection, or the headers of the answer are too large.
pub fn kind(error: &reqwest::Error) -> FailureKind {
    let too_large = find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse_too_large);
    if error.is_builder() || refused(error).is_some() || needs_http1(error) || too_large {
        FailureKind::Permanent
    } else {
        FailureKind::Transient
    }
}

/// Whether no connection could be made because this machine lacks a resource.
pub fn is_shortage(error: &reqwest::Error) -> bool {
    error.is_connect()
        && chain(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).any(shortage::is_shortage)
}

fn refused(error: &reqwest::Error) -> Option<&AddressRefused> {
    chain(error).find_map(|cause| match cause.downcast_ref() {
        Some(Unresolved::Refused(refused)) => Some(refused),
        _ => None,
    })
}

/// Why there was no answer from `url`, as one line of text.
pub fn describe(error: &reqwest::Error, url: &HttpTarget, connect_timeout: Duration) -> String {
    let url = url.url();
    let host = url.host_str().unwrap_or_default();
    let peer = url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    if error.is_builder() {
        return format!("cannot build the request to {peer}: {}", causes(error));
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

/// What the operator can do about `error`, if that is known.
fn advice(error: &reqwest::Error, scheme: &str) -> Option<String> {
    if let Some(error) = find::<rustls::Error>(error) {
        return tls::advice(error, &Peer::ENDPOINT);
    }
    if let Some(error) = find::<h2::Error>(error) {
        return h2_advice(error);
    }
    find::<hyper::Error>(error).and_then(|error| h1_advice(error, scheme))
}

/// What is wrong with an answer over HTTP/1.1.
fn h1_advice(error: &hyper::Error, scheme: &str) -> Option<String> {
    let text = error.to_string();
    Some(if error.is_parse_too_large() {
        format!("provisiond accepts at most {MAX_HEADER_LINES} header lines, and 400 KiB of headers")
    } else if error.is_parse_status() {
        "the status line of the answer must be HTTP/1.1, one space and a status of three digits".to_owned()
    } else if text.contains("content-length") {
        "the Content-Length of the answer is not a single number".to_owned()
    } else if text.contains("transfer-encoding") {
        "the Transfer-Encoding of the answer is not supported: it must be chunked".to_owned()
    } else if text.contains("header") && error.is_parse() {
        "a header line of the answer contains a NUL byte or a lone carriage return".to_owned()
    } else if error.is_parse() {
        let hint =
            if scheme == "http" { ": if the port speaks TLS, the url must begin with https://" } else { "" };
        format!("the answer does not begin with HTTP/1.1 or HTTP/1.0{hint}")
    } else if scheme == "https" && (error.is_closed() || error.is_canceled()) {
        format!(
            "the endpoint closed the connection at once: if it offers HTTP/2 (ALPN), it must speak \
             HTTP/2; {USE_HTTP1}"
        )
    } else {
        return None;
    })
}

const USE_HTTP1: &str = "to call it over HTTP/1.1, set the header Host on the handler";

/// What is wrong on an HTTP/2 connection. The event is never the cause.
fn h2_advice(error: &h2::Error) -> Option<String> {
    if error.is_io() {
        return None;
    }
    Some(match error.reason()? {
        h2::Reason::HTTP_1_1_REQUIRED => {
            "the endpoint offered HTTP/2 but requires HTTP/1.1: turn off HTTP/2 there, \
             or set the header Host on the handler, which makes provisiond call it over HTTP/1.1"
                .to_owned()
        }
        h2::Reason::ENHANCE_YOUR_CALM => format!(
            "the endpoint closed the HTTP/2 connection because of too many pings or resets: \
             configure it to allow a ping every {}",
            format_duration(PING_INTERVAL)
        ),
        h2::Reason::FRAME_SIZE_ERROR if !error.is_remote() => {
            format!("the endpoint offers HTTP/2 (ALPN) but does not speak it; {USE_HTTP1}")
        }
        _ if !error.is_remote() => format!(
            "the answer breaks the rules of HTTP/2. Usually the headers are the cause: a name contains a capital \
             letter or a space, a value contains a control character, :status is not three digits, or the headers \
             are more than {} KiB; {USE_HTTP1}",
            MAX_HEADER_BYTES >> 10
        ),
        h2::Reason::REFUSED_STREAM => "the endpoint accepts no more requests on this connection".to_owned(),
        h2::Reason::CANCEL => "the endpoint cancelled its answer".to_owned(),
        _ if error.is_go_away() => "the endpoint closed the HTTP/2 connection".to_owned(),
        _ => "the endpoint failed while it answered: see its log".to_owned(),
    })
}

/// Beginnings of causes that only say where the next cause occurred.
const WRAPPERS: [&str; 3] = ["client error (", "dns error", "error resolving DNS"];

/// The causes of `error`, outermost first, without the wrappers of the client, which do not help an operator.
pub fn causes(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in chain(error).filter(|cause| !cause.is::<reqwest::Error>()) {
        if cause.downcast_ref::<io::Error>().is_some_and(|error| error.get_ref().is_some()) {
            // Its text repeats the error that it wraps, which comes next.
            continue;
        }
        let text = cause.downcast_ref().map_or_else(|| cause.to_string(), tls::words);
        let is_repeated = parts.last().is_some_and(|last| last.contains(&text));
        if !is_repeated && !WRAPPERS.iter().any(|wrapper| text.starts_with(wrapper)) {
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

/// `error` and its causes. `source` of an `io::Error` skips the error that it wraps, so that is read with
/// `get_ref`.
fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(Some(error as &(dyn Error + 'static)), |error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|wrapped| wrapped as &(dyn Error + 'static)).or_else(|| (*error).source())
    })
}
