//! Crashes between any two steps of a delivery's way (section 6 of the design): the link sees the step, and the process
//! is killed, or its connection cut, before the other side has seen it or right after.

use std::time::Duration;

use nix::sys::signal::Signal;
use rand::RngExt;

use super::{
    Form, both_forms,
    checker::Allowed,
    scene::{CUT, Scene},
};
use crate::support::{
    Kind::{Buried, Copy, HandOver, Letter, Result, Retrying},
    Reply,
    Step::{self, Ack, Confirm, Deliver, Publish},
    Strike,
    When::{self, After, Before},
};

both_forms!(
    worker_killed,
    worker_cut,
    killed_at_a_hand_over,
    cut_at_a_hand_over,
    recorder_killed,
    recorder_cut
);

/// A moment between two steps, and how many of the kind pass at most before it strikes.
type Moment = (Step, When, usize);

const OFTEN: usize = 60;
const RARE: usize = 3;

/// Of the worker, in their order.
const WORKER: [Moment; 13] = [
    // Nothing has run.
    (Deliver, After, OFTEN),
    // The handler has answered.
    (Publish(Result), Before, OFTEN),
    (Confirm(Result), Before, OFTEN),
    (Ack, Before, OFTEN),
    (Ack, After, OFTEN),
    // The handler has failed for now.
    (Publish(Copy), Before, RARE),
    (Confirm(Copy), Before, RARE),
    (Publish(Retrying), Before, RARE),
    (Confirm(Retrying), Before, RARE),
    // The handler has failed for good.
    (Publish(Letter), Before, RARE),
    (Confirm(Letter), Before, RARE),
    (Publish(Buried), Before, RARE),
    (Confirm(Buried), Before, RARE),
];

/// Of the recorder: before the rows are committed, after it, and when the broker knows.
const RECORDER: [Moment; 3] = [(Deliver, After, OFTEN), (Ack, Before, 5), (Ack, After, 5)];

/// What a drain publishes.
const HAND_OVER: [Moment; 2] = [(Publish(HandOver), Before, 1), (Confirm(HandOver), Before, 1)];

const PATIENCE: Duration = Duration::from_mins(1);

/// What may be repeated when a worker lost everything so many times.
fn crashes(form: Form, times: usize) -> Allowed {
    let repeated = form.killed(times);
    Allowed { repeated, unrecorded: repeated, ..Allowed::default() }
}

async fn worker_killed(form: Form) {
    let mut scene = Scene::begin("worker killed between two steps", form).await;
    for (step, when, most) in WORKER.repeat(form.injections()) {
        let nth = scene.rng.random_range(1..=most);
        let strike = Strike::Kill(scene.workers[0].pid());
        let struck = scene.links.worker.strike(step, nth, when, strike);
        happens(step, struck).await;
        scene.workers[0].ended(PATIENCE).await;
        scene.start_worker(0);
        scene.injected();
        scene.recovered().await;
    }
    scene.end(crashes(form, WORKER.len() * form.injections())).await;
}

async fn worker_cut(form: Form) {
    let mut scene = Scene::begin("worker's connection cut between two steps", form).await;
    for (step, when, most) in WORKER.repeat(form.injections()) {
        let nth = scene.rng.random_range(1..=most);
        let struck = scene.links.worker.strike(step, nth, when, Strike::Cut);
        happens(step, struck).await;
        scene.injected();
        scene.recovered().await;
    }
    let repeated = CUT * WORKER.len() * form.injections();
    scene.end(Allowed { repeated, ..Allowed::default() }).await;
}

async fn killed_at_a_hand_over(form: Form) {
    let mut scene = Scene::begin("worker killed while it hands over at a drain", form).await;
    linger(&scene);
    for (step, when, nth) in HAND_OVER.repeat(form.injections()) {
        scene.random_moment().await;
        let strike = Strike::Kill(scene.workers[0].pid());
        let struck = scene.links.worker.strike(step, nth, when, strike);
        scene.workers[0].signal(Signal::SIGTERM);
        happens(step, struck).await;
        scene.workers[0].ended(PATIENCE).await;
        scene.start_worker(0);
        scene.recovered().await;
    }
    scene.end(crashes(form, HAND_OVER.len() * form.injections())).await;
}

async fn cut_at_a_hand_over(form: Form) {
    let mut scene = Scene::begin("connection cut while a drain hands over", form).await;
    linger(&scene);
    for (step, when, nth) in HAND_OVER.repeat(form.injections()) {
        scene.random_moment().await;
        let struck = scene.links.worker.strike(step, nth, when, Strike::Cut);
        scene.workers[0].signal(Signal::SIGTERM);
        happens(step, struck).await;
        let status = scene.workers[0].ended(PATIENCE).await;
        assert!(status.success(), "ended with {status}; its log:\n{}", scene.workers[0].log());
        scene.start_worker(0);
        scene.recovered().await;
    }
    scene.end(crashes(form, HAND_OVER.len() * form.injections())).await;
}

async fn recorder_killed(form: Form) {
    let mut scene = Scene::begin("recorder killed before and after its commit", form).await;
    for (step, when, most) in RECORDER.repeat(form.injections()) {
        let nth = scene.rng.random_range(1..=most);
        let struck = scene.links.recorder.strike(step, nth, when, Strike::Kill(scene.recorder.pid()));
        happens(step, struck).await;
        scene.recorder.ended(PATIENCE).await;
        scene.start_recorder();
        scene.injected();
        scene.recovered().await;
    }
    scene.end(Allowed::default()).await;
}

async fn recorder_cut(form: Form) {
    let mut scene = Scene::begin("recorder's connection cut before and after its commit", form).await;
    for (step, when, most) in RECORDER.repeat(form.injections()) {
        let nth = scene.rng.random_range(1..=most);
        let struck = scene.links.recorder.strike(step, nth, when, Strike::Cut);
        happens(step, struck).await;
        scene.injected();
        scene.recovered().await;
    }
    scene.end(Allowed::default()).await;
}

/// The first handler takes its time, so that some event is always between two of them when a drain begins: also where each
/// runs alone, since all that is in hand came three times.
fn linger(scene: &Scene) {
    scene.receivers.twist(|handler, _, _| {
        (handler == "steady").then(|| Reply::status(200).after(Duration::from_millis(400)))
    });
}

async fn happens(step: Step, struck: tokio::sync::oneshot::Receiver<()>) {
    let struck = tokio::time::timeout(PATIENCE, struck).await;
    struck.unwrap_or_else(|_| panic!("{step:?} was never seen")).expect("the link lives");
}
