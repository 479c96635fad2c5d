//! The log: each line names its event, and a collector that is stuck, or gone, holds up nothing.

use std::{
    io::{BufRead as _, BufReader, PipeReader},
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    monitoring::get,
    support::{Endpoint, Process, Reply, World, eventually, free_port},
};

/// Each of them makes a dead letter, and a line of warning.
async fn publish(world: &World, events: std::ops::Range<u64>) {
    for object in events {
        world.publish("clients.create", Some(&format!("e{object}")), object, &json!({})).await;
    }
}

/// A worker of which nobody reads what it logs, unless with what is given back.
async fn worker(world: &World) -> (Process, PipeReader) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let worker = world.spawn_with_stderr(&["--roles", "worker"], Some(Stdio::from(writer)));
    world.wait_for_consumer("events.clients.create").await;
    (worker, reader)
}

fn telemetry_url(world: &World, path: &str) -> String {
    format!("http://{}{path}", world.variable("PROVISIOND_TELEMETRY__LISTEN"))
}

async fn lost(world: &World) -> u64 {
    let (_, text) = get(&telemetry_url(world, "/metrics")).await;
    let line = text.lines().find(|line| line.starts_with("provisiond_log_lines_lost_total ")).expect(&text);
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect(line)
}

/// The value of a field of the spans that a line is in.
fn of_span<'a>(line: &'a Value, field: &str) -> Option<&'a Value> {
    line["spans"].as_array()?.iter().find_map(|span| span.get(field))
}

#[blocking_test]
async fn every_line_about_an_event_names_it() {
    let mut world = World::new().await;
    let failing = Endpoint::start(|_, _| Reply::status(400)).await;
    let handler = world.handler("failing", "clients.create", &["--http", &failing.url("/")]).to_string();
    let worker = world.worker().await;
    world.publish("clients.create", Some("bad"), 1, &json!({})).await;
    world.broker.publish("clients.create", Some("garbage"), b"no JSON").await;
    let has = |text: &str| worker.log().contains(text);
    eventually("both are dead letters", || async {
        has("gave up: published dead letter") && has("dead-lettered malformed event")
    })
    .await;
    let log = worker.log();
    // The last one may be half written.
    let complete_lines = log.rfind('\n').and_then(|end| log.get(..end)).expect("lines");
    let lines = complete_lines.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    let of_events: Vec<_> = lines.filter(|line| line.get("spans").is_some()).collect();
    let messages = ["attempt", "gave up: published dead letter", "dead-lettered malformed event"];
    for (message, id, of_handler) in
        [(messages[0], "bad", true), (messages[1], "bad", true), (messages[2], "garbage", false)]
    {
        let line = of_events.iter().find(|line| line["message"] == message).expect(&log);
        assert_eq!(of_span(line, "event_id"), Some(&json!(id)), "{line}");
        assert_eq!(of_span(line, "event"), Some(&json!("clients.create")), "{line}");
        let named = of_handler.then(|| json!(handler));
        assert_eq!(of_span(line, "handler"), named.as_ref(), "{line}");
    }
    assert!(of_events.iter().all(|line| of_span(line, "event_id").is_some()), "{log}");
    world.keep(worker);
    world.abandon().await;
}

#[blocking_test]
async fn a_collector_that_is_stuck_holds_up_nothing() {
    const EVENTS: u64 = 5000;
    let mut world = World::new().await;
    world.set("telemetry.listen", &format!("127.0.0.1:{}", free_port()));
    // Two lines of each event: more than there is room for.
    world.set("telemetry.log", "trace");
    let failing = Endpoint::start(|_, _| Reply::status(400)).await;
    world.handler("failing", "clients.create", &["--http", &failing.url("/")]);
    let (mut worker, reader) = worker(&world).await;
    publish(&world, 0..EVENTS).await;
    failing.wait_for(usize::try_from(EVENTS).expect("a count")).await;
    assert_eq!(get(&telemetry_url(&world, "/healthz")).await.0, 200);
    assert_eq!(get(&telemetry_url(&world, "/readyz")).await.0, 200);
    assert!(lost(&world).await > 0, "all of it found room");

    // The collector comes back.
    let mut lines = BufReader::new(reader).lines();
    let lost_line = tokio::task::spawn_blocking(move || {
        let lost_line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("lost log lines")));
        std::thread::spawn(move || lines.count());
        lost_line
    });
    let lost_line =
        tokio::time::timeout(Duration::from_secs(30), lost_line).await.expect("the warning in time").unwrap();
    let lost_line = lost_line.expect("a line").expect("a line");
    assert!(lost_line.contains("the reader of standard error was too slow"), "{lost_line}");
    assert!(worker.terminate().await.success());
    world.abandon().await;
}

#[blocking_test]
async fn sigterm_drains_while_nobody_reads_the_log() {
    let mut world = World::new().await;
    world.set("telemetry.log", "trace");
    let failing = Endpoint::start(|_, _| Reply::status(400)).await;
    world.handler("failing", "clients.create", &["--http", &failing.url("/")]);
    let (mut worker, _reader) = worker(&world).await;
    publish(&world, 0..300).await;
    failing.wait_for(300).await;
    let begun = Instant::now();
    assert!(worker.terminate().await.success());
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
    world.abandon().await;
}

#[blocking_test]
async fn a_collector_that_is_gone_holds_up_nothing() {
    let mut world = World::new().await;
    world.set("telemetry.listen", &format!("127.0.0.1:{}", free_port()));
    let failing = Endpoint::start(|_, _| Reply::status(400)).await;
    world.handler("failing", "clients.create", &["--http", &failing.url("/")]);
    let (mut worker, reader) = worker(&world).await;
    drop(reader);
    publish(&world, 0..100).await;
    failing.wait_for(100).await;
    eventually("lost lines are counted", || async { lost(&world).await >= 100 }).await;
    assert!(worker.terminate().await.success());
    world.abandon().await;
}
