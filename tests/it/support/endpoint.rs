//! An HTTP endpoint of an integrator.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};

/// A request that came.
#[derive(Clone, Debug)]
pub struct Call {
    pub at: Instant,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Call {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    pub fn object_id(&self) -> u64 {
        self.json()["event"]["object_id"].as_u64().expect("a number")
    }
}

/// What is answered.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    pub after: Duration,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: "{}".to_owned(), after: Duration::ZERO }
    }

    pub fn body(self, body: impl Into<String>) -> Self {
        Self { body: body.into(), ..self }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

/// A server on a free port, which remembers every call. Its paths are whatever is called.
pub struct Endpoint {
    pub address: std::net::SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Endpoint {
    /// Answers with what `reply` says, which is given the call and how many came before it.
    pub async fn start(reply: impl Fn(&Call, usize) -> Reply + Send + Sync + 'static) -> Self {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (seen, reply) = (Arc::clone(&calls), Arc::new(reply));
        let serve = move |uri: Uri, headers: HeaderMap, body: Bytes| async move {
            let call = Call { at: Instant::now(), path: uri.path().to_owned(), headers, body };
            let before = {
                let mut seen = seen.lock().expect("unpoisoned");
                seen.push(call.clone());
                seen.len() - 1
            };
            respond(reply(&call, before)).await
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move {
            axum::serve(listener, Router::new().fallback(serve)).await.expect("a server");
        });
        Self { address, calls, server }
    }

    pub async fn ok() -> Self {
        Self::start(|_, _| Reply::status(200)).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("unpoisoned").clone()
    }

    pub fn count(&self) -> usize {
        self.calls.lock().expect("unpoisoned").len()
    }

    pub async fn wait_for(&self, count: usize) {
        super::eventually(&format!("{count} calls"), || async { self.count() >= count }).await;
    }
}

async fn respond(reply: Reply) -> Response {
    tokio::time::sleep(reply.after).await;
    let mut response = (StatusCode::from_u16(reply.status).expect("a status"), reply.body).into_response();
    for (name, value) in reply.headers {
        response.headers_mut().insert(name, value.parse().expect("a header value"));
    }
    response
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}
