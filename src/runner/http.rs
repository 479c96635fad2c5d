//! The HTTP task: sends one POST, reads a limited part of the answer, and derives the outcome.
//!
//! A call is never repeated here. The endpoint may have acted on the first request, and only a retry of the
//! whole attempt carries an attempt number that says so.

pub mod client;
pub mod request;
mod status;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    pin::pin,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::Version;
use http_body::Body as _;
use http_body_util::BodyExt;
use humantime::format_duration;
use jiff::Timestamp;
use reqwest::Body;
use tokio::time::{Instant, error::Elapsed, timeout, timeout_at};

use self::client::{Clients, MAX_AGE};
use super::{Call, HttpSettings, address::AddressFilter, http_error, output, shortage::not_called};
use crate::domain::{
    outcome::{self, FailureKind, KEPT_BYTES, Outcome},
    task::{HeaderName, HeaderValue, HttpTarget},
};

/// If a deadline is noticed this late, this process itself was stopped or had no CPU time.
const STALL_THRESHOLD: Duration = Duration::from_secs(1);

pub struct HttpRunner {
    clients: Clients,
    address_filter: AddressFilter,
    connect_timeout: Duration,
}

/// How reading the answer ended.
enum End {
    Complete,
    TooLong,
    Broken(String),
    TimedOut,
}

impl HttpRunner {
    pub fn new(settings: &HttpSettings) -> anyhow::Result<Self> {
        let address_filter = AddressFilter::new(settings.rules.clone());
        Self::with_address_filter(settings, address_filter, MAX_AGE)
    }

    fn with_address_filter(
        settings: &HttpSettings,
        address_filter: AddressFilter,
        max_age: Duration,
    ) -> anyhow::Result<Self> {
        let clients = Clients::new(settings, address_filter.clone(), max_age)?;
        Ok(Self { clients, address_filter, connect_timeout: settings.connect_timeout })
    }

    pub async fn run(
        &self,
        call: &Call<'_>,
        url: &HttpTarget,
        headers: &BTreeMap<HeaderName, HeaderValue>,
        called_at: Timestamp,
    ) -> Outcome {
        if let Err(refused) = self.address_filter.check_literal(url) {
            return Outcome::failed(FailureKind::Permanent, refused.to_string(), None);
        }
        let deadline = Instant::now() + call.timeout;
        // Over HTTP/2 the client would send a Host header beside `:authority`, which cannot be set, and an
        // endpoint refuses both together. Without TLS no endpoint offers HTTP/2.
        let is_http1 = url.url().scheme() == "http" || headers.keys().any(HeaderName::is_host);
        let request = self
            .clients
            .get(call.handler.id, is_http1)
            .post(url.url().clone())
            .headers(request::headers(call, headers, called_at.as_second()))
            .body(call.event.body.clone());
        match before_deadline(deadline, request.send()).await {
            Ok(Ok(response)) => read_outcome(call, url, response.into(), deadline).await,
            Ok(Err(error)) if http_error::is_shortage(&error) => not_called(&http_error::causes(&error)),
            Ok(Err(error)) => {
                let message = http_error::describe(&error, url, self.connect_timeout);
                Outcome::failed(http_error::kind(&error), message, None)
            }
            Err(_) => {
                let error = format!("no answer within {}", format_duration(call.timeout));
                Outcome::failed(FailureKind::Transient, error, None)
            }
        }
    }
}

/// The result of `work` before `deadline`.
///
/// A process that was stopped, suspended or without CPU time notices the deadline before it has read what
/// arrived in time. So it polls `work` for one more second.
async fn before_deadline<T>(deadline: Instant, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut work = pin!(work);
    match timeout_at(deadline, &mut work).await {
        Err(_) if deadline.elapsed() > STALL_THRESHOLD => timeout(STALL_THRESHOLD, work).await,
        result => result,
    }
}

/// Reads the answer and derives the outcome.
///
/// The status decides. The body decides only if a verdict is read from it: the endpoint of a `notify` handler
/// has answered with its status, even if the body is cut off.
async fn read_outcome(
    call: &Call<'_>,
    url: &HttpTarget,
    mut response: http::Response<Body>,
    deadline: Instant,
) -> Outcome {
    let status = response.status();
    let limit = call.answer_limit.filter(|_| status.is_success()).unwrap_or(KEPT_BYTES);
    let (body, end) = read_body(&mut response, limit, deadline).await;
    let record = outcome::Response {
        http_status: Some(status.as_u16()),
        body: Some(output::head_text(&body, KEPT_BYTES)),
        truncated: body.len() > KEPT_BYTES || !matches!(end, End::Complete),
        ..Default::default()
    };
    if !status.is_success() {
        let failure = status::failure_of(status, response.headers(), url, SystemTime::now());
        return Outcome::Failed { failure, response: Some(record) };
    }
    let failed = |kind, error: String| Outcome::failed(kind, error, Some(record.clone()));
    match (end, call.answer_limit) {
        (End::Complete, Some(_)) => Outcome::Succeeded { response: record, answer: Some(body) },
        (_, None) => Outcome::Succeeded { response: record, answer: None },
        (End::TooLong, Some(limit)) => {
            failed(FailureKind::Permanent, format!("the answer is larger than {limit} bytes"))
        }
        (End::Broken(cause), Some(_)) => failed(
            FailureKind::Transient,
            format!("answered {status}, but the connection closed early: {cause}"),
        ),
        (End::TimedOut, Some(_)) => {
            let limit = format_duration(call.timeout);
            failed(
                FailureKind::Transient,
                format!("answered {status}, but the answer did not end within {limit}"),
            )
        }
    }
}

/// Reads up to `limit` bytes of the body. It does not wait for the rest: dropping the response ends the
/// exchange.
async fn read_body(response: &mut http::Response<Body>, limit: usize, deadline: Instant) -> (Bytes, End) {
    let mut body = BytesMut::new();
    let end = loop {
        match before_deadline(deadline, response.body_mut().frame()).await {
            Err(_) => break End::TimedOut,
            Ok(Some(Err(error))) => break End::Broken(http_error::causes(&error)),
            Ok(None) if is_cut(response) => break End::Broken("the stream was reset before its end".into()),
            Ok(None) => break End::Complete,
            Ok(Some(Ok(frame))) => {
                let Ok(chunk) = frame.into_data() else { continue };
                let room = limit - body.len();
                if chunk.len() > room {
                    body.extend_from_slice(chunk.get(..room).unwrap_or_default());
                    break End::TooLong;
                }
                body.extend_from_slice(&chunk);
            }
        }
    };
    (body.freeze(), end)
}

/// Whether a body ended without an end mark of its own.
///
/// hyper takes `RST_STREAM` with `NO_ERROR` for the end of a body; Node sends it for an answer that it gave
/// up. Over HTTP/2 only `END_STREAM` says that an answer is complete.
fn is_cut(response: &http::Response<Body>) -> bool {
    response.version() == Version::HTTP_2 && !response.body().is_end_stream()
}
