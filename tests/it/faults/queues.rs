//! Queues that somebody deletes under their consumers.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    Form, both_forms,
    checker::Allowed,
    receivers::EVENT,
    scene::{HANDLERS, RATE, Scene},
};
use crate::support::Process;

/// Events that may have reached a queue since its deletion `begun`, and until it was gone for all.
fn on_its_way(begun: Instant) -> usize {
    let millis = (begun.elapsed() + Duration::from_millis(200)).as_millis();
    usize::try_from(millis).expect("a number") * RATE as usize / 1000
}

/// Calls that may be repeated, because the confirmations of retry copies were lost with their connection and the copies
/// were published again: each may be there twice, with a plan of up to all handlers.
///
/// RabbitMQ 3.10 closes the connection of who publishes to a quorum queue for the first time while somebody deletes it
/// (`INTERNAL_ERROR`: `register_enqueuer` is answered `{shutdown,delete}`, for which its channel has no clause).
fn copied_again(scene: &Scene) -> usize {
    let logs: Vec<String> = scene.workers.iter().map(Process::log).collect();
    let lines = logs.iter().flat_map(|log| log.lines()).map(serde_json::from_str::<Value>);
    let again = lines.flatten().filter(|line| {
        line["message"] == "channel lost: publishing the unconfirmed messages again"
            && line["purpose"] == "retry copies"
    });
    let copies: u64 = again.filter_map(|line| line["unconfirmed"].as_u64()).sum();
    usize::try_from(copies).expect("a number") * HANDLERS
}

both_forms!(event_queue_deleted, log_queue_deleted, dead_letter_queue_deleted);

/// What it held is gone, and what is published meanwhile becomes dead letters.
async fn event_queue_deleted(form: Form) {
    let mut scene = Scene::begin("event queue deleted", form).await;
    let mut held = 0;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        // Only while its worker stands still does the queue hold anything.
        scene.workers[0].signal(Signal::SIGSTOP);
        scene.load.wait_for(100).await;
        let begun = Instant::now();
        held += scene.world.broker.delete_queue(&format!("events.{EVENT}")).await as usize;
        held += on_its_way(begun);
        scene.excusable = scene.load.next();
        scene.workers[0].signal(Signal::SIGCONT);
        scene.struck_now();
        scene.recovered().await;
    }
    assert!(held > 0, "a queue that held nothing shows nothing");
    let unrouted = 500 * form.injections();
    scene.end(Allowed { excused: held, unrouted, ..Allowed::default() }).await;
}

/// Results are published all the time: those that meet no queue are recorded all the same. The broker confirms what
/// reaches the queue while it is being deleted; that is gone with the rest of what the queue held.
async fn log_queue_deleted(form: Form) {
    let mut scene = Scene::begin("log queue deleted", form).await;
    let mut held = 0;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        let begun = Instant::now();
        held += scene.world.broker.delete_queue("execution-log").await as usize;
        scene.excusable = scene.load.next();
        held += on_its_way(begun) * HANDLERS;
        scene.recovered().await;
    }
    let repeated = copied_again(&scene);
    scene.end(Allowed { excused: held, unrecorded: held, repeated, ..Allowed::default() }).await;
}

async fn dead_letter_queue_deleted(form: Form) {
    let mut scene = Scene::begin("dead-letter queue deleted", form).await;
    let mut held = 0;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        // Letters are rare: with the recorder standing still some wait when the queue goes, and some come later.
        scene.recorder.signal(Signal::SIGSTOP);
        scene.load.wait_for(100).await;
        held += scene.world.broker.delete_queue("dead-letters").await as usize;
        scene.excusable = scene.load.next();
        scene.load.wait_for(100).await;
        scene.recorder.signal(Signal::SIGCONT);
        scene.recovered().await;
    }
    let repeated = copied_again(&scene);
    // One may be on its way.
    scene.end(Allowed { excused: held + form.injections(), repeated, ..Allowed::default() }).await;
}
