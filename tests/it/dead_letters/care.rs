//! A replay is no storm: it stops by itself, survives its process, and two people do not repeat each other.

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use super::{Repairable, calls, publish, replay};
use crate::support::{World, eventually};

async fn with_dead_letters(count: usize) -> (World, Repairable) {
    let mut world = World::new().await;
    let broken = Repairable::down().await;
    world.handler("broken", "clients.create", &["--http", &broken.endpoint.url("/")]);
    world.serve().await;
    publish(&world, "clients.create", count).await;
    world.wait_for_dead_letters(count).await;
    world.wait_for_executions(count, &[]).await;
    (world, broken)
}

fn spawn_replay(world: &World, args: &[&str]) -> Child {
    let command = ["dead-letters", "replay", "--yes", "--output", "json"];
    let mut replay = world.command();
    replay.args([&command, args].concat()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    replay.spawn().expect("the program")
}

#[blocking_test]
async fn a_replay_killed_half_way_is_resumed() {
    const EVENTS: usize = 200;
    let (world, broken) = with_dead_letters(EVENTS).await;
    broken.repair();
    let mut killed = spawn_replay(&world, &["--all", "--rate", "100"]);
    broken.endpoint.wait_for(EVENTS + 60).await;
    killed.kill().expect("killed");
    killed.wait().expect("ended");
    let replayed = world.count("SELECT count(*) FROM replay_items WHERE state = 'replayed'").await;
    assert!((50..200).contains(&replayed), "{replayed}");
    assert_eq!(world.count("SELECT count(*) FROM replays WHERE state = 'running'").await, 1);

    let resumed = world.json(&["dead-letters", "replay", "--resume"]);
    assert_eq!((&resumed["replayed"], &resumed["state"]), (&json!(EVENTS), &json!("finished")));
    world.run(&["dead-letters", "replay", "--resume"]).assert_failed(3, "no replay to resume");
    assert!(world.dead_letters().is_empty());
    eventually("everything was called", || async { calls(&broken.endpoint).values().all(|n| *n >= 2) }).await;
    let repeated = calls(&broken.endpoint).values().filter(|n| **n > 2).count();
    assert!(repeated <= 1, "{repeated} were replayed twice");
    let count = broken.endpoint.count();
    world.wait_for_executions(count, &[]).await;
    world.end().await;
}

#[blocking_test]
async fn ctrl_c_stops_between_two_dead_letters() {
    const EVENTS: usize = 100;
    let (world, broken) = with_dead_letters(EVENTS).await;
    broken.repair();
    let stopped = spawn_replay(&world, &["--all", "--rate", "20"]);
    broken.endpoint.wait_for(EVENTS + 10).await;
    kill(Pid::from_raw(stopped.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = stopped.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("asked to stop; resume it with provisiond dead-letters replay --resume"),
        "{stderr}"
    );
    let remaining = world.dead_letters().len();
    assert!((1..=90).contains(&remaining), "{remaining} are left");
    let resumed = world.json(&["dead-letters", "replay", "--resume", "1"]);
    assert_eq!(resumed["replayed"], EVENTS);
    world.run(&["dead-letters", "replay", "--resume", "1"]).assert_failed(1, "finished");
    world.wait_for_executions(2 * EVENTS, &[]).await;
    assert!(calls(&broken.endpoint).values().all(|n| *n == 2), "none was replayed twice");
    world.end().await;
}

#[blocking_test]
async fn two_operators_replay_each_dead_letter_once() {
    const EVENTS: usize = 150;
    let (world, broken) = with_dead_letters(EVENTS).await;
    broken.repair();
    let both = [0, 1].map(|_| spawn_replay(&world, &["--event", "clients.create", "--rate", "300"]));
    let reports = both.map(|replay| {
        let output = replay.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    });
    let replayed: u64 = reports.iter().filter_map(|report| report["replayed"].as_u64()).sum();
    assert_eq!(replayed, EVENTS as u64, "{reports:?}");
    world.wait_for_executions(2 * EVENTS, &[]).await;
    assert!(calls(&broken.endpoint).values().all(|n| *n == 2), "each was replayed once");
    world.end().await;
}

#[blocking_test]
async fn a_replay_to_an_endpoint_that_is_still_down_stops_by_itself() {
    const EVENTS: usize = 150;
    let (world, broken) = with_dead_letters(EVENTS).await;
    let failed = world.run(&["dead-letters", "replay", "--all", "--yes", "--rate", "100"]);
    failed
        .assert_failed(1, "first attempts failed; resume it with provisiond dead-letters replay --resume 1");
    let replayed = world.count("SELECT count(*) FROM dead_letters WHERE state = 'replayed'").await;
    assert!((20..100).contains(&replayed), "it stopped after {replayed}");
    // What it had replayed died again, as letters of their own: the attempts start at one.
    world.wait_for_dead_letters(EVENTS).await;
    broken.repair();
    assert_eq!(world.json(&["dead-letters", "replay", "--resume"])["state"], "finished");
    assert_eq!(replay(&world, &["--all"])["replayed"], replayed);
    assert!(world.dead_letters().is_empty());
    let expected = 2 * EVENTS + usize::try_from(replayed).unwrap();
    world.wait_for_executions(expected, &[]).await;
    world.end().await;
}

#[blocking_test]
async fn a_replay_keeps_to_its_rate() {
    let (world, broken) = with_dead_letters(20).await;
    broken.repair();
    let begun = std::time::Instant::now();
    world.json(&["dead-letters", "replay", "--all", "--yes", "--rate", "10"]);
    assert!(begun.elapsed() >= Duration::from_millis(1850), "{:?}", begun.elapsed());
    world.wait_for_executions(40, &[]).await;
    world.end().await;
}
