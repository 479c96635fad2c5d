//! Traces: what a publisher begins goes on through us, and each attempt is a span of it.

use std::time::{Duration, Instant};

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};
use serde_json::{Value, json};

use crate::support::{Collector, Endpoint, Process, Reply, Span, World, envelope, eventually};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PUBLISHER: &str = "b7ad6b7169203331";

/// A world with short retries that sends its spans to `collector` without delay.
async fn world(collector: &str) -> World {
    let mut world = World::new().await;
    world.set("telemetry.otlp_endpoint", collector);
    world.set_variable("OTEL_BSP_SCHEDULE_DELAY", "100");
    world.set("retry.initial_interval", "1s");
    world.set("retry.multiplier", "1");
    world
}

/// Publishes as one who traces does.
async fn publish(world: &World, id: &str, trace: Option<&str>) {
    let mut headers = FieldTable::default();
    if let Some(trace) = trace {
        headers.insert("traceparent".into(), AMQPValue::LongString(trace.into()));
        headers.insert("tracestate".into(), AMQPValue::LongString("vendor=1".into()));
    }
    let properties = BasicProperties::default().with_message_id(id.into()).with_headers(headers);
    let body = envelope("clients.create", 12, &json!({"card": "b0dy"}));
    world.broker.publish_with("clients.create", properties, body.as_bytes()).await;
}

/// The attempts of a handler, in their order.
fn attempts<'a>(spans: &'a [Span], handler: &str) -> Vec<&'a Span> {
    let belongs_to_handler =
        |span: &&Span| span.attributes.get("provisiond.handler.name").is_some_and(|name| name == handler);
    let mut attempts: Vec<&Span> = spans.iter().filter(belongs_to_handler).collect();
    attempts.sort_by_key(|span| span.attributes["provisiond.attempt"].clone());
    attempts
}

/// The `traceparent` by which whoever is called goes on below `span`.
fn below(span: &Span) -> String {
    format!("00-{}-{}-01", span.trace_id, span.id)
}

fn log_lines(process: &Process, message: &str) -> Vec<Value> {
    let lines = process.log();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

#[blocking_test]
async fn three_attempts_hang_below_the_publishers_span() {
    let collector = Collector::start().await;
    let mut world = world(&collector.url()).await;
    let endpoint = Endpoint::start(|_, before| Reply::status(if before < 2 { 503 } else { 200 })).await;
    let flags = ["--http", &endpoint.url("/api?key=s3cret"), "--header", "Authorization: Bearer s3cret"];
    let id = world.handler("CRM", "clients.create", &flags);
    world.script("show.sh", "#!/bin/sh\nprintf %s \"$TRACEPARENT\"\n");
    world.handler("show", "clients.create", &["--script", "show.sh"]);
    let (worker, recorder) = (world.worker().await, world.recorder().await);
    world.keep(recorder);
    let results = world.broker.bind_own_queue("results", "#").await;
    publish(&world, "e1", Some(&format!("00-{TRACE}-{PUBLISHER}-01"))).await;
    let executions = world.wait_for_executions(4, &[]).await;
    let spans = collector.wait_for(4).await;

    assert!(spans.iter().all(|span| span.trace_id == TRACE && span.parent == PUBLISHER), "{spans:#?}");
    let calls = attempts(&spans, "CRM");
    let outcomes: Vec<_> = calls.iter().map(|span| span.attributes["provisiond.outcome"].as_str()).collect();
    assert_eq!(outcomes, ["fail", "fail", "success"]);
    assert_eq!((calls[0].status, calls[2].status), (StatusCode::Error, StatusCode::Unset));
    assert_eq!(calls[0].status_message, "answered 503 Service Unavailable");
    assert_eq!(calls[0].attributes["error.type"], "503");
    let queue = world.broker.name("events.clients.create");
    for (key, value) in [
        ("messaging.system", "rabbitmq"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", &queue),
        ("messaging.rabbitmq.destination.routing_key", "clients.create"),
        ("messaging.message.id", "e1"),
        ("provisiond.handler.id", &id.to_string()),
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("server.address", "127.0.0.1"),
        ("server.port", &endpoint.address.port().to_string()),
    ] {
        assert_eq!(calls[2].attributes[key], value, "{key}");
    }
    assert_eq!(calls[2].name, format!("process {queue}"));
    assert_eq!((calls[2].kind, calls[2].state.as_str()), (SpanKind::Consumer, "vendor=1"));
    assert_eq!(calls[2].resource["service.name"], "provisiond");
    assert!(calls[2].resource["service.instance.id"].ends_with(&format!(":{}", worker.pid())));
    let all = format!("{spans:?}");
    assert!(!all.contains("s3cret") && !all.contains("b0dy"), "nothing that may be secret: {all}");

    for (call, span) in endpoint.calls().iter().zip(&calls) {
        assert_eq!((call.header("traceparent"), call.header("tracestate")), (&*below(span), "vendor=1"));
    }
    let shown = executions.iter().find(|e| e["handler"]["name"] == "show").unwrap();
    let shown = world.json(&["executions", "show", shown["id"].as_str().unwrap()]);
    let script = attempts(&spans, "show")[0];
    assert_eq!(shown["response"]["stdout"], below(script));
    assert_eq!((&shown["trace_id"], &*script.attributes["process.exit.code"]), (&json!(TRACE), "0"));

    let mut traceparents = Vec::new();
    while let Some(result) = world.broker.take(&results).await {
        let headers = result.properties.headers().clone().unwrap_or_default();
        traceparents.push(headers.inner()["traceparent"].as_long_string().unwrap().to_string());
    }
    let mut expected: Vec<_> = spans.iter().map(below).collect();
    traceparents.sort();
    expected.sort();
    assert_eq!(traceparents, expected, "each result carries the span of its attempt");
    let lines = log_lines(&worker, "attempt");
    assert!(lines.len() == 4 && lines.iter().all(|line| line["trace_id"] == TRACE), "{lines:?}");
    world.keep(worker);
    world.end().await;
}

#[blocking_test]
async fn an_event_without_a_trace_begins_one_and_an_unsampled_one_stays_so() {
    let collector = Collector::start().await;
    let mut world = world(&collector.url()).await;
    let endpoint = Endpoint::start(|_, before| Reply::status(if before == 0 { 503 } else { 200 })).await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    publish(&world, "e1", None).await;
    let executions = world.wait_for_executions(2, &[]).await;
    let spans = collector.wait_for(3).await;
    let first = spans.iter().find(|span| span.parent.is_empty()).expect("one that begins the trace");
    assert_eq!(first.attributes["messaging.message.id"], "e1");
    let calls = attempts(&spans, "CRM");
    assert!(calls.iter().all(|span| span.parent == first.id && span.trace_id == first.trace_id));
    let seen: Vec<_> = endpoint.calls().iter().map(|call| call.header("traceparent").to_owned()).collect();
    assert_eq!(seen, [below(calls[0]), below(calls[1])]);
    assert!(executions.iter().all(|e| e["trace_id"] == *first.trace_id), "{executions:?}");

    publish(&world, "e2", Some(&format!("00-{TRACE}-{PUBLISHER}-00"))).await;
    world.wait_for_executions(1, &["--event-id", "e2"]).await;
    let calls = endpoint.calls();
    let seen = calls[2].header("traceparent");
    assert!(seen.starts_with(&format!("00-{TRACE}-")) && seen.ends_with("-00"), "{seen}");
    // No header of W3C: it is as if there were none.
    publish(&world, "e3", Some("00-0-0-0")).await;
    collector.wait_for(5).await;
    world.wait_for_executions(4, &[]).await;
    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.attributes["messaging.message.id"] != "e2"), "{spans:#?}");
    world.end().await;
}

#[blocking_test]
async fn a_collector_that_is_away_costs_a_line() {
    // Nothing listens there.
    events_flow_without("http://127.0.0.1:1").await;
}

#[blocking_test]
async fn a_collector_that_hangs_costs_a_line() {
    let hanging = Endpoint::start(|_, _| Reply::status(200).after(Duration::from_mins(2))).await;
    events_flow_without(&hanging.url("")).await;
}

async fn events_flow_without(collector: &str) {
    const EVENTS: usize = 200;
    let mut world = world(collector).await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    let (mut worker, recorder) = (world.worker().await, world.recorder().await);
    world.keep(recorder);
    publish(&world, "first", None).await;
    eventually("the collector is missed", || async { worker.log().contains("accepts no spans") }).await;
    let begun = Instant::now();
    for number in 0..EVENTS {
        publish(&world, &format!("e{number}"), None).await;
    }
    endpoint.wait_for(EVENTS + 1).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let begun = Instant::now();
    assert!(worker.terminate().await.success());
    assert!(begun.elapsed() < Duration::from_secs(6), "its end took {:?}", begun.elapsed());
    let warnings = log_lines(&worker, "the collector accepts no spans: dropping them; events still run");
    assert!(warnings.len() == 1 && warnings[0]["level"] == "WARN", "{}", worker.log());
    world.wait_for_executions(EVENTS + 1, &["--status", "success"]).await;
    world.end().await;
}
