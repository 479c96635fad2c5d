//! Sends spans to the collector. The SDK sends from a thread of its own without a runtime, so each request is passed to
//! ours.

use std::{
    error::Error,
    iter,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry_http::{HttpClient, HttpError, hyper::HyperClient};
use parking_lot::Mutex;
use rustls::crypto::ring;
use tokio::runtime::Handle;
use tracing::{info, warn};
use url::Url;

/// How often to log that the collector accepts nothing. (A batch is sent every five seconds.)
const REMINDER_INTERVAL: Duration = Duration::from_mins(5);

#[derive(Debug)]
pub(super) struct Post {
    client: Arc<dyn HttpClient>,
    runtime: Handle,
    collector: String,
    logged: Mutex<Logged>,
}

/// What was logged about the collector.
#[derive(Debug, Default)]
struct Logged {
    is_away: bool,
    last_warning: Option<Instant>,
}

impl Post {
    /// `timeout` is for one request.
    pub(super) fn to(collector: &Url, timeout: Duration) -> anyhow::Result<Self> {
        let client: Arc<dyn HttpClient> = if collector.scheme() == "https" {
            let connector = HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(ring::default_provider())
                .context("telemetry.otlp_endpoint: found no certificate authorities for https")?
                .https_only()
                .enable_http1()
                .build();
            Arc::new(HyperClient::new(connector, timeout, None))
        } else {
            Arc::new(HyperClient::with_default_connector(timeout, None))
        };
        let logged = Mutex::default();
        Ok(Self { client, runtime: Handle::current(), collector: collector.to_string(), logged })
    }

    fn log_change(&self, problem: Option<String>) {
        let mut logged = self.logged.lock();
        let collector = &self.collector;
        match problem {
            None if logged.is_away => {
                logged.is_away = false;
                info!(collector, "the collector accepts spans again");
            }
            Some(error)
                if logged
                    .last_warning
                    .is_none_or(|last_warning| last_warning.elapsed() >= REMINDER_INTERVAL) =>
            {
                *logged = Logged { is_away: true, last_warning: Some(Instant::now()) };
                warn!(collector, error, "the collector accepts no spans: dropping them; events still run");
            }
            None | Some(_) => {}
        }
    }
}

#[async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = Arc::clone(&self.client);
        let answer = self.runtime.spawn(async move { client.send_bytes(request).await }).await;
        let answer = answer.map_err(HttpError::from).flatten();
        self.log_change(match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("the collector answered {}", answer.status())),
            Err(error) => Some(chain(error.as_ref())),
        });
        answer
    }
}

fn chain(error: &(dyn Error + 'static)) -> String {
    iter::successors(Some(error), |error| (*error).source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
