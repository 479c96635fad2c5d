//! What a test needs: a prefix on the broker, a database, endpoints, and processes of provisiond.

mod broker;
mod collector;
pub mod console;
mod endpoint;
mod frames;
pub mod hostile;
mod process;
mod proxy;
pub mod raw_publisher;
mod services;
mod small_disk;
mod world;

pub use broker::Broker;
pub use collector::{Collector, Span};
pub use endpoint::{Call, Endpoint, Reply};
pub use frames::{Direction, Kind, Step};
pub use process::{Process, Vitals};
pub use proxy::{Garble, Mode, Proxy, Strike, When};
pub use services::{Cluster, Policy, Services, rabbitmqctl};
pub use small_disk::SmallDisk;
pub use world::{World, query};

use std::{
    future::Future,
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

/// Nobody listens on it just now.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Awaits a condition, and fails with `what` if it does not come true within a minute.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An envelope as the platform publishes it.
pub fn envelope(event: &str, object_id: u64, data: &serde_json::Value) -> String {
    serde_json::json!({
        "event": {"dt": "2026-01-01T00:00:00+00:00", "events_id": event, "object_id": object_id},
        "data": data,
    })
    .to_string()
}

/// The host and port in a url.
pub fn address(url: &str) -> SocketAddr {
    let (_, rest) = url.split_once("://").expect("a url");
    let authority = rest.split('/').next().expect("an authority");
    let host = authority.rsplit('@').next().expect("a host");
    host.to_socket_addrs().expect("an address").next().expect("an address")
}
