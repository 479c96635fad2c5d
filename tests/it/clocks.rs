//! Clocks that are wrong: nothing is deleted, given up or expired on the word of one, and who looks is told.

use std::time::Duration;

use serde_json::json;

use crate::support::{Endpoint, Process, Reply, World, eventually};

/// So few that half of the calls may fail without opening the circuit.
const EVENTS: usize = 6;

/// Makes whatever the world starts from now on see another time; the monotonic clock stays right. False: there is no
/// libfaketime on this machine.
fn shift(world: &mut World, by: &str) -> bool {
    let library = std::env::var("PROVISIOND_TEST_FAKETIME").unwrap_or_default();
    if library.is_empty() {
        println!("skipped: there is no libfaketime");
        return false;
    }
    std::fs::write(world.dir.path().join("faketime"), by).expect("written");
    world.set_variable("LD_PRELOAD", &library);
    world.set_variable("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    world.set_variable("FAKETIME_NO_CACHE", "1");
    let file = world.dir.path().join("faketime").display().to_string();
    world.set_variable("FAKETIME_TIMESTAMP_FILE", &file);
    true
}

fn set_right(world: &mut World) {
    world.set_variable("LD_PRELOAD", "");
}

/// Sets the clock of what runs already.
fn jump(world: &World, by: &str) {
    std::fs::write(world.dir.path().join("faketime"), by).expect("written");
}

async fn publish(world: &World, round: u64) {
    for object in 0..EVENTS {
        world.publish("clients.create", Some(&format!("{round}-{object}")), object as u64, &json!({})).await;
    }
}

async fn wait_for_log(process: &Process, text: &str) {
    eventually(&format!("{text:?} is told"), || async { process.log().contains(text) }).await;
}

#[blocking_test]
async fn a_host_that_is_a_hundred_days_ahead_deletes_nothing() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    let (mut worker, mut recorder) = (world.worker().await, world.recorder().await);
    publish(&world, 1).await;
    world.wait_for_executions(EVENTS, &[]).await;
    worker.terminate().await;
    recorder.terminate().await;

    if !shift(&mut world, "+100d") {
        return world.abandon().await;
    }
    let recorder = world.recorder().await;
    wait_for_log(&recorder, "this host's clock is 100 days ahead of the database's clock").await;
    wait_for_log(&recorder, "no old records are deleted while clocks differ").await;
    eventually("status tells of it", || async {
        let status = String::from_utf8(world.run(&["status"]).output.stdout).expect("text");
        status.contains("its clock is 100 days ahead of the database's clock")
    })
    .await;
    let check = String::from_utf8(world.run(&["check"]).output.stdout).expect("text");
    assert!(check.contains("this host's clock is 100 days ahead of the database's clock"), "{check}");
    assert_eq!(world.count("SELECT count(*) FROM executions").await, i64::try_from(EVENTS).expect("a count"));
    jump(&world, "+0d");
    wait_for_log(&recorder, "this host's clock agrees with the database's again").await;
    world.keep(recorder);
    set_right(&mut world);
    world.end().await;
}

/// All events of a round run, although each fails once, and all of it is recorded.
async fn all_run(world: &World, endpoint: &Endpoint, round: u64) {
    let before = endpoint.count();
    publish(world, round).await;
    endpoint.wait_for(before + 2 * EVENTS).await;
    let done =
        format!("SELECT count(*) FROM executions WHERE disposition = 'done' AND event_id LIKE '{round}-%'");
    eventually("all of it is done, and recorded", || async {
        world.count(&done).await == i64::try_from(EVENTS).expect("a count")
    })
    .await;
    assert_eq!(endpoint.count(), before + 2 * EVENTS, "each event was called twice");
}

#[blocking_test]
async fn workers_and_recorders_work_whatever_their_clocks_say() {
    let mut world = World::new().await;
    world.set("retry.initial_interval", "1s");
    // Each object fails at its first call of a round.
    let endpoint = Endpoint::start(|call, _| {
        Reply::status(if call.header("x-provisioning-attempt") == "1" { 503 } else { 200 })
    })
    .await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);

    let mut round = 0;
    for offset in ["+100d", "-100d"] {
        if !shift(&mut world, offset) {
            return world.abandon().await;
        }
        let (worker, recorder) = (world.worker().await, world.recorder().await);
        round += 1;
        all_run(&world, &endpoint, round).await;
        for by in ["+0d", "+1d", "-1d", "+100d"] {
            jump(&world, by);
            round += 1;
            all_run(&world, &endpoint, round).await;
        }
        for mut process in [worker, recorder] {
            assert!(process.terminate().await.success());
        }
    }
    set_right(&mut world);
    let every = i64::try_from(EVENTS).expect("a count") * i64::try_from(round).expect("a count");
    assert_eq!(world.count("SELECT count(*) FROM executions").await, 2 * every, "two attempts of each");
    assert_eq!(world.count("SELECT count(*) FROM dead_letters").await, 0, "nothing was given up");
    let recorder = world.recorder().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.count("SELECT count(*) FROM executions").await, 2 * every, "nothing was deleted");
    world.keep(recorder);
    world.end().await;
}
