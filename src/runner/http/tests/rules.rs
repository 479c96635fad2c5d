//! Denied addresses are not called, whatever name leads to them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use jiff::Timestamp;
use tokio::{io::AsyncWriteExt, net::TcpListener};

use super::{
    super::{HttpRunner, client::MAX_AGE},
    ok,
};
use crate::{
    domain::{
        address::AddressRules,
        outcome::{FailureKind, Outcome},
        plan::Attempt,
        task::Task,
    },
    runner::{
        Call,
        address::AddressFilter,
        testing::{Trial, failure, http_settings, request, success},
    },
};

/// A server on `ip`, and the number of connections that it accepted.
async fn counting(ip: [u8; 4], port: u16) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((IpAddr::from(ip), port)).await.expect("a port");
    let (address, count) = (listener.local_addr().expect("its address"), Arc::new(AtomicUsize::new(0)));
    let connections = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                request(&mut stream).await;
                stream.write_all(ok("fine").as_bytes()).await.ok();
            });
        }
    });
    (address, count)
}

/// A runner that denies 127.0.0.2. Each lookup returns the next entry of `answers`, and the last entry from
/// then on.
fn denying(answers: &'static [&'static [Ipv4Addr]]) -> HttpRunner {
    rustls::crypto::ring::default_provider().install_default().ok();
    let rules = AddressRules { deny: vec!["127.0.0.2/32".parse().expect("a network")], allow: vec![] };
    let calls = AtomicUsize::new(0);
    let lookup = move |_| -> futures_util::future::BoxFuture<'static, _> {
        let index = calls.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        let addresses = answers[index].iter().map(|ip| SocketAddr::from((*ip, 0))).collect();
        Box::pin(async move { Ok(addresses) })
    };
    HttpRunner::with_address_filter(
        &http_settings(),
        AddressFilter::with_lookup(rules, Arc::new(lookup)),
        MAX_AGE,
    )
    .expect("a runner")
}

async fn call(runner: &HttpRunner, url: &str) -> Outcome {
    let trial = Trial::new(&serde_json::json!({"type": "http", "url": url}));
    let Task::Http { url, headers } = &trial.handler.spec.task else { panic!("http") };
    let call = Call {
        handler: &trial.handler,
        secrets: &[],
        event: &trial.event,
        attempt: Attempt::FIRST,
        timeout: trial.timeout,
        answer_limit: None,
        traceparent: None,
        tracestate: None,
    };
    runner.run(&call, url, headers, Timestamp::now()).await
}

const GOOD: Ipv4Addr = Ipv4Addr::LOCALHOST;
const BAD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[tokio::test]
async fn of_two_addresses_only_the_allowed_one_is_connected_to() {
    let (address, good) = counting([127, 0, 0, 1], 0).await;
    let (_, bad) = counting([127, 0, 0, 2], address.port()).await;
    let runner = denying(&[&[BAD, GOOD]]);
    success(call(&runner, &format!("http://two.example:{}/", address.port())).await);
    assert_eq!((good.load(Ordering::SeqCst), bad.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_by_now_is_not_followed() {
    let (address, good) = counting([127, 0, 0, 1], 0).await;
    let (_, bad) = counting([127, 0, 0, 2], address.port()).await;
    let runner = denying(&[&[GOOD], &[GOOD], &[BAD]]);
    let url = format!("http://rebinding.example:{}/x?key=hidden", address.port());
    runner.address_filter.check(&url.parse().expect("a url")).await.expect("it may be saved");
    success(call(&runner, &url).await);
    // The server closes after one answer, so the next call resolves the name again.
    let (failure, response) = failure(call(&runner, &url).await);
    assert_eq!((failure.kind, response), (FailureKind::Permanent, None));
    assert_eq!(
        failure.error,
        "the name rebinding.example resolves only to a denied address: \
         127.0.0.2 is denied by 127.0.0.2/32 (http.deny; http.allow can permit it)"
    );
    assert_eq!((good.load(Ordering::SeqCst), bad.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn an_address_in_the_url_is_judged_before_the_call() {
    let (address, bad) = counting([127, 0, 0, 2], 0).await;
    let runner = denying(&[&[GOOD]]);
    for host in ["127.0.0.2", "127.2", "0x7f000002", "2130706434", "0177.0.0.2", "[::ffff:127.0.0.2]"] {
        let (failure, _) = failure(call(&runner, &format!("http://{host}:{}/", address.port())).await);
        assert_eq!(failure.kind, FailureKind::Permanent, "{host}");
        assert!(failure.error.contains("is denied by 127.0.0.2/32"), "{host}: {}", failure.error);
    }
    assert_eq!(bad.load(Ordering::SeqCst), 0);
}
