//! What ends a connection ends no other, and counts against nobody who was in hand with it.

use serde_json::json;

use crate::support::{Endpoint, Policy, Proxy, World, address, eventually};

const EVENTS: [&str; 3] = ["clients.create", "clients.delete", "clients.balance_zero"];
const NEIGHBOURS: u64 = 20;

#[blocking_test]
async fn what_ends_each_connection_that_it_comes_on_holds_up_no_other_event() {
    let mut world = World::new().await;
    let recorder = world.recorder().await;
    world.keep(recorder);
    // As a firewall that knows a virus.
    let mut firewall = Proxy::amqp(address(&world.amqp_url));
    firewall.open();
    firewall.forbid(b"EICAR-STANDARD-ANTIVIRUS");
    // Fewer than wait in each queue: what was taken one at a time ends the caution.
    world.set("worker.concurrency", "5");
    world.set("amqp.url", &firewall.redirect(&world.amqp_url));
    let endpoint = Endpoint::ok().await;
    for event in EVENTS {
        world.handler(event, event, &["--http", &endpoint.url("/")]);
    }
    let mut worker = world.worker().await;
    assert!(worker.terminate().await.success());
    // The queue's own limit is 100, and each time takes most of a second.
    let policy = Policy::set(&world, "events.clients.create", &json!({"delivery-limit": 10}));
    for object in 0..NEIGHBOURS {
        for event in EVENTS {
            world.publish(event, Some(&format!("{event}-{object}")), object, &json!({})).await;
        }
        if object == NEIGHBOURS / 2 {
            world.publish(EVENTS[0], Some("virus"), 13, &json!({"note": "EICAR-STANDARD-ANTIVIRUS"})).await;
        }
    }
    let worker = world.worker().await;
    let all = NEIGHBOURS * EVENTS.len() as u64;
    let executions = world.wait_for_executions(usize::try_from(all).expect("few"), &[]).await;
    assert!(executions.iter().all(|execution| execution["status"] == "success"));
    let dead_letters = world.wait_for_dead_letters(1).await;
    assert_eq!(
        (&dead_letters[0]["reason"], &dead_letters[0]["event_id"]),
        (&json!("expired"), &json!("virus"))
    );
    let mut called: Vec<_> = endpoint.calls().iter().map(|c| c.header("webhook-id").to_owned()).collect();
    called.sort_unstable();
    called.dedup();
    assert_eq!((called.len() as u64, endpoint.count() as u64), (all, all), "each was called once");
    let log = worker.log();
    assert!(log.contains("taking one delivery at a time"), "{log}");
    eventually("it consumes as before", || async { worker.log().contains("consuming normally again") }).await;
    drop(policy);
    world.keep(worker);
    world.end().await;
}

#[blocking_test]
async fn a_broker_that_goes_away_again_and_again_is_no_suspicion() {
    let mut world = World::new().await;
    let mut link = Proxy::amqp(address(&world.amqp_url));
    link.open();
    world.set("amqp.url", &link.redirect(&world.amqp_url));
    let worker = world.worker().await;
    let has = |text: &str, times: usize| worker.log().matches(text).count() >= times;
    for time in 1..=4 {
        link.close().await;
        // Of each of its connections; what is said a second time is said at the level of debug.
        let lost = 3 * time;
        eventually("its connections are lost", || async { has("connection to the broker lost", lost) }).await;
        eventually("the broker is not reached", || async { has("cannot connect to the broker", lost) }).await;
        link.open();
        eventually("it is connected again", || async { has("connected to the broker", 3 + lost) }).await;
        world.wait_for_consumer("events.clients.create").await;
    }
    assert!(!worker.log().contains("one delivery at a time"), "{}", worker.log());
    world.keep(worker);
    world.end().await;
}

#[blocking_test]
async fn fewer_channels_than_queues_are_enough() {
    let mut world = World::new().await;
    let mut link = Proxy::amqp(address(&world.amqp_url));
    link.open();
    link.limit_channels(8);
    world.set("amqp.url", &link.redirect(&world.amqp_url));
    let endpoint = Endpoint::ok().await;
    let events = world.json(&["events", "list"]);
    let events: Vec<_> =
        events.as_array().expect("a list").iter().map(|e| e["name"].as_str().expect("a name")).collect();
    assert!(events.len() > 8, "{events:?}");
    for event in &events {
        world.handler(event, event, &["--http", &endpoint.url("/")]);
    }
    let (worker, recorder) = (world.worker().await, world.recorder().await);
    eventually("connections of their own", || async {
        worker.log().contains("opening a separate connection")
    })
    .await;
    world.keep(worker);
    world.keep(recorder);
    for event in &events {
        world.publish(event, Some(event), 1, &json!({})).await;
    }
    world.wait_for_executions(events.len(), &["--status", "success"]).await;
    world.end().await;
}
