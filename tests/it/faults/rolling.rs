//! A rolling restart under full load: three workers, restarted one after the other while the platform publishes a
//! thousand events a second.
//!
//! The other faults ask whether anything is lost; this one asks how long anybody waits. An event's time begins when it is
//! due, whether or not the publisher came to it in time: a platform that has to wait for the broker counts that too.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use serde_json::json;
use tokio::sync::watch;

use super::receivers::EVENT;
use crate::support::{Endpoint, Process, World, envelope, eventually};

const PER_SECOND: u32 = 1000;
const WORKERS: usize = 3;
const ROUNDS: usize = 3;
/// How long all three run between two restarts.
const BETWEEN: Duration = Duration::from_secs(2);
/// What 99 of 100 events may wait for their handler.
const P99: Duration = Duration::from_secs(2);

/// When the event of each number was due; all were confirmed.
type Due = Vec<Instant>;

/// Publishes at the rate until told to end, and waits for every confirm.
async fn publish(url: String, exchange: String, end: watch::Receiver<bool>) -> Due {
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("a broker");
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let (mut due, mut confirms) = (Due::new(), FuturesUnordered::new());
    let (began, period) = (Instant::now(), Duration::from_secs(1) / PER_SECOND);
    while !*end.borrow() {
        let next = began + period * u32::try_from(due.len()).expect("fits");
        tokio::time::sleep_until(next.into()).await;
        // Late by the timer's grain, or because the broker was slow: what is due is published at once.
        while began + period * u32::try_from(due.len()).expect("fits") <= Instant::now() {
            let number = due.len() as u64;
            due.push(began + period * u32::try_from(number).expect("fits"));
            let body = envelope(EVENT, number, &json!({"number": number}));
            let id = format!("e{number}");
            let properties =
                BasicProperties::default().with_delivery_mode(2).with_message_id(id.as_str().into());
            let options = BasicPublishOptions::default();
            let (exchange, key) = (exchange.as_str().into(), EVENT.into());
            let confirm = channel.basic_publish(exchange, key, options, body.as_bytes(), properties);
            confirms.push(confirm.await.expect("published"));
        }
        while confirms.len() > 500 {
            let confirmed = confirms.next().await.expect("one").expect("confirmed");
            assert!(confirmed.is_ack(), "the broker refused an event");
        }
    }
    while let Some(confirmed) = confirms.next().await {
        assert!(confirmed.expect("confirmed").is_ack(), "the broker refused an event");
    }
    connection.close(200, "done".into()).await.expect("closed");
    due
}

async fn restart(world: &World, worker: &mut Process) {
    let status = worker.terminate().await;
    assert!(status.success(), "ended with {status}; its log:\n{}", worker.log());
    *worker = world.spawn(&["--roles", "worker"]);
    consumers(world, WORKERS).await;
}

async fn consumers(world: &World, count: usize) {
    eventually(&format!("{count} workers consume"), || async {
        let depth = world.broker.depth(&format!("events.{EVENT}")).await;
        depth.is_some_and(|(_, consumers)| consumers as usize == count)
    })
    .await;
}

/// The times from due to called, in order; and how often an event was called again.
fn times(endpoint: &Endpoint, due: &Due) -> (Vec<Duration>, usize) {
    let (mut seen, mut times, mut repeated) = (BTreeSet::new(), Vec::new(), 0);
    for call in endpoint.calls() {
        let number = call.object_id();
        if seen.insert(number) {
            let due = due[usize::try_from(number).expect("fits")];
            times.push(call.at.saturating_duration_since(due));
        } else {
            repeated += 1;
        }
    }
    times.sort_unstable();
    (times, repeated)
}

#[blocking_test]
#[ignore = "it needs the machine for itself: script/test --faults"]
async fn nobody_waits_for_a_rolling_restart() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", EVENT, &["--http", &endpoint.url("/")]);
    // A line for each attempt says nothing here, and costs.
    world.set("telemetry.log", "warn");
    let recorder = world.recorder().await;
    world.keep(recorder);
    let mut workers: Vec<Process> = (0..WORKERS).map(|_| world.spawn(&["--roles", "worker"])).collect();
    consumers(&world, WORKERS).await;

    let (end, ending) = watch::channel(false);
    let load = tokio::spawn(publish(world.amqp_url.clone(), world.broker.name("events"), ending));
    endpoint.wait_for(1000).await;
    for _ in 0..ROUNDS {
        for worker in &mut workers {
            tokio::time::sleep(BETWEEN).await;
            restart(&world, worker).await;
        }
    }
    tokio::time::sleep(BETWEEN).await;
    end.send(true).expect("it publishes");
    let due = load.await.expect("it publishes");

    eventually("every result is recorded", || async {
        world.left_in_queues().await.is_empty()
            && world.count("SELECT count(DISTINCT event_id) FROM executions").await
                == i64::try_from(due.len()).expect("fits")
    })
    .await;
    for worker in workers {
        world.keep(worker);
    }
    let (times, repeated) = times(&endpoint, &due);
    let percentile = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let lost = due.len() - times.len();
    println!(
        "rolling restart at {PER_SECOND} events/s, {WORKERS} workers, {} restarts: {} confirmed, {lost} lost, {repeated} \
         repeated; publish to handler p50 {:.1?}, p99 {:.1?}, at most {:.1?}",
        ROUNDS * WORKERS,
        due.len(),
        percentile(50),
        percentile(99),
        times[times.len() - 1],
    );
    assert_eq!((lost, repeated), (0, 0));
    assert!(percentile(99) < P99, "p99 is {:?}", percentile(99));
    world.end().await;
}
