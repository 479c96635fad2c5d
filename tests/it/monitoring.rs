//! What a process tells those who watch over it: metrics, health, readiness; and the watchdog.

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Endpoint, Kind, Process, Proxy, Reply, Step, World, address, console, eventually};

/// Where a process tells of itself.
pub async fn metrics_address(process: &Process) -> String {
    let logged_address = || {
        let log = process.log();
        let line = log.lines().find(|line| line.contains("serving /metrics"))?;
        let line: Value = serde_json::from_str(line).ok()?;
        Some(format!("http://{}", line["address"].as_str()?))
    };
    eventually("the log names the metrics address", || async { logged_address().is_some() }).await;
    logged_address().expect("an address")
}

pub(crate) async fn get(url: &str) -> (u16, String) {
    let response = console::client().get(url).send().await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("a body"))
}

async fn status(url: &str) -> u16 {
    get(url).await.0
}

/// The series and their values.
async fn metrics(base_url: &str) -> BTreeMap<String, f64> {
    let (status, text) = get(&format!("{base_url}/metrics")).await;
    assert_eq!(status, 200);
    let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    samples
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            (series.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

/// Prometheus' own linter, where it is there.
fn lint(text: &str) {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        return println!("there is no promtool: the metrics are not checked by it");
    };
    child.stdin.take().expect("stdin").write_all(text.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("promtool");
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "promtool: {}",
        String::from_utf8_lossy(&output.stdout)
    );
}

async fn publish(world: &World, event: &str, object: u64) {
    world.publish(event, Some(&format!("{event}-{object}")), object, &json!({})).await;
}

#[blocking_test]
async fn the_metrics_say_what_happened() {
    let mut world = World::new().await;
    world.set("telemetry.handler_series", "2");
    let good = Endpoint::ok().await;
    let bad = Endpoint::start(|_, _| Reply::status(404)).await;
    let flaky = Endpoint::start(|_, nth| Reply::status(if nth == 0 { 503 } else { 200 })).await;
    let first = world.handler("says \"hello\"", "clients.create", &["--http", &good.url("/")]);
    let second = world.handler("refuses", "clients.create", &["--http", &bad.url("/"), "--priority", "200"]);
    let retry = ["--initial-interval", "1s", "--jitter", "0"];
    world.handler("flaky", "clients.update", &[&["--http", &flaky.url("/")], &retry[..]].concat());
    let (worker, recorder) = (world.worker().await, world.recorder().await);
    let (base_url, recorder_url) = (metrics_address(&worker).await, metrics_address(&recorder).await);
    for object in 0..3 {
        publish(&world, "clients.create", object).await;
    }
    world.wait_for_executions(6, &["--event", "clients.create"]).await;
    publish(&world, "clients.update", 1).await;
    publish(&world, "clients.delete", 1).await;
    publish(&world, "clients.renamed", 1).await;
    world.wait_for_executions(9, &[]).await;

    let (_, text) = get(&format!("{base_url}/metrics")).await;
    lint(&text);
    lint(&get(&format!("{recorder_url}/metrics")).await.1);
    let values = metrics(&base_url).await;
    let attempts = |event: &str, handler: &str, outcome: &str| {
        let series = format!(
            "provisiond_attempts_total{{event=\"{event}\",handler=\"{handler}\",outcome=\"{outcome}\"}}"
        );
        values.get(&series).copied()
    };
    assert_eq!(attempts("clients.create", &first.to_string(), "success"), Some(3.0));
    assert_eq!(attempts("clients.create", &second.to_string(), "permanent"), Some(3.0));
    assert_eq!(
        attempts("clients.update", "other", "transient"),
        Some(1.0),
        "beyond telemetry.handler_series"
    );
    assert_eq!(attempts("clients.update", "other", "success"), Some(1.0));
    for (series, value) in [
        ("provisiond_deliveries_total{event=\"clients.create\",kind=\"first\"}", 3.0),
        ("provisiond_deliveries_total{event=\"clients.update\",kind=\"copy\"}", 1.0),
        ("provisiond_deliveries_settled_total{event=\"clients.create\",settlement=\"acknowledged\"}", 3.0),
        ("provisiond_event_wait_seconds_count{event=\"clients.update\"}", 1.0),
        ("provisiond_attempt_duration_seconds_count{event=\"clients.create\",task=\"http\"}", 6.0),
        ("provisiond_retries_total{event=\"clients.update\"}", 1.0),
        ("provisiond_dead_letters_total{event=\"clients.create\",reason=\"permanent\"}", 3.0),
        ("provisiond_skips_total{event=\"clients.delete\",disposition=\"no_handler\"}", 1.0),
        ("provisiond_broker_up{connection=\"worker: publish\"}", 1.0),
        ("provisiond_registry_handlers", 3.0),
        ("provisiond_consumers_wedged", 0.0),
        ("provisiond_published_total{purpose=\"results\"}", 9.0),
    ] {
        assert_eq!(values.get(series), Some(&value), "{series}");
    }
    let info = format!(
        "provisiond_handler_info{{handler=\"{first}\",name=\"says \\\"hello\\\"\",event=\"clients.create\"}}"
    );
    assert_eq!(values.get(&info), Some(&1.0));
    eventually("the recorder has written and counted", || async {
        let values = metrics(&recorder_url).await;
        let queue = format!("provisiond_queue_messages{{queue=\"{}\"}}", world.broker.name("execution-log"));
        values.get("provisiond_recorder_rows_total{table=\"executions\"}") == Some(&9.0)
            && values.get("provisiond_recorder_rows_total{table=\"dead_letters\"}") == Some(&4.0)
            && values.get("provisiond_dead_letters_total{event=\"other\",reason=\"unrouted\"}") == Some(&1.0)
            && values.get("provisiond_dead_letters_open") == Some(&4.0)
            && values.get(&queue) == Some(&0.0)
    })
    .await;
    world.keep(worker);
    world.keep(recorder);
    world.end().await;
}

#[blocking_test]
async fn a_process_is_ready_while_its_broker_is_there() {
    let mut world = World::new().await;
    let mut proxy = Proxy::amqp(address(&world.amqp_url));
    world.set("amqp.url", &proxy.redirect(&world.amqp_url));
    let slow = Endpoint::start(|_, _| Reply::status(200).after(Duration::from_secs(3))).await;
    world.handler("slow", "clients.create", &["--http", &slow.url("/")]);
    let mut worker = world.spawn(&["--roles", "worker"]);
    let base_url = metrics_address(&worker).await;
    let (readyz, healthz) = (format!("{base_url}/readyz"), format!("{base_url}/healthz"));
    assert_eq!(
        (status(&readyz).await, status(&healthz).await),
        (503, 200),
        "well, and not ready without a broker"
    );
    proxy.open();
    eventually("ready", || async { status(&readyz).await == 200 }).await;
    proxy.close().await;
    eventually("not ready", || async { status(&readyz).await == 503 }).await;
    let (_, why) = get(&readyz).await;
    assert!(why.contains("worker: consume") && why.contains("\"ok\":false"), "{why}");
    assert_eq!(status(&healthz).await, 200, "that others are away is no fault of its own");
    world.set("telemetry.listen", base_url.trim_start_matches("http://"));
    world.run(&["health"]).assert_done();
    world.run(&["health", "--ready"]).assert_failed(1, "worker: consume");
    proxy.open();
    eventually("ready again", || async { status(&readyz).await == 200 }).await;
    world.run(&["health", "--ready"]).assert_done();

    publish(&world, "clients.create", 1).await;
    slow.wait_for(1).await;
    worker.signal(Signal::SIGTERM);
    eventually("not ready while it drains", || async { status(&readyz).await == 503 }).await;
    assert!(worker.ended(Duration::from_secs(30)).await.success());
    world.run(&["health"]).assert_failed(1, "no answer from");
    let recorder = world.recorder().await;
    world.wait_for_executions(1, &["--status", "success"]).await;
    world.keep(recorder);
    world.end().await;
}

#[blocking_test]
async fn an_address_that_was_chosen_must_be_free() {
    let mut world = World::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    world.set("telemetry.listen", &listener.local_addr().expect("an address").to_string());
    let mut process = world.spawn(&["--roles", "worker"]);
    assert_eq!(process.ended(Duration::from_secs(30)).await.code(), Some(1));
    assert!(process.log().contains("telemetry.listen"), "{}", process.log());
    world.end().await;
}

/// The broker confirms nothing, and answers everything else: nothing that the worker holds can end. With a recorder the
/// rebuilt consumer would find recorded what had been done, and be well.
#[blocking_test]
#[ignore = "takes minutes: script/test --faults"]
async fn a_wedged_consumer_is_rebuilt() {
    let mut world = World::new().await;
    let mut proxy = Proxy::amqp(address(&world.amqp_url));
    proxy.open();
    world.set("amqp.url", &proxy.redirect(&world.amqp_url));
    world.set("worker.concurrency", "3");
    let endpoint = Endpoint::ok().await;
    world.handler("quick", "clients.create", &["--http", &endpoint.url("/"), "--timeout", "1s"]);
    let worker = world.worker().await;
    let base_url = metrics_address(&worker).await;
    proxy.swallow(&[Step::Confirm(Kind::Result)]);
    for object in 0..10 {
        publish(&world, "clients.create", object).await;
    }
    let rebuilt = || async {
        let series = "provisiond_consumers_rebuilt_total{event=\"clients.create\"}";
        metrics(&base_url).await.get(series).copied().unwrap_or_default()
    };
    let wait_for_health = |failure: &'static str, seconds: u64, expected: &'static str| {
        let base_url = base_url.clone();
        async move {
            let deadline = std::time::Instant::now() + Duration::from_secs(seconds);
            while status(&format!("{base_url}/healthz")).await.to_string() != expected {
                assert!(std::time::Instant::now() < deadline, "{failure}");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    };
    let begun = std::time::Instant::now();
    while rebuilt().await < 1.0 {
        assert!(begun.elapsed() < Duration::from_mins(3), "not rebuilt:\n{}", worker.log());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    println!("rebuilt after {:?}", begun.elapsed());
    assert_eq!(status(&format!("{base_url}/healthz")).await, 200, "it is given a chance");
    wait_for_health("that it did not help is told", 180, "503").await;
    println!("not well after {:?}", begun.elapsed());
    proxy.swallow(&[]);
    wait_for_health("well again", 240, "200").await;
    // What had no confirm was run again, and recorded each time.
    let recorder = world.recorder().await;
    eventually("every event has run", || async {
        let sql = "SELECT count(DISTINCT event_id) FROM executions WHERE status = 'success'";
        world.left_in_queues().await.is_empty() && world.count(sql).await == 10
    })
    .await;
    world.keep(worker);
    world.keep(recorder);
    world.end().await;
}
