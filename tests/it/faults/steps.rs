//! Crashes between any two steps of a delivery's way (section 6 of the design): the link sees the step, and the process
//! is killed, or its connection cut, before the other side has seen it or right after.

use std::time::Duration;

use nix::sys::signal::Signal;
use rand::RngExt;

use super::{
    Form, both_forms,
    checker::Allowed,
    fault_rig::{FaultRig, MAX_REPEATED_BY_CUT},
};
use crate::support::{
    Kind::{Copy, DeadLetter, DeadLettered, HandOver, Result, Retrying},
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
    (Publish(DeadLetter), Before, RARE),
    (Confirm(DeadLetter), Before, RARE),
    (Publish(DeadLettered), Before, RARE),
    (Confirm(DeadLettered), Before, RARE),
];

/// Of the recorder: before the rows are committed, after it, and when the broker knows.
const RECORDER: [Moment; 3] = [(Deliver, After, OFTEN), (Ack, Before, 5), (Ack, After, 5)];

/// What a drain publishes.
const HAND_OVER: [Moment; 2] = [(Publish(HandOver), Before, 1), (Confirm(HandOver), Before, 1)];

const STEP_TIMEOUT: Duration = Duration::from_mins(1);

/// What may be repeated when a worker lost everything so many times.
fn crashes(form: Form, times: usize) -> Allowed {
    let repeated = form.max_repeated_by_kill(times);
    Allowed { repeated, unrecorded: repeated, ..Allowed::default() }
}

async fn worker_killed(form: Form) {
    let mut rig = FaultRig::begin("worker killed between two steps", form).await;
    for (step, when, most) in WORKER.repeat(form.injections()) {
        let nth = rig.rng.random_range(1..=most);
        let strike = Strike::Kill(rig.workers[0].pid());
        let fired = rig.links.worker.strike(step, nth, when, strike);
        wait_for_step(step, fired).await;
        rig.workers[0].ended(STEP_TIMEOUT).await;
        rig.start_worker(0);
        rig.record_injection();
        rig.recovered().await;
    }
    rig.end(crashes(form, WORKER.len() * form.injections())).await;
}

async fn worker_cut(form: Form) {
    let mut rig = FaultRig::begin("worker's connection cut between two steps", form).await;
    for (step, when, most) in WORKER.repeat(form.injections()) {
        let nth = rig.rng.random_range(1..=most);
        let fired = rig.links.worker.strike(step, nth, when, Strike::Cut);
        wait_for_step(step, fired).await;
        rig.record_injection();
        rig.recovered().await;
    }
    let repeated = MAX_REPEATED_BY_CUT * WORKER.len() * form.injections();
    rig.end(Allowed { repeated, ..Allowed::default() }).await;
}

async fn killed_at_a_hand_over(form: Form) {
    let mut rig = FaultRig::begin("worker killed while it hands over at a drain", form).await;
    slow_first_handler(&rig);
    for (step, when, nth) in HAND_OVER.repeat(form.injections()) {
        rig.random_moment().await;
        let strike = Strike::Kill(rig.workers[0].pid());
        let fired = rig.links.worker.strike(step, nth, when, strike);
        rig.workers[0].signal(Signal::SIGTERM);
        wait_for_step(step, fired).await;
        rig.workers[0].ended(STEP_TIMEOUT).await;
        rig.start_worker(0);
        rig.recovered().await;
    }
    rig.end(crashes(form, HAND_OVER.len() * form.injections())).await;
}

async fn cut_at_a_hand_over(form: Form) {
    let mut rig = FaultRig::begin("connection cut while a drain hands over", form).await;
    slow_first_handler(&rig);
    for (step, when, nth) in HAND_OVER.repeat(form.injections()) {
        rig.random_moment().await;
        let fired = rig.links.worker.strike(step, nth, when, Strike::Cut);
        rig.workers[0].signal(Signal::SIGTERM);
        wait_for_step(step, fired).await;
        let status = rig.workers[0].ended(STEP_TIMEOUT).await;
        assert!(status.success(), "ended with {status}; its log:\n{}", rig.workers[0].log());
        rig.start_worker(0);
        rig.recovered().await;
    }
    rig.end(crashes(form, HAND_OVER.len() * form.injections())).await;
}

async fn recorder_killed(form: Form) {
    let mut rig = FaultRig::begin("recorder killed before and after its commit", form).await;
    for (step, when, most) in RECORDER.repeat(form.injections()) {
        let nth = rig.rng.random_range(1..=most);
        let fired = rig.links.recorder.strike(step, nth, when, Strike::Kill(rig.recorder.pid()));
        wait_for_step(step, fired).await;
        rig.recorder.ended(STEP_TIMEOUT).await;
        rig.start_recorder();
        rig.record_injection();
        rig.recovered().await;
    }
    rig.end(Allowed::default()).await;
}

async fn recorder_cut(form: Form) {
    let mut rig = FaultRig::begin("recorder's connection cut before and after its commit", form).await;
    for (step, when, most) in RECORDER.repeat(form.injections()) {
        let nth = rig.rng.random_range(1..=most);
        let fired = rig.links.recorder.strike(step, nth, when, Strike::Cut);
        wait_for_step(step, fired).await;
        rig.record_injection();
        rig.recovered().await;
    }
    rig.end(Allowed::default()).await;
}

/// The first handler takes its time, so that some event is always between two of them when a drain begins: also where each
/// runs alone, since all that is in hand came three times.
fn slow_first_handler(rig: &FaultRig) {
    rig.receivers.override_reply(|handler, _, _| {
        (handler == "steady").then(|| Reply::status(200).after(Duration::from_millis(400)))
    });
}

async fn wait_for_step(step: Step, fired: tokio::sync::oneshot::Receiver<()>) {
    let fired = tokio::time::timeout(STEP_TIMEOUT, fired).await;
    fired.unwrap_or_else(|_| panic!("{step:?} was never seen")).expect("the link lives");
}
