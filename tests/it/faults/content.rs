//! What is published twice, and what is no event, in the midst of good load.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::StreamExt;

use super::{
    Form, both_forms,
    checker::Allowed,
    fault_rig::{FaultRig, HANDLERS, Setup},
};
use serde_json::json;

use crate::{
    garbage,
    hostile_publishers::{MESSAGE_ID, unreadable_properties},
    support::{Broker, envelope, eventually, raw_publisher::RawPublisher},
};

both_forms!(events_twice, results_twice, garbage_among_events, poison_among_events);

/// With `worker.deduplicate` each handler is called once.
async fn events_twice(form: Form) {
    let name = "every event published twice, deduplicated";
    let settings = &[("worker.deduplicate", "1h")];
    let setup = Setup { times: 2, rate: 60, settings, ..Setup::default() };
    let mut rig = FaultRig::with(name, form, setup).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        rig.recovered().await;
    }
    rig.end(Allowed::default()).await;
}

/// Every result reaches the recorder twice, and is one row.
async fn results_twice(form: Form) {
    let mut rig = FaultRig::begin("every result delivered twice", form).await;
    let broker = Broker::connect(&rig.world.amqp_url, &rig.world.broker.prefix).await;
    let queue = broker.bind_own_queue("results", "#").await;
    let results = broker.consume(&queue).await;
    let repeated = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&repeated);
    let repeating = tokio::spawn(async move {
        let again = async |result: lapin::Result<lapin::message::Delivery>| {
            broker.publish_to("execution-log", &result.expect("a result").data).await;
            counter.fetch_add(1, Ordering::SeqCst);
        };
        results.for_each_concurrent(256, again).await;
    });
    for _ in 0..form.injections() {
        rig.random_moment().await;
        rig.recovered().await;
    }
    while rig.load.next() < form.events() {
        rig.load.wait_for(50).await;
    }
    let wanted = HANDLERS * usize::try_from(form.events()).expect("a number");
    eventually("every result is published again", || async { repeated.load(Ordering::SeqCst) >= wanted })
        .await;
    repeating.abort();
    rig.end(Allowed::default()).await;
}

/// Garbage of every kind becomes dead letters, and good events are none the worse.
async fn garbage_among_events(form: Form) {
    let mut rig = FaultRig::begin("garbage among good events", form).await;
    let kinds = garbage::kinds();
    for round in 0..form.injections() {
        rig.random_moment().await;
        for (kind, body, _) in &kinds {
            let id = format!("garbage-{round}-{kind}");
            rig.world.broker.publish("clients.create", Some(&id), body).await;
        }
        rig.recovered().await;
    }
    let wanted = i64::try_from(kinds.len() * form.injections()).expect("a number");
    let dead_letters =
        "SELECT count(*) FROM dead_letters WHERE reason = 'malformed' AND event_id LIKE 'garbage-%'";
    eventually("every piece of garbage is a dead letter", || async {
        rig.world.count(dead_letters).await >= wanted
    })
    .await;
    assert_eq!(rig.world.count(dead_letters).await, wanted);
    rig.end(Allowed::default()).await;
}

/// Properties and headers of every kind that the client library cannot read become dead letters. No connection is lost by
/// them, so there is nothing to recover from.
async fn poison_among_events(form: Form) {
    let setup = Setup { workers: 3, ..Setup::default() };
    let mut rig = FaultRig::with("unreadable properties among good events", form, setup).await;
    let exchange = rig.world.broker.name("events");
    let mut publisher = RawPublisher::connect(&rig.world.amqp_url).await;
    let mut wanted = 0;
    let lost = |rig: &FaultRig| -> usize {
        let processes = rig.workers.iter().chain([&rig.recorder]);
        processes.map(|process| process.log().matches("connection to the broker lost").count()).sum()
    };
    // RabbitMQ 3.10 may close one at the start: it hands out a quorum queue that is being declared by another (`noproc`).
    let before = lost(&rig);
    // Without a message id, an event is its body.
    let mut object_ids = 666_000..;
    for round in 0..form.injections() {
        rig.random_moment().await;
        for ((flags, properties, _), object_id) in unreadable_properties().into_iter().zip(&mut object_ids) {
            // Those whose id cannot be read are all one event to the checker.
            if round > 0 && flags & MESSAGE_ID != 0 {
                continue;
            }
            let body = envelope("clients.create", object_id, &json!({}));
            let sent = (flags, properties.as_slice());
            match publisher.publish(&exchange, b"clients.create", sent, body.as_bytes()).await {
                Ok(()) => wanted += 1,
                // A broker that reads what it passes on refuses it itself, with the publisher's connection.
                Err(_) => publisher = RawPublisher::connect(&rig.world.amqp_url).await,
            }
        }
        rig.recovered().await;
    }
    assert!(wanted > 0, "the broker took none of them");
    let dead_letters = "SELECT count(*) FROM dead_letters WHERE reason = 'malformed'";
    eventually("all of them are dead letters", || async { rig.world.count(dead_letters).await >= wanted })
        .await;
    assert_eq!(rig.world.count(dead_letters).await, wanted);
    assert_eq!(lost(&rig), before);
    rig.end(Allowed::default()).await;
}
