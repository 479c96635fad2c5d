//! The HTTP clients, each of which is used for less than a minute.
//!
//! A name is resolved only for a new connection. A connection that is in use never becomes idle, and one over
//! HTTP/2 may carry calls for days, so a change of the endpoint's address would go unnoticed. reqwest's pool
//! has no maximum age for connections. Therefore the client is replaced together with its pool. Running calls
//! end on the old connections, which are then closed.
//!
//! Over HTTP/2 many calls share a connection, and one malformed answer ends all of them. Therefore each
//! handler has its own connections wherever HTTP/2 may be used: a bad endpoint fails only the calls of its
//! own handler.

use std::{collections::HashMap, time::Duration};

use anyhow::Context;
use parking_lot::Mutex;
use reqwest::Client;
use rustls::ClientConfig;
use tokio::time::Instant;

use crate::{
    domain::handler::HandlerId,
    runner::{HttpSettings, address::AddressFilter, tls},
};

/// How long a connection may be idle.
///
/// It is shorter than the idle timeout of common servers (gunicorn 2 s, Node and uvicorn 5 s). A request that
/// is sent while the server closes the connection fails, and nobody can tell whether the server has acted on
/// it. The connections of a busy endpoint are never idle this long; for a quiet endpoint a new connection
/// costs little.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1500);

/// A client is replaced at a random age between [`MIN_AGE`] times this and this. So a change of an endpoint's
/// address takes effect within a minute, and the workers of an installation do not all reconnect at once.
pub const MAX_AGE: Duration = Duration::from_secs(45);
const MIN_AGE: f64 = 0.7;

/// Interval of the pings on an HTTP/2 connection in use. They detect a connection whose packets are dropped,
/// so that it is not used for further calls.
pub const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Flow control over HTTP/2: how much an endpoint may send ahead on one stream and on one connection.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Limits for the headers of an answer: bytes over HTTP/2, lines over HTTP/1.1.
pub const MAX_HEADER_BYTES: u32 = 64 << 10;
pub const MAX_HEADER_LINES: usize = 512;

pub struct Clients {
    factory: Factory,
    max_age: Duration,
    current: Mutex<Generation>,
}

/// Builds clients.
struct Factory {
    connect_timeout: Duration,
    address_filter: AddressFilter,
    /// Made once, because it holds the certificates of the system, and the TLS sessions that new connections
    /// resume.
    tls: ClientConfig,
}

/// Clients that are replaced at the same time.
struct Generation {
    /// For HTTP/1.1, where one connection carries one call at a time.
    http1: Client,
    /// One client for each handler, made at its first call. It uses HTTP/2 if the endpoint offers it.
    negotiating: HashMap<HandlerId, Client>,
    expires_at: Instant,
}

impl Clients {
    pub fn new(
        settings: &HttpSettings,
        address_filter: AddressFilter,
        max_age: Duration,
    ) -> anyhow::Result<Self> {
        let tls = tls::client_config(settings)?;
        let factory = Factory { connect_timeout: settings.connect_timeout, address_filter, tls };
        let first = factory.generation(max_age)?;
        Ok(Self { factory, max_age, current: Mutex::new(first) })
    }

    /// The client for one call of `handler`. `is_http1` forces HTTP/1.1.
    pub fn get(&self, handler: HandlerId, is_http1: bool) -> Client {
        let mut current = self.current.lock();
        if current.expires_at <= Instant::now() {
            match self.factory.generation(self.max_age) {
                Ok(next) => *current = next,
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "could not replace the HTTP client");
                    current.expires_at += self.max_age;
                }
            }
        }
        if is_http1 {
            return current.http1.clone();
        }
        if let Some(client) = current.negotiating.get(&handler) {
            return client.clone();
        }
        match self.factory.client(false) {
            Ok(client) => {
                current.negotiating.insert(handler, client.clone());
                client
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "could not make an HTTP client for a handler");
                current.http1.clone()
            }
        }
    }
}

impl Factory {
    fn generation(&self, max_age: Duration) -> anyhow::Result<Generation> {
        let age = max_age.mul_f64(rand::random_range(MIN_AGE..1.0));
        let http1 = self.client(true)?;
        Ok(Generation { http1, negotiating: HashMap::new(), expires_at: Instant::now() + age })
    }

    /// Builds one client. All settings of connections are here.
    fn client(&self, is_http1: bool) -> anyhow::Result<Client> {
        let mut tls = self.tls.clone();
        let protocols: &[&str] = if is_http1 { &["http/1.1"] } else { &["h2", "http/1.1"] };
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(self.connect_timeout)
            .dns_resolver(self.address_filter.clone())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http1_title_case_headers()
            // Accept what other clients accept. An invalid header line is left out.
            .http1_ignore_invalid_headers_in_responses(true)
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_max_headers(MAX_HEADER_LINES)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        let builder = if is_http1 { builder.http1_only() } else { builder };
        builder.build().context("the HTTP client could not be built")
    }
}
