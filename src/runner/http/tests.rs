mod bounds;
mod h2;
mod lenient;
mod moves;
mod rules;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::json;
use tokio::{io::AsyncWriteExt, time::sleep};

use super::super::testing::{Trial, answering, failure, request, runner, script_settings, server, success};
use crate::domain::{
    outcome::{Failure, FailureKind, Outcome, Response},
    secret::SigningSecret,
};

async fn call(address: SocketAddr) -> Outcome {
    Trial::http(address).run(&runner(script_settings())).await
}

async fn expect_failure(address: SocketAddr, kind: FailureKind) -> (Failure, Option<Response>) {
    let (failure, response) = failure(call(address).await);
    assert_eq!(failure.kind, kind, "{}", failure.error);
    assert!(!failure.error.contains("hidden"), "the query may be secret: {}", failure.error);
    (failure, response)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_request_has_the_headers_of_its_contract() {
    let seen = Arc::new(Mutex::new(String::new()));
    let keep = Arc::clone(&seen);
    let address = server(move |mut stream| {
        let keep = Arc::clone(&keep);
        async move {
            *keep.lock().expect("alone") = request(&mut stream).await;
            stream.write_all(ok("caf\u{e9} \0").as_bytes()).await.ok();
        }
    })
    .await;
    let mut trial = Trial::new(&json!({"type": "http", "url": format!("http://{address}/hook"),
        "headers": {"X-Key": "k1", "Content-Type": "application/vnd.crm+json"}}));
    trial.secrets = vec![SigningSecret::generate(), SigningSecret::generate()];
    let (response, answer) = success(trial.run(&runner(script_settings())).await);
    assert_eq!((response.http_status, response.body.as_deref()), (Some(200), Some("café \u{FFFD}")));
    assert!(!response.truncated && answer.is_none());

    let seen = seen.lock().expect("alone").clone();
    let (head, body) = seen.split_once("\r\n\r\n").expect("a request");
    assert_eq!(body.as_bytes(), trial.event.body);
    assert!(head.starts_with("POST /hook HTTP/1.1\r\n"), "{head}");
    let header = |name: &str| {
        let mut values = head.lines().filter_map(|line| line.strip_prefix(&format!("{name}: ")));
        let value = values.next().unwrap_or_else(|| panic!("no {name} in {head}"));
        assert_eq!(values.next(), None, "{name} twice");
        value
    };
    for (name, value) in [
        ("Content-Type", "application/vnd.crm+json"),
        ("X-Key", "k1"),
        ("Webhook-Id", "e1_7"),
        ("X-Provisioning-Event", "clients.update"),
        ("X-Provisioning-Attempt", "2"),
        ("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("Tracestate", "a=b"),
        ("User-Agent", concat!("provisiond/", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(header(name), value);
    }
    let timestamp: i64 = header("Webhook-Timestamp").parse().expect("seconds");
    assert!((jiff::Timestamp::now().as_second() - timestamp).abs() < 20);
    let signatures: Vec<_> =
        trial.secrets.iter().map(|s| s.sign("e1_7", timestamp, &trial.event.body)).collect();
    assert_eq!(header("Webhook-Signature"), signatures.join(" "));
}

#[tokio::test]
async fn nothing_is_signed_without_a_secret() {
    let address = server(|mut stream| async move {
        let seen = request(&mut stream).await;
        assert!(seen.contains("Content-Type: application/json\r\n"));
        let status = if seen.contains("Webhook-Signature") { 400 } else { 200 };
        stream.write_all(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.ok();
    })
    .await;
    success(call(address).await);
}

#[tokio::test]
async fn a_status_has_its_meaning() {
    use FailureKind::{Permanent, Transient};
    for (status, kind) in [
        ("302 Found\r\nlocation: http://127.0.0.1:1/", Permanent),
        ("400 Bad Request", Permanent),
        ("404 Not Found", Permanent),
        ("408 Request Timeout", Transient),
        ("409 Conflict", Transient),
        ("410 Gone", Permanent),
        ("423 Locked", Transient),
        ("425 Too Early", Transient),
        ("429 Too Many Requests", Transient),
        ("500 Internal Server Error", Transient),
        ("599 Odd", Transient),
        ("600 Odder", Permanent),
    ] {
        let address = answering(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nno")).await;
        let (failure, response) = expect_failure(address, kind).await;
        let code = &status[..3];
        assert!(failure.error.starts_with(&format!("answered {code}")), "{}", failure.error);
        assert!(!failure.error.contains("unknown"), "{}", failure.error);
        assert_eq!(failure.gone, code == "410");
        let response = response.expect("it answered");
        assert_eq!((response.http_status, response.body.as_deref()), (code.parse().ok(), Some("no")));
    }
    for status in ["201 Created", "204 No Content"] {
        success(call(answering(format!("HTTP/1.1 {status}\r\n\r\n")).await).await);
    }
}

#[tokio::test]
async fn retry_after_and_location_are_read_from_the_answer() {
    let failure_for = async |head: &str| {
        let answer = format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n");
        failure(call(answering(answer).await).await).0
    };
    assert_eq!(
        failure_for("503 X\r\nretry-after: 120.5").await.retry_after,
        Some(Duration::from_millis(120_500))
    );
    let failure = failure_for("503 X\r\nretry-after: soon").await;
    assert!(failure.error.contains("Retry-After \"soon\" was not understood"), "{}", failure.error);
    let failure = failure_for("308 X\r\nlocation: /hook/?key=hidden").await;
    assert!(failure.error.contains("with a / added to the path"), "{}", failure.error);
}

#[tokio::test]
async fn an_unreachable_endpoint_is_a_transient_failure() {
    let unused_address =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let (failure, response) = expect_failure(unused_address, FailureKind::Transient).await;
    assert_eq!(failure.error, format!("connection refused by {unused_address}"));
    assert_eq!(response, None);

    for (close, expected) in [(true, "connection reset by 127.0.0.1"), (false, "no answer from 127.0.0.1")] {
        let address = server(move |mut stream| async move {
            request(&mut stream).await;
            if close {
                stream.set_zero_linger().expect("so that it resets");
            }
        })
        .await;
        let (failure, _) = expect_failure(address, FailureKind::Transient).await;
        assert!(failure.error.starts_with(expected), "{}", failure.error);
    }

    let trial = Trial::new(&json!({"type": "http", "url": "http://crm.invalid/?key=hidden"}));
    let (failure, _) = super::super::testing::failure(trial.run(&runner(script_settings())).await);
    assert!(failure.error.starts_with("the name crm.invalid could not be resolved: "), "{}", failure.error);
    assert!(!failure.error.contains("hidden"));
}

#[tokio::test]
async fn tls_to_a_plain_port_says_so() {
    let address = server(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.ok();
        sleep(Duration::from_mins(1)).await;
    })
    .await;
    let trial = Trial::new(&json!({"type": "http", "url": format!("https://{address}/")}));
    let (failure, _) = failure(trial.run(&runner(script_settings())).await);
    assert_eq!(failure.kind, FailureKind::Transient);
    assert!(failure.error.starts_with(&format!("no connection to {address}: ")), "{}", failure.error);
    assert!(failure.error.contains("the URL must begin with http://"), "{}", failure.error);
}

#[tokio::test]
async fn a_result_that_arrived_during_a_stall_is_used() {
    let (answer, answered) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        answer.send(200)
    });
    // Stands for the task of a connection, which hands over what it has read.
    let connection = tokio::spawn(answered);
    let deadline = tokio::time::Instant::now() + Duration::from_millis(600);
    let stall = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        std::thread::sleep(Duration::from_secs(2));
    };
    let (result, ()) = tokio::join!(super::before_deadline(deadline, connection), stall);
    assert_eq!(result.expect("in time").expect("a task").expect("an answer"), 200);
    let deadline = tokio::time::Instant::now() + Duration::from_millis(50);
    assert!(super::before_deadline(deadline, std::future::pending::<()>()).await.is_err());
}
