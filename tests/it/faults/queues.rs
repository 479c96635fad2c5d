//! Queues that somebody deletes under their consumers.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    Form, both_forms,
    checker::Allowed,
    fault_rig::{FaultRig, HANDLERS, RATE},
    receivers::EVENT,
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
fn copied_again(rig: &FaultRig) -> usize {
    let logs: Vec<String> = rig.workers.iter().map(Process::log).collect();
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
    let mut rig = FaultRig::begin("event queue deleted", form).await;
    let mut deleted = 0;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        // Only while its worker stands still does the queue hold anything.
        rig.workers[0].signal(Signal::SIGSTOP);
        rig.load.wait_for(100).await;
        let begun = Instant::now();
        deleted += rig.world.broker.delete_queue(&format!("events.{EVENT}")).await as usize;
        deleted += on_its_way(begun);
        rig.may_be_lost_before = rig.load.next();
        rig.workers[0].signal(Signal::SIGCONT);
        rig.reset_recovery_start();
        rig.recovered().await;
    }
    assert!(deleted > 0, "a queue that held nothing shows nothing");
    let unrouted = 500 * form.injections();
    rig.end(Allowed { lost_with_queue: deleted, unrouted, ..Allowed::default() }).await;
}

/// Results are published all the time: those that meet no queue are recorded all the same. The broker confirms what
/// reaches the queue while it is being deleted; that is gone with the rest of what the queue held.
async fn log_queue_deleted(form: Form) {
    let mut rig = FaultRig::begin("log queue deleted", form).await;
    let mut deleted = 0;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        let begun = Instant::now();
        deleted += rig.world.broker.delete_queue("execution-log").await as usize;
        rig.may_be_lost_before = rig.load.next();
        deleted += on_its_way(begun) * HANDLERS;
        rig.recovered().await;
    }
    let repeated = copied_again(&rig);
    rig.end(Allowed { lost_with_queue: deleted, unrecorded: deleted, repeated, ..Allowed::default() }).await;
}

async fn dead_letter_queue_deleted(form: Form) {
    let mut rig = FaultRig::begin("dead-letter queue deleted", form).await;
    let mut deleted = 0;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        // Letters are rare: with the recorder standing still some wait when the queue goes, and some come later.
        rig.recorder.signal(Signal::SIGSTOP);
        rig.load.wait_for(100).await;
        deleted += rig.world.broker.delete_queue("dead-letters").await as usize;
        rig.may_be_lost_before = rig.load.next();
        rig.load.wait_for(100).await;
        rig.recorder.signal(Signal::SIGCONT);
        rig.recovered().await;
    }
    let repeated = copied_again(&rig);
    // One may be on its way.
    rig.end(Allowed { lost_with_queue: deleted + form.injections(), repeated, ..Allowed::default() }).await;
}
