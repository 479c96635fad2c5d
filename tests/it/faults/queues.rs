//! Queues that somebody deletes under their consumers.

use nix::sys::signal::Signal;

use super::{
    Form, both_forms,
    checker::Allowed,
    receivers::EVENT,
    scene::{Scene, UNDER_WAY},
};

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
        held += scene.world.broker.delete_queue(&format!("events.{EVENT}")).await as usize;
        scene.excusable = scene.load.next();
        scene.workers[0].signal(Signal::SIGCONT);
        scene.injected();
        scene.recovered().await;
    }
    assert!(held > 0, "a queue that held nothing shows nothing");
    let unrouted = 500 * form.injections();
    scene.end(Allowed { excused: held, unrouted, ..Allowed::default() }).await;
}

/// Results are published all the time: those that meet no queue are recorded all the same.
async fn log_queue_deleted(form: Form) {
    let mut scene = Scene::begin("log queue deleted", form).await;
    let mut held = 0;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        held += scene.world.broker.delete_queue("execution-log").await as usize;
        scene.excusable = if held > 0 { scene.load.next() } else { 0 };
        scene.recovered().await;
    }
    scene.end(Allowed { excused: held, unrecorded: held, ..Allowed::default() }).await;
}

async fn dead_letter_queue_deleted(form: Form) {
    let mut scene = Scene::begin("dead-letter queue deleted", form).await;
    let mut held = 0;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        // Letters are rare: with the recorder away some wait when the queue goes, and some come when it is gone.
        scene.recorder.signal(Signal::SIGSTOP);
        scene.load.wait_for(100).await;
        held += scene.world.broker.delete_queue("dead-letters").await as usize;
        scene.excusable = if held > 0 { scene.load.next() } else { 0 };
        scene.load.wait_for(100).await;
        scene.recorder.signal(Signal::SIGCONT);
        scene.recovered().await;
    }
    scene.end(Allowed { excused: held, repeated: UNDER_WAY, ..Allowed::default() }).await;
}
