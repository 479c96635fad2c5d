//! Endpoints that hang, flood, lie and break off: what each costs a worker, and what its neighbours notice.

mod neighbours;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::sleep,
};

use crate::support::{
    Endpoint, Process, World, envelope, eventually,
    hostile::{Authority, answering, endless, never_accepts, raw, request, swallow},
};

/// Of one handler, at a time.
/// Fewer than a circuit breaker needs to open.
const CALLS: u64 = 9;
const TIMEOUT: Duration = Duration::from_millis(600);
/// What scheduling may add to it on a busy machine.
const SLACK: Duration = Duration::from_secs(8);
/// Beyond what the worker holds at rest, with [`CALLS`] of the worst at a time.
const MEMORY_KIB: u64 = 40 * 1024;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
/// An empty SETTINGS frame.
const H2_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// What an endpoint does, and how its calls end.
struct Case {
    does: &'static str,
    event: &'static str,
    url: String,
    disposition: &'static str,
    /// Part of the error; empty for a success.
    error: &'static str,
    /// Whether the record says that the answer was cut.
    cut: bool,
}

fn case(
    does: &'static str,
    event: &'static str,
    url: impl std::fmt::Display,
    (disposition, error, cut): (&'static str, &'static str, bool),
) -> Case {
    Case { does, event, url: url.to_string(), disposition, error, cut }
}

/// 100 MiB of zeros in 100 KiB.
fn gzip_bomb() -> Vec<u8> {
    let python = std::env::var("PROVISIOND_TEST_PYTHON").expect("./script/test sets it");
    let program = "import gzip, sys; sys.stdout.buffer.write(gzip.compress(bytes(100 << 20)))";
    let bomb = Command::new(python).args(["-c", program]).output().unwrap().stdout;
    let head = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        bomb.len()
    );
    [head.into_bytes(), bomb].concat()
}

/// Everything that one of the endpoints needs to stay as it is.
type Held = Box<dyn std::any::Any + Send>;

async fn over_tcp() -> (Vec<Case>, Held) {
    const GIVEN_UP: &str = "dead_lettered";
    let (full, waiting, listener) = never_accepts().await;
    let reset = raw(|mut stream| async move {
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf").await.ok();
        sleep(Duration::from_millis(50)).await;
        stream.set_zero_linger().ok();
    })
    .await;
    let slow = endless(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", b"x", Duration::from_secs(1)).await;
    let chunked = endless(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"1\r\nx\r\n",
        Duration::from_millis(20),
    )
    .await;
    let now = Duration::ZERO;
    let lines: &[u8] = b"x-header: 0123456789012345678901234567890123456789\r\n".repeat(100).leak();
    // Faster ones keep a debug build busy for longer than its timeout, as it never waits for the next.
    let hints: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(100).leak();
    let much: &[u8] = &[b'x'; 16 << 10];
    let large = b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n";
    let moved = b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest/\r\n\
        connection: close\r\ncontent-length: 0\r\n\r\n";
    let garbled = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\n\xff\xfe\xc3(";
    let cases = vec![
        case("never accepts", "clients.update", full, (GIVEN_UP, "no connection to", false)),
        case(
            "accepts and is silent",
            "clients.delete",
            raw(swallow).await,
            (GIVEN_UP, "no answer within", false),
        ),
        case("1 byte a second", "clients.archive", slow, ("done", "", true)),
        case(
            "endless headers",
            "clients.custom_fields.update",
            endless(b"HTTP/1.1 200 OK\r\n", lines, now).await,
            (GIVEN_UP, "message head is too large", false),
        ),
        case(
            "endless 103 Early Hints",
            "clients.balance_notzero",
            endless(b"", hints, Duration::from_millis(5)).await,
            (GIVEN_UP, "no answer within", false),
        ),
        case("endless body", "clients.balance_zero", endless(OK, much, now).await, ("done", "", true)),
        case("gzip bomb", "clients.accounts.create", answering(gzip_bomb()).await, ("done", "", true)),
        case("chunks without end", "clients.accounts.update", chunked, ("done", "", true)),
        case("reset in mid-body", "clients.accounts.delete", reset, ("done", "", true)),
        case("100 MiB", "clients.packages.assign", endless(large, much, now).await, ("done", "", true)),
        case(
            "invalid UTF-8",
            "clients.packages.activate",
            answering(garbled.to_vec()).await,
            ("done", "", false),
        ),
        case(
            "302 to metadata",
            "clients.packages.deactivate",
            answering(moved.to_vec()).await,
            (
                GIVEN_UP,
                "answered 302 Found (redirects are not followed; it points to http://169.254.169.254/***",
                false,
            ),
        ),
    ];
    (cases, Box::new((waiting, listener)))
}

async fn over_tls(authority: &Authority) -> Vec<Case> {
    let other = authority.server("other.example", "http/1.1", swallow).await;
    let stalled = authority
        .server("localhost", "h2", |mut stream| async move {
            stream.write_all(H2_SETTINGS).await.ok();
            // Takes the preface and the request, and then reads no more either.
            let mut some = [0; 200];
            stream.read_exact(&mut some).await.ok();
            sleep(Duration::from_mins(1)).await;
        })
        .await;
    let url = |port: u16| format!("https://localhost:{port}/");
    let other = case(
        "wrong name in TLS",
        "clients.packages.renew",
        url(other.port()),
        ("dead_lettered", "not valid for name \"localhost\"", false),
    );
    let stalled = case(
        "HTTP/2 stall",
        "clients.packages.close",
        url(stalled.port()),
        ("dead_lettered", "no answer within", false),
    );
    vec![other, stalled]
}

/// What one case took.
struct Cost {
    longest: u64,
    kib: u64,
    neighbour: Duration,
}

/// Calls the endpoint many times at once, and one neighbour meanwhile.
async fn suffer(world: &World, worker: &Process, neighbour: &Endpoint, case: &Case) -> Cost {
    let (at_rest, called) = (worker.begin_peak_kib(), neighbour.count());
    for n in 0..CALLS {
        world.publish(case.event, None, n, &Value::Object(serde_json::Map::new())).await;
    }
    let begun = Instant::now();
    let event = envelope("clients.create", 1, &Value::Object(serde_json::Map::new()));
    world.broker.publish("clients.create", None, event.as_bytes()).await;
    neighbour.wait_for(called + 1).await;
    let noticed = begun.elapsed();
    let sql = format!("SELECT count(*) FROM executions WHERE event_name = '{}'", case.event);
    eventually(case.does, || async { world.count(&sql).await == i64::try_from(CALLS).unwrap() }).await;
    let kib = worker.peak_kib().saturating_sub(at_rest);
    let executions = world.executions(&["--event", case.event]);
    for execution in &executions {
        let error = execution["error"].as_str().unwrap_or_default();
        assert_eq!(execution["disposition"], case.disposition, "{}: {execution:#}", case.does);
        assert!(
            error.contains(case.error) && error.is_empty() == case.error.is_empty(),
            "{}: {error}",
            case.does
        );
    }
    let shown = world.json(&["executions", "show", executions[0]["id"].as_str().unwrap()]);
    let response = &shown["response"];
    assert_eq!(response["truncated"].as_bool().unwrap_or_default(), case.cut, "{}: {response}", case.does);
    let body = response["body"].as_str().unwrap_or_default();
    assert!(body.chars().count() <= 64 << 10, "{}: {} characters are kept", case.does, body.len());
    match case.does {
        "gzip bomb" => assert!(body.starts_with("\u{1f}\u{fffd}\u{8}"), "it is kept as it came"),
        "invalid UTF-8" => assert_eq!(body, "\u{fffd}\u{fffd}\u{fffd}("),
        _ => {}
    }
    let longest = executions.iter().map(|e| e["duration_ms"].as_u64().unwrap()).max().unwrap();
    Cost { longest, kib, neighbour: noticed }
}

#[blocking_test]
async fn hostile_endpoints_are_bounded_and_stop_nobody() {
    let mut world = World::new().await;
    let ca_file = world.dir.path().join("ca.pem");
    let authority = Authority::new(&ca_file);
    world.set("http.ca_file", ca_file.to_str().unwrap());
    world.set("http.connect_timeout", "300ms");
    let (mut cases, _held) = over_tcp().await;
    cases.extend(over_tls(&authority).await);
    let timeout = humantime::format_duration(TIMEOUT).to_string();
    for case in &cases {
        let args = ["--http", &case.url, "--timeout", &timeout, "--max-attempts", "1"];
        world.handler(case.does, case.event, &args);
    }
    let neighbour = Endpoint::ok().await;
    world.handler("neighbour", "clients.create", &["--http", &neighbour.url("/")]);
    let mut worker = world.worker().await;
    let recorder = world.recorder().await;
    world.keep(recorder);

    println!("{:<26} {:>11} {:>12} {:>14}", "the endpoint", "longest", "memory", "a neighbour");
    let mut beyond = Vec::new();
    for case in &cases {
        let Cost { longest, kib, neighbour } = suffer(&world, &worker, &neighbour, case).await;
        println!("{:<26} {longest:>8} ms {kib:>8} KiB {:>11} ms", case.does, neighbour.as_millis());
        if u128::from(longest) > (TIMEOUT + SLACK).as_millis() || neighbour > SLACK || kib > MEMORY_KIB {
            beyond.push(case.does);
        }
    }
    assert!(beyond.is_empty(), "out of bounds: {beyond:?}");
    assert!(worker.terminate().await.success());
    world.end().await;
}
