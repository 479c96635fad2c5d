//! The HTTP server that handlers call: `bench target`, a process of its own, so that its CPU time is known.
//!
//! `/ok` answers at once, `/slow` after 20 ms, `/one-slow` its first call after 5 s, and `/fail` with 503. It
//! counts the calls. If the body says when it was published (`"sent": nanoseconds`, of the clock that all
//! processes of a machine share), it measures the time from then to the call.

#![allow(clippy::unused_async, reason = "what answers is a future, whether or not it waits")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    routing::{get, post},
    serve::ListenerExt as _,
};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// The calls since the last reset.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Calls {
    pub count: u64,
    pub first: u64,
    pub last: u64,
    /// Microseconds from publish to call: p50, p99, p99.9 and the most.
    pub latency: [u64; 4],
}

impl Calls {
    pub fn per_second(&self) -> f64 {
        self.count.saturating_sub(1) as f64 * 1e9 / self.last.saturating_sub(self.first).max(1) as f64
    }
}

/// Nanoseconds of the monotonic clock.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).expect("after boot") * 1_000_000_000
        + u64::try_from(time.tv_nsec).expect("positive")
}

#[derive(Default)]
struct Seen {
    calls: Calls,
    latencies: Vec<u64>,
}

type Shared = Arc<Mutex<Seen>>;

fn sent(body: &[u8]) -> Option<u64> {
    const KEY: &[u8] = br#""sent":"#;
    let index = body.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let digits = body[index..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// Counts a call, and returns the number of calls so far.
fn count(shared: &Shared, body: &[u8]) -> u64 {
    let now = now();
    // Only the beginning of the body is searched, because the value is there.
    let latency = sent(&body[..body.len().min(200)]).map(|sent| now.saturating_sub(sent) / 1000);
    let mut seen = shared.lock().expect("nobody panicked");
    seen.calls.count += 1;
    if seen.calls.first == 0 {
        seen.calls.first = now;
    }
    seen.calls.last = now;
    seen.latencies.extend(latency);
    seen.calls.count
}

async fn calls(State(shared): State<Shared>) -> String {
    let mut seen = shared.lock().expect("nobody panicked");
    let mut calls = seen.calls.clone();
    seen.latencies.sort_unstable();
    if !seen.latencies.is_empty() {
        let percentile =
            |fraction: f64| seen.latencies[((seen.latencies.len() - 1) as f64 * fraction) as usize];
        calls.latency = [percentile(0.5), percentile(0.99), percentile(0.999), percentile(1.0)];
    }
    serde_json::to_string(&calls).expect("JSON")
}

/// Serves until it is killed. The first line of its output is its address.
pub async fn serve() {
    let shared = Shared::default();
    let app = Router::new()
        .route(
            "/ok",
            post(async |State(shared): State<Shared>, body: Bytes| {
                count(&shared, &body);
                "answer"
            }),
        )
        .route(
            "/slow",
            post(async |State(shared): State<Shared>, body: Bytes| {
                count(&shared, &body);
                tokio::time::sleep(Duration::from_millis(20)).await;
                "answer"
            }),
        )
        .route(
            "/one-slow",
            post(async |State(shared): State<Shared>, body: Bytes| {
                if count(&shared, &body) == 1 {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
                "answer"
            }),
        )
        .route(
            "/fail",
            post(async |State(shared): State<Shared>, body: Bytes| {
                count(&shared, &body);
                (StatusCode::SERVICE_UNAVAILABLE, "not now")
            }),
        )
        .route("/calls", get(calls))
        .route(
            "/reset",
            post(async |State(shared): State<Shared>| {
                *shared.lock().expect("nobody panicked") = Seen::default();
            }),
        )
        .with_state(shared);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    let listener = listener.tap_io(|connection| connection.set_nodelay(true).expect("an open connection"));
    axum::serve(listener, app).await.expect("serves");
}
