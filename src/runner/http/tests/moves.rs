//! An endpoint whose name moves to another address while it is called.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpListener, time::sleep};

use super::{
    super::{HttpRunner, client::MAX_AGE},
    h2, ok,
};
use crate::{
    domain::{address::AddressRules, outcome::Outcome},
    runner::{
        HttpSettings,
        address::AddressFilter,
        testing::{Trial, http_settings, request, success},
        tls::tests::Authority,
    },
};

/// A runner that resolves every name to 127.0.0.1, and to 127.0.0.2 once `moved` is set.
fn runner(settings: &HttpSettings, moved: &Arc<AtomicBool>, max_age: Duration) -> HttpRunner {
    let moved = Arc::clone(moved);
    let lookup = move |_| -> futures_util::future::BoxFuture<'static, _> {
        let host = if moved.load(Ordering::SeqCst) { 2 } else { 1 };
        Box::pin(async move { Ok(vec![SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))]) })
    };
    let filter = AddressFilter::with_lookup(AddressRules::default(), Arc::new(lookup));
    HttpRunner::with_address_filter(settings, filter, max_age).expect("a runner")
}

/// Two listeners, on the same port of both hosts.
async fn listeners() -> [TcpListener; 2] {
    let first = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = first.local_addr().expect("its address").port();
    [first, TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)).await.expect("the same port")]
}

/// Calls `url` again and again, and returns the time until the second host answered.
async fn time_to_follow(runner: &HttpRunner, url: &str, moved: &AtomicBool) -> Duration {
    let trial = Trial::new(&json!({"type": "http", "url": url}));
    let host = async || success(trial.run_http(runner).await).0.body.expect("the host");
    for _ in 0..5 {
        assert_eq!(host().await, "1");
    }
    moved.store(true, Ordering::SeqCst);
    let started = Instant::now();
    while host().await == "1" {
        assert!(started.elapsed() < Duration::from_secs(20), "the old host is called for ever");
        sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

#[tokio::test]
async fn a_name_that_moves_is_followed_on_a_kept_connection() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let [first, second] = listeners().await;
    let port = first.local_addr().expect("its address").port();
    for (body, listener) in [("1", first), ("2", second)] {
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while !request(&mut stream).await.is_empty() {
                        stream.write_all(ok(body).as_bytes()).await.ok();
                    }
                });
            }
        });
    }
    let moved = Arc::new(AtomicBool::new(false));
    let runner = runner(&http_settings(), &moved, Duration::from_millis(800));
    let url = format!("http://crm.example:{port}/");
    assert!(time_to_follow(&runner, &url, &moved).await < Duration::from_secs(2));
}

#[tokio::test]
async fn a_name_that_moves_is_followed_over_http2() {
    let authority = Authority::new();
    let [first, second] = listeners().await;
    let port = first.local_addr().expect("its address").port();
    for (body, listener) in [("1", first), ("2", second)] {
        let acceptor = authority.acceptor("crm.example", &["h2"]);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    h2::serve(stream, move |id| h2::answer(id, &[0x88], body.as_bytes())).await;
                });
            }
        });
    }
    let moved = Arc::new(AtomicBool::new(false));
    let runner = runner(&authority.trusted(), &moved, Duration::from_millis(800));
    let url = format!("https://crm.example:{port}/");
    assert!(time_to_follow(&runner, &url, &moved).await < Duration::from_secs(2));
}

#[tokio::test]
async fn a_call_ends_on_the_connection_that_it_was_begun_on() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let slow = super::server(|mut stream| async move {
        while !request(&mut stream).await.is_empty() {
            sleep(Duration::from_millis(600)).await;
            stream.write_all(ok("slow").as_bytes()).await.ok();
        }
    })
    .await;
    let moved = Arc::new(AtomicBool::new(false));
    let runner = Arc::new(runner(&http_settings(), &moved, Duration::from_millis(50)));
    let calls = (0..10).map(|n| {
        let runner = Arc::clone(&runner);
        tokio::spawn(async move {
            sleep(Duration::from_millis(40 * n)).await;
            Trial::http(slow).run_http(&runner).await
        })
    });
    for outcome in futures_util::future::join_all(calls).await {
        assert!(matches!(outcome.expect("a call"), Outcome::Succeeded { .. }));
    }
}

#[test]
fn the_age_of_a_connection_is_within_a_minute() {
    assert!(MAX_AGE + super::super::client::PING_INTERVAL < Duration::from_mins(1));
}
