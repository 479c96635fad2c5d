//! HTTP/2, with an endpoint that writes the frames itself.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    domain::{
        handler::HandlerId,
        outcome::{FailureKind, Outcome},
    },
    runner::{
        Runner, RunnerSettings,
        testing::{Trial, failure, script_settings, success},
        tls::tests::Authority,
    },
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&size[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
}

/// The frames of an answer with `headers` (HPACK: 0x88 is `:status: 200`) and a body.
pub(super) fn answer(id: u32, headers: &[u8], body: &[u8]) -> Vec<u8> {
    let parts: Vec<_> = headers.chunks(16 << 10).collect();
    let mut frames = Vec::new();
    for (n, part) in parts.iter().enumerate() {
        let kind = if n == 0 { HEADERS } else { CONTINUATION };
        let flags = if n + 1 == parts.len() { END_HEADERS } else { 0 };
        frames.extend(frame(kind, flags, id, part));
    }
    frames.extend(frame(DATA, END_STREAM, id, body));
    frames
}

/// Reads requests, and answers each with the bytes that `answer` returns for its stream id.
pub(super) async fn serve<S>(mut stream: S, answer: impl Fn(u32) -> Vec<u8>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.ok();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.ok();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let [a, b, c, kind, flags, id @ ..] = head;
        let id = u32::from_be_bytes(id);
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await.ok();
        let written = match kind {
            SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(PING, ACK, 0, &payload),
            HEADERS | DATA if flags & END_STREAM != 0 => answer(id),
            _ => continue,
        };
        stream.write_all(&written).await.ok();
    }
}

/// An endpoint that prefers HTTP/2 if `protocols` contain it, and keeps the last request over HTTP/1.1.
struct Endpoint {
    address: SocketAddr,
    authority: Authority,
    plain: Arc<Mutex<String>>,
}

impl Endpoint {
    async fn new(protocols: &[&str], answer: fn(u32) -> Vec<u8>) -> Self {
        let authority = Authority::new();
        let acceptor = authority.acceptor("localhost", protocols);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let plain = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&plain);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        return serve(stream, answer).await;
                    }
                    let mut request = vec![0; 4096];
                    let read = stream.read(&mut request).await.unwrap_or(0);
                    *seen.lock().expect("alone") = String::from_utf8_lossy(&request[..read]).into_owned();
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain").await.ok();
                });
            }
        });
        Self { address, authority, plain }
    }

    async fn call(&self, headers: Value) -> Outcome {
        self.call_as(headers, None).await
    }

    /// Calls it as an `intercept` handler.
    async fn call_intercept(&self) -> Outcome {
        self.call_as(json!({}), Some(1000)).await
    }

    async fn call_as(&self, headers: Value, answer_limit: Option<usize>) -> Outcome {
        let mut trial = self.trial(&headers);
        trial.answer_limit = answer_limit;
        trial.run(&self.runner()).await
    }

    fn trial(&self, headers: &Value) -> Trial {
        let url = format!("https://localhost:{}/", self.address.port());
        Trial::new(&json!({"type": "http", "url": url, "headers": headers}))
    }

    fn runner(&self) -> Runner {
        let http = self.authority.trusted();
        Runner::new(RunnerSettings { http, script: script_settings() }).expect("a runner")
    }
}

#[tokio::test]
async fn a_custom_host_header_goes_over_http1() {
    let both = Endpoint::new(&["h2", "http/1.1"], |id| answer(id, &[0x88], b"two")).await;
    let (response, _) = success(both.call(json!({"X-Key": "1"})).await);
    assert_eq!(response.body.as_deref(), Some("two"));
    let (response, _) = success(both.call(json!({"Host": "tenant.example"})).await);
    assert_eq!(response.body.as_deref(), Some("plain"));
    let seen = both.plain.lock().expect("alone").clone();
    let hosts: Vec<_> = seen.lines().filter(|line| line.to_lowercase().starts_with("host:")).collect();
    assert_eq!(hosts, ["Host: tenant.example"], "{seen}");

    let only = Endpoint::new(&["h2"], |id| answer(id, &[0x88], b"two")).await;
    let (failed, _) = failure(only.call(json!({"Host": "tenant.example"})).await);
    assert!(failed.error.contains("speaks HTTP/2 only"), "{}", failed.error);
}

#[tokio::test]
async fn an_endpoint_that_requires_http1_is_a_permanent_failure() {
    let endpoint = Endpoint::new(&["h2"], |id| frame(RST_STREAM, 0, id, &13_u32.to_be_bytes())).await;
    let (failed, _) = failure(endpoint.call(json!({})).await);
    assert_eq!(failed.kind, FailureKind::Permanent, "{}", failed.error);
    assert!(
        failed.error.contains("requires HTTP/1.1") && failed.error.contains("header Host"),
        "{}",
        failed.error
    );
}

#[tokio::test]
async fn a_protocol_error_is_explained() {
    let too_many_pings = |_| {
        let payload = [&0_u32.to_be_bytes()[..], &11_u32.to_be_bytes(), b"too_many_pings"].concat();
        frame(GOAWAY, 0, 0, &payload)
    };
    let (failed, _) = failure(Endpoint::new(&["h2"], too_many_pings).await.call(json!({})).await);
    assert_eq!(failed.kind, FailureKind::Transient);
    assert!(
        failed.error.contains("too_many_pings") && failed.error.contains("a ping every 10s"),
        "{}",
        failed.error
    );
}

/// `:status: 200` and `size` KiB of headers.
fn headers(size: usize) -> Vec<u8> {
    let one = [&[0x00, 1, b'x', 0x7f, 0x81, 0x07][..], &[b'v'; 1024]].concat();
    [vec![0x88], one.repeat(size)].concat()
}

#[tokio::test]
async fn the_headers_of_an_answer_are_bounded() {
    success(Endpoint::new(&["h2"], |id| answer(id, &headers(50), b"")).await.call(json!({})).await);
    let (failed, _) =
        failure(Endpoint::new(&["h2"], |id| answer(id, &headers(90), b"")).await.call(json!({})).await);
    assert_eq!(failed.kind, FailureKind::Transient);
    assert!(failed.error.contains("more than 64 KiB"), "{}", failed.error);
}

/// HPACK: `content-length: 36`.
const LENGTH_36: [u8; 5] = [0x0f, 0x0d, 2, b'3', b'6'];

fn head(id: u32, flags: u8, more: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, id, &[&[0x88], more].concat())
}

#[tokio::test]
async fn an_answer_without_its_end_is_cut() {
    fn reset(id: u32, code: u32) -> Vec<u8> {
        frame(RST_STREAM, 0, id, &code.to_be_bytes())
    }
    let cut: [fn(u32) -> Vec<u8>; 6] = [
        |id| [head(id, 0, &LENGTH_36), reset(id, 0)].concat(),
        |id| [head(id, 0, &[]), reset(id, 0)].concat(),
        |id| [head(id, 0, &LENGTH_36), frame(DATA, 0, id, b"{\"verdict\""), reset(id, 0)].concat(),
        |id| [head(id, 0, &[]), frame(DATA, 0, id, b"{}"), reset(id, 0)].concat(),
        |id| [head(id, 0, &[]), reset(id, 2)].concat(),
        |id| head(id, END_STREAM, &LENGTH_36),
    ];
    for (n, answer) in cut.into_iter().enumerate() {
        let endpoint = Endpoint::new(&["h2"], answer).await;
        let (failed, _) = failure(endpoint.call_intercept().await);
        assert_eq!(failed.kind, FailureKind::Transient, "{n}: {}", failed.error);
        // The status is enough if no verdict is read. The last case is no valid answer at all.
        if n < 5 {
            assert!(failed.error.starts_with("answered 200 OK, but"), "{n}: {}", failed.error);
            success(endpoint.call(json!({})).await);
        }
    }
    let complete: [fn(u32) -> Vec<u8>; 5] = [
        |id| head(id, END_STREAM, &[]),
        |id| answer(id, &[0x88], b"{}"),
        |id| [answer(id, &[0x88], b""), reset(id, 0)].concat(),
        // `:status: 204`
        |id| frame(HEADERS, END_HEADERS | END_STREAM, id, &[0x89]),
        |id| {
            let trailers = frame(HEADERS, END_HEADERS | END_STREAM, id, &[0, 1, b'x', 1, b'1']);
            [head(id, 0, &[]), frame(DATA, 0, id, b"{}"), trailers].concat()
        },
    ];
    for answer in complete {
        success(Endpoint::new(&["h2"], answer).await.call_intercept().await);
    }
}

/// HPACK: `X-U: 1`. HTTP/2 forbids capitals in names.
const CAPITAL: [u8; 7] = [0, 3, b'X', b'-', b'U', 1, b'1'];

#[tokio::test]
async fn a_malformed_answer_harms_no_other_handler() {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    // The first request is never answered.
    let endpoint = Endpoint::new(&["h2"], |id| match SEEN.fetch_add(1, Ordering::SeqCst) {
        0 => Vec::new(),
        _ => head(id, END_STREAM, &CAPITAL),
    })
    .await;
    let (runner, mut healthy, mut faulty) =
        (endpoint.runner(), endpoint.trial(&json!({})), endpoint.trial(&json!({})));
    healthy.timeout = Duration::from_secs(2);
    faulty.handler.id = HandlerId(8);
    let later = async {
        while SEEN.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        faulty.run(&runner).await
    };
    let (healthy, faulty) = tokio::join!(healthy.run(&runner), later);
    let (failed, _) = failure(faulty);
    assert!(failed.error.contains("a name contains a capital letter"), "{}", failed.error);
    assert_eq!(failure(healthy).0.error, "no answer within 2s");
}

#[tokio::test]
async fn the_error_says_what_ended_the_exchange() {
    async fn error_for(answer: fn(u32) -> Vec<u8>) -> String {
        failure(Endpoint::new(&["h2"], answer).await.call(json!({})).await).0.error
    }
    fn reset(id: u32, code: u32) -> Vec<u8> {
        frame(RST_STREAM, 0, id, &code.to_be_bytes())
    }
    let go_away = |_| frame(GOAWAY, 0, 0, &[0; 8]);
    for (answer, expected) in [
        ((|id| reset(id, 8)) as fn(u32) -> Vec<u8>, "cancelled its answer"),
        (|id| reset(id, 7), "accepts no more requests"),
        (|id| reset(id, 2), "failed while it answered"),
        (|_| frame(SETTINGS, 0, 7, &[]), "breaks the rules of HTTP/2"),
        (|_| b"HTTP/1.1 505 HTTP Version Not Supported\r\n\r\n".to_vec(), "HTTP/2"),
        (go_away, "HTTP/2"),
    ] {
        let error = error_for(answer).await;
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
