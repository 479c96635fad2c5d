//! A RabbitMQ that blocks publishers, or loses patience with a consumer.

use std::time::Duration;

use serde_json::json;

use crate::{
    faults::{
        Form, both_forms,
        checker::Allowed,
        fault_rig::{FaultRig, MAX_IN_FLIGHT, MAX_REPEATED_BY_CUT, Setup},
    },
    support::{Endpoint, Reply, Services, World, console::Api, eventually},
};

both_forms!(memory_alarm, consumer_timeout);

/// Publishers are blocked: it waits, says so, takes no more than its prefetch, and goes on by itself.
async fn memory_alarm(form: Form) {
    let services = Services::breakable().await;
    let setup = Setup { services: Some(&services), ..Setup::default() };
    let mut rig = FaultRig::with("memory alarm set and lifted", form, setup).await;
    for injection in 1..=form.injections() {
        rig.random_moment().await;
        services.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]).await;
        rig.wait_for_log(&rig.workers[0], "the broker blocks publishers", injection).await;
        let before = rig.receivers.endpoint.count();
        tokio::time::sleep(form.outage()).await;
        let called = rig.receivers.endpoint.count() - before;
        assert!(called <= MAX_IN_FLIGHT, "{called} calls while nothing could be published");
        services.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
        rig.recovered().await;
    }
    rig.end(Allowed::default()).await;
}

/// A handler takes longer than the broker lets a delivery be unacknowledged: the channel is closed, everything on it
/// comes again.
async fn consumer_timeout(form: Form) {
    let services = Services::breakable().await;
    services
        .ctl(&[
            "eval",
            "application:set_env(rabbit, consumer_timeout, 4000), \
             application:set_env(rabbit, channel_tick_interval, 1000).",
        ])
        .await;
    let setup = Setup { services: Some(&services), ..Setup::default() };
    let mut rig = FaultRig::with("consumer timeout hit", form, setup).await;
    for injection in 1..=form.injections() {
        rig.random_moment().await;
        let (slow, mut was_slow) = (rig.load.next() + 5, false);
        rig.receivers.override_reply(move |handler, number, _| {
            let is_slow =
                (handler, number) == ("steady", slow) && !std::mem::replace(&mut was_slow, number == slow);
            is_slow.then(|| Reply::status(200).after(Duration::from_secs(10)))
        });
        rig.wait_for_log(&rig.workers[0], "consumer lost: starting it again", injection).await;
        rig.reset_recovery_start();
        rig.recovered().await;
    }
    // The slow calls go on, though the broker has given their deliveries to others: they are not to be handed over.
    let slow = "SELECT count(*) FROM executions WHERE duration_ms >= 10000";
    eventually("the slow calls are recorded", || async {
        rig.world.count(slow).await >= i64::try_from(form.injections()).expect("a number")
    })
    .await;
    let repeated = MAX_REPEATED_BY_CUT * form.injections();
    services.ctl(&["eval", "application:set_env(rabbit, consumer_timeout, 1800000)."]).await;
    rig.end(Allowed { repeated, ..Allowed::default() }).await;
}

/// Who publishes by hand meanwhile is told that the event may run all the same, and it does.
#[blocking_test]
async fn an_event_published_to_a_blocking_broker_may_run_later() {
    let services = Services::breakable().await;
    let mut world = World::on(&services.amqp_url, None).await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    let api = Api::start(&mut world).await;
    services.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]).await;
    let event = json!({"event": "clients.create", "object_id": 1, "id": "by-hand"});
    let answered = api.post("/events", &event).await;
    assert_eq!(answered.status, 503, "{}", answered.text);
    assert!(
        answered.text.contains("did not confirm the event by-hand, but may have stored it"),
        "{}",
        answered.text
    );
    services.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    endpoint.wait_for(1).await;
    world.wait_for_executions(1, &["--event-id", "by-hand"]).await;
    world.keep(api.process);
    world.end().await;
}

/// A replay that the broker does not confirm says that it may still run, and is not run twice.
#[blocking_test]
async fn a_replay_to_a_blocking_broker_runs_once() {
    let services = Services::breakable().await;
    let mut world = World::on(&services.amqp_url, None).await;
    let endpoint = Endpoint::start(|_, n| Reply::status(if n == 0 { 400 } else { 200 })).await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    world.publish("clients.create", Some("e1"), 1, &json!({})).await;
    let dead_letter = world.wait_for_dead_letters(1).await[0]["id"].as_str().expect("an id").to_owned();
    let api = Api::start(&mut world).await;
    services.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]).await;
    let begun = api.post(&format!("/dead-letters/{dead_letter}/replay"), &json!({})).await.expect(202);
    let replay = format!("/replays/{}", begun["id"]);
    let stopped = || async {
        let job = api.get(&replay).await;
        (job["state"] == "stopped").then(|| job["note"].as_str().expect("a note").to_owned())
    };
    eventually("it stops", || async { stopped().await.is_some() }).await;
    let note = stopped().await.expect("stopped");
    assert!(
        note.contains("may still run") && note.contains("provisiond executions list --event-id e1"),
        "{note}"
    );

    services.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    endpoint.wait_for(2).await;
    world.wait_for_executions(2, &["--event-id", "e1"]).await;
    assert_eq!(world.json(&["dead-letters", "show", &dead_letter])["state"], "open");
    assert_eq!(api.post(&format!("{replay}/resume"), &json!({})).await.status, 202);
    eventually("the letter is closed", || async {
        world.json(&["dead-letters", "show", &dead_letter])["state"] == "replayed"
    })
    .await;
    assert_eq!((api.get(&replay).await["replayed"].clone(), endpoint.count()), (json!(1), 2));
    world.keep(api.process);
    world.end().await;
}
