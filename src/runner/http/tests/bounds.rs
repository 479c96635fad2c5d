//! What an endpoint must not be able to do to a worker, and when a connection is reused.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, time::sleep};

use super::{call, ok};
use crate::{
    domain::outcome::{FailureKind, KEPT_BYTES, Outcome},
    runner::testing::{Trial, answering, failure, request, runner, script_settings, server, success},
};

#[tokio::test]
async fn the_timeout_covers_the_whole_exchange() {
    let silent = server(|mut stream| async move {
        request(&mut stream).await;
        sleep(Duration::from_mins(1)).await;
    })
    .await;
    let slow_headers = server(|mut stream| async move {
        request(&mut stream).await;
        for byte in b"HTTP/1.1 200 OK\r\nx: ".iter().chain(std::iter::repeat_n(&b'x', 1000)) {
            stream.write_all(&[*byte]).await.ok();
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let slow_body = server(|mut stream| async move {
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await.ok();
        while stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for (address, expected) in [
        (silent, "no answer within 300ms"),
        (slow_headers, "no answer within 300ms"),
        (slow_body, "answered 200 OK, but the answer did not end within 300ms"),
    ] {
        let mut trial = Trial { timeout: Duration::from_millis(300), ..Trial::http(address) };
        trial.answer_limit = Some(200_000);
        let started = Instant::now();
        let (failure, response) = failure(trial.run(&runner(script_settings())).await);
        assert!(started.elapsed() < Duration::from_secs(2));
        assert_eq!((failure.kind, failure.error.as_str()), (FailureKind::Transient, expected));
        if let Some(response) = response {
            assert!(response.truncated && response.body.expect("what came").starts_with("xx"));
        }
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let endless = server(|mut stream| async move {
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok();
        while stream.write_all(&[b'x'; 1000]).await.is_ok() {}
    })
    .await;
    let (response, _) = success(call(endless).await);
    assert!(response.truncated);
    assert_eq!(response.body.map(|body| body.len()), Some(KEPT_BYTES));

    let trial = Trial { answer_limit: Some(200_000), ..Trial::http(endless) };
    let (failure, response) = failure(trial.run(&runner(script_settings())).await);
    assert_eq!(
        (failure.kind, failure.error.as_str()),
        (FailureKind::Permanent, "the answer is larger than 200000 bytes")
    );
    assert!(response.is_some_and(|response| response.truncated));
}

#[tokio::test]
async fn a_verdict_is_read_from_a_whole_answer_only() {
    let long = "x".repeat(200_000);
    let trial = Trial { answer_limit: Some(200_000), ..Trial::http(answering(ok(&long)).await) };
    let (response, answer) = success(trial.run(&runner(script_settings())).await);
    assert_eq!(answer.map(|answer| answer.len()), Some(200_000));
    assert!(response.truncated && response.body.is_some_and(|body| body.len() == KEPT_BYTES));
}

#[tokio::test]
async fn a_cut_body_fails_an_interceptor_only() {
    let json = "{\"verdict\": \"allow\"}";
    let length = format!("content-length: 1000\r\n\r\n{json}");
    let chunk = format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{json}\r\n", json.len());
    for (label, rest, ending) in [
        ("closed before its Content-Length", length.clone(), Ending::Close),
        ("reset before its Content-Length", length.clone(), Ending::Reset),
        ("open, but shorter than its Content-Length", length, Ending::Stay),
        ("no last chunk", chunk.clone(), Ending::Close),
        ("no last chunk, reset", chunk.clone(), Ending::Reset),
        ("cut within a chunk", chunk.replace("\r\n13\r\n", "\r\n23\r\n"), Ending::Close),
        ("a bad chunk size", format!("{chunk}zz\r\n"), Ending::Close),
    ] {
        for (status, notify_kind) in [
            ("200 OK", None),
            ("400 Bad", Some(FailureKind::Permanent)),
            ("503 Busy", Some(FailureKind::Transient)),
        ] {
            let address = ending_with(format!("HTTP/1.1 {status}\r\n{rest}"), ending).await;
            let trial = Trial { timeout: Duration::from_millis(300), ..Trial::http(address) };
            let outcome = trial.run(&runner(script_settings())).await;
            let (kind, response) = match outcome {
                Outcome::Succeeded { response, .. } => (None, response),
                Outcome::Failed { failure, response } => (Some(failure.kind), response.expect("it answered")),
                other => panic!("{label}: {other:?}"),
            };
            assert_eq!(kind, notify_kind, "{label}, {status}");
            assert!(response.truncated && response.body.is_some_and(|b| b.contains("verdict")), "{label}");

            let trial = Trial { answer_limit: Some(200_000), ..trial };
            let (failed, response) = failure(trial.run(&runner(script_settings())).await);
            assert_eq!(failed.kind, notify_kind.unwrap_or(FailureKind::Transient), "{label}, {status}");
            assert!(failed.error.starts_with(&format!("answered {}", &status[..3])), "{}", failed.error);
            assert!(response.is_some_and(|response| response.truncated), "{label}");
        }
    }
}

/// What a server does after its answer.
#[derive(Clone, Copy)]
enum Ending {
    Close,
    Reset,
    Stay,
}

async fn ending_with(answer: String, ending: Ending) -> SocketAddr {
    server(move |mut stream| {
        let answer = answer.clone();
        async move {
            request(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.ok();
            match ending {
                Ending::Close => {}
                Ending::Reset => {
                    // The client has to read the answer before the reset arrives.
                    sleep(Duration::from_millis(50)).await;
                    stream.set_zero_linger().expect("so that it resets");
                }
                Ending::Stay => sleep(Duration::from_mins(1)).await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_is_kept_until_it_is_closed() {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let address = server(move |mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            // Closes after the second request, without `Connection: close`.
            for _ in 0..2 {
                request(&mut stream).await;
                stream.write_all(ok("fine").as_bytes()).await.ok();
            }
        }
    })
    .await;
    let runner = runner(script_settings());
    let trial = Trial::http(address);
    for expected in [1, 1, 2] {
        success(trial.run(&runner).await);
        assert_eq!(connections.load(Ordering::SeqCst), expected);
        // Wait until the client has noticed the close.
        sleep(Duration::from_millis(50)).await;
    }
}
