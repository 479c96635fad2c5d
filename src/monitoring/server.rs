//! The listener, and its three routes.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;
use tower_http::timeout::TimeoutLayer;
use tracing::{info, warn};

use super::ready::{Answer, healthy, ready};
use crate::{
    config::Listen,
    http_server,
    status_reporter::StatusReporter,
    store::Store,
    telemetry::metrics::{Exposition, Metrics, set_gauges},
};

/// Timeout of the database's answer: a probe waits only a second or two.
const DATABASE_TIMEOUT: Duration = Duration::from_millis(900);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Few clients connect: Prometheus and health checks.
const MAX_CONNECTIONS: usize = 64;

/// The listening socket; none if monitoring is off.
pub struct Listener(Option<TcpListener>);

#[derive(Clone)]
struct Monitor {
    metrics: Metrics,
    status_reporter: Arc<StatusReporter>,
    store: Store,
}

impl Listener {
    /// # Errors
    /// If it cannot listen on an address that was configured. On the default address it only warns, because a second
    /// process of the same machine uses that too.
    pub async fn bind(listen: Listen) -> anyhow::Result<Self> {
        let Listen { address: Some(address), is_chosen } = listen else { return Ok(Self(None)) };
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(address);
                info!(%address, "serving /metrics, /healthz and /readyz");
                Ok(Self(Some(listener)))
            }
            Err(error) if !is_chosen => {
                warn!(%address, %error, "not serving /metrics, /healthz and /readyz: the default address is not free (telemetry.listen)");
                Ok(Self(None))
            }
            Err(error) => Err(error).with_context(|| {
                format!("cannot serve /metrics, /healthz and /readyz on {address} (telemetry.listen; \"off\" disables them)")
            }),
        }
    }
}

/// Serves the routes. Never returns.
pub async fn serve(listener: Listener, metrics: Metrics, status_reporter: Arc<StatusReporter>, store: Store) {
    let upkeep = metrics.clone().keep();
    let monitor = Monitor { metrics, status_reporter, store };
    let app = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(show_health))
        .route("/readyz", get(show_readiness))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIMEOUT))
        .with_state(monitor);
    let serving = async {
        if let Listener(Some(listener)) = listener {
            http_server::serve(listener, app, MAX_CONNECTIONS, CancellationToken::new()).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::join!(serving, upkeep);
}

async fn show_metrics(State(monitor): State<Monitor>) -> Response {
    set_gauges(&monitor.status_reporter.report(), monitor.database().await.is_none());
    let mut exposition = Exposition::default();
    monitor.status_reporter.show(&mut exposition);
    let text = monitor.metrics.render() + &exposition.into_text();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn show_health(State(monitor): State<Monitor>) -> Response {
    json_response(&healthy(&monitor.status_reporter.report()))
}

async fn show_readiness(State(monitor): State<Monitor>) -> Response {
    let database = monitor.database().await;
    json_response(&ready(monitor.status_reporter.roles(), &monitor.status_reporter.report(), database))
}

fn json_response(answer: &Answer) -> Response {
    let status = if answer.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // All keys of its maps are strings, so this cannot fail.
    let text = serde_json::to_string(answer).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

impl Monitor {
    /// The problem of the database, if there is one.
    async fn database(&self) -> Option<String> {
        match timeout(DATABASE_TIMEOUT, self.store.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{:#}", anyhow::Error::new(error))),
            Err(_) => Some(format!("the database did not answer within {DATABASE_TIMEOUT:?}")),
        }
    }
}
