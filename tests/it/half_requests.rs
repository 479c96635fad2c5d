//! Those who connect and say little: they keep nobody out, and no handler pays for the descriptors they take.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::Instant};

use crate::support::{
    Endpoint, Process, Reply, World,
    console::{client, listening},
    eventually,
};

const HALF_A_HEAD: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\n";
const HALF_A_FORM: &[u8] = b"POST /sign-in HTTP/1.1\r\nhost: x\r\nsec-fetch-site: same-origin\r\n\
    content-type: application/x-www-form-urlencoded\r\ncontent-length: 16000\r\n\r\nname=";
const HALF_A_BODY: &[u8] = b"GET /assets/none HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n";

/// Connections to `address` on each of which half a request was sent.
async fn half_requests(address: &str, count: usize, half: &[u8]) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..count {
        let Ok(mut connection) = TcpStream::connect(address).await else { break };
        let _ = connection.write_all(half).await;
        connections.push(connection);
    }
    connections
}

async fn answers_within(url: &str, limit: Duration) {
    let begun = Instant::now();
    let answer = client().get(url).timeout(limit).send().await;
    assert!(answer.is_ok_and(|answer| answer.status() == 200), "{url}: no 200 within {:?}", begun.elapsed());
}

fn listening_for_health(process: &Process) -> String {
    let log = process.log();
    let log_line = log.lines().find(|line| line.contains("/healthz")).expect("it says where");
    let line: serde_json::Value = serde_json::from_str(log_line).expect("JSON");
    line["address"].as_str().expect("an address").to_owned()
}

fn descriptors(process: &Process) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).expect("a process");
    open.count().try_into().expect("a number")
}

#[blocking_test]
async fn half_requests_keep_nobody_out() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    let process = world.spawn(&[]);
    world.wait_for_consumer("events.clients.create").await;
    let console = listening(&process).await;
    let health = listening_for_health(&process);
    let console_address = console.trim_start_matches("http://").to_owned();
    let (health_connections, console_connections) = (
        half_requests(&health, 600, HALF_A_HEAD).await,
        half_requests(&console_address, 600, HALF_A_HEAD).await,
    );
    assert!(health_connections.len() == 600 && console_connections.len() == 600, "they could connect");
    answers_within(&format!("http://{health}/healthz"), Duration::from_secs(3)).await;
    answers_within(&format!("{console}/healthz"), Duration::from_secs(3)).await;
    for half in [HALF_A_FORM, HALF_A_BODY] {
        let sending = half_requests(&console_address, 300, half).await;
        answers_within(&format!("{console}/healthz"), Duration::from_secs(3)).await;
        drop(sending);
    }
    let open = descriptors(&process);
    assert!(open < 500, "{open} descriptors are open");
    for n in 0..20 {
        world.publish("clients.create", Some(&format!("e{n}")), n, &json!({})).await;
    }
    let done = world.wait_for_executions(20, &["--status", "success"]).await;
    assert!(done.iter().all(|execution| execution["attempt"] == 1));
    // Their time is bounded too.
    drop(health_connections);
    let mut waiting = half_requests(&health, 1, HALF_A_HEAD).await.pop().expect("one");
    let mut rest = Vec::new();
    let closed = tokio::io::AsyncReadExt::read_to_end(&mut waiting, &mut rest);
    assert!(
        tokio::time::timeout(Duration::from_mins(2), closed).await.is_ok(),
        "half a request waits for ever"
    );
    world.keep(process);
    world.end().await;
}

#[blocking_test]
async fn want_of_descriptors_is_no_failure_of_a_handler() {
    let mut world = World::new().await;
    // Each call is slow, so that all at once need more descriptors than there are.
    let endpoint = Endpoint::start(|_, _| Reply::status(200).after(Duration::from_secs(1))).await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/"), "--max-attempts", "1"]);
    let (worker, recorder) = (world.worker().await, world.recorder().await);
    let max_descriptors = descriptors(&worker) + 3;
    let limit = Rlimit { current: Some(max_descriptors), maximum: Some(max_descriptors) };
    prlimit(Pid::from_raw(worker.pid().try_into().unwrap()), Resource::Nofile, limit).unwrap();
    for n in 0..40 {
        world.publish("clients.create", Some(&format!("e{n}")), n, &json!({})).await;
    }
    eventually("some were not called for want of descriptors", || async {
        worker.log().contains("lacks a resource")
    })
    .await;
    endpoint.wait_for(40).await;
    let done = world.wait_for_executions(40, &["--status", "success"]).await;
    assert!(done.iter().all(|execution| execution["attempt"] == 1), "none was counted");
    assert!(world.dead_letters().is_empty());
    world.keep(worker);
    world.keep(recorder);
    world.end().await;
}
