//! Connections to the broker that are lost, stand still, creep or carry noise.

use std::time::Duration;

use super::{
    Form, both_forms,
    checker::Allowed,
    fault_rig::{FaultRig, HEARTBEAT, MAX_REPEATED_BY_CUT, Setup},
};
use crate::support::{Direction, Garble, Mode, eventually};

both_forms!(
    consumer_cut,
    all_cut,
    worker_frozen,
    worker_stranded,
    recorder_frozen,
    slowed,
    garbled,
    lengthened,
    never_answers
);

/// Within which a link is noticed on which nothing is answered although it can be heard, and another one made.
const UNANSWERED_MAX_RECOVERY: Duration = HEARTBEAT.saturating_mul(4).saturating_add(Duration::from_secs(5));
const CONNECTION_LOST: &str = "connection to the broker lost";
/// Within which a link that stands still is noticed, and another one made.
const FROZEN_MAX_RECOVERY: Duration = HEARTBEAT.saturating_mul(2).saturating_add(Duration::from_secs(5));

/// Allowed where a worker lost its connections so many times.
fn lost_connections(times: usize) -> Allowed {
    Allowed { repeated: MAX_REPEATED_BY_CUT * times, ..Allowed::default() }
}

async fn consumer_cut(form: Form) {
    let mut rig = FaultRig::begin("consumer connection cut", form).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        assert_eq!(rig.links.worker.cut("worker: consume"), 1, "there is one such connection");
        rig.recovered().await;
    }
    rig.end(lost_connections(form.injections())).await;
}

async fn all_cut(form: Form) {
    let mut rig = FaultRig::begin("every connection to the broker cut", form).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        // One consumes, one publishes, and one answers those who ask.
        assert_eq!(rig.links.worker.cut(""), 3);
        // The third looks at queues now and then.
        assert!((2..=3).contains(&rig.links.recorder.cut("")));
        rig.recovered().await;
    }
    rig.end(lost_connections(form.injections())).await;
}

/// Frozen for longer than the heartbeat, and then well again.
async fn worker_frozen(form: Form) {
    let mut rig = FaultRig::begin("worker's connections frozen", form).await;
    rig.max_recovery = FROZEN_MAX_RECOVERY;
    for injection in 1..=form.injections() {
        rig.random_moment().await;
        rig.links.worker.set(Mode::Frozen);
        // Both of its connections.
        rig.wait_for_log(&rig.workers[0], CONNECTION_LOST, 2 * injection).await;
        tokio::time::sleep(form.outage()).await;
        rig.links.worker.set(Mode::Open);
        rig.recovered().await;
    }
    rig.end(lost_connections(form.injections())).await;
}

/// Frozen for ever; only new connections are well.
async fn worker_stranded(form: Form) {
    let mut rig = FaultRig::begin("worker's connections half-open", form).await;
    rig.max_recovery = FROZEN_MAX_RECOVERY;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        rig.links.worker.strand();
        rig.recovered().await;
    }
    rig.end(lost_connections(form.injections())).await;
}

async fn recorder_frozen(form: Form) {
    let mut rig = FaultRig::begin("recorder's connections half-open", form).await;
    rig.max_recovery = FROZEN_MAX_RECOVERY;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        rig.links.recorder.strand();
        rig.recovered().await;
    }
    rig.end(Allowed::default()).await;
}

async fn slowed(form: Form) {
    let mut rig = FaultRig::begin("connections slowed to 10 KB/s", form).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        rig.links.worker.set(Mode::Slow(10_000));
        rig.links.recorder.set(Mode::Slow(10_000));
        tokio::time::sleep(form.outage()).await;
        rig.links.worker.set(Mode::Open);
        rig.links.recorder.set(Mode::Open);
        rig.recovered().await;
    }
    // A link that is slow is not lost; but a heartbeat may be late behind what waits.
    rig.end(lost_connections(form.injections())).await;
}

/// A frame or message that arrives as noise, each way, at the worker and at the recorder.
async fn garbled(form: Form) {
    garble("connections garbled", form, Garble::Noise).await;
}

/// A frame that never ends: what follows it, heartbeats too, is heard and counts as a part of it.
async fn lengthened(form: Form) {
    garble("a frame that never ends", form, Garble::Length).await;
}

async fn garble(name: &'static str, form: Form, how: Garble) {
    let mut rig = FaultRig::begin(name, form).await;
    rig.max_recovery = UNANSWERED_MAX_RECOVERY;
    for _ in 0..form.injections() {
        for direction in [Direction::ToService, Direction::ToProcess] {
            rig.random_moment().await;
            rig.links.worker.garble(direction, how);
            rig.recovered().await;
            rig.random_moment().await;
            rig.links.recorder.garble(direction, how);
            rig.recovered().await;
        }
    }
    rig.end(lost_connections(2 * form.injections())).await;
}

/// A broker that accepts connections and never says a word, 100 times.
async fn never_answers(form: Form) {
    // Many nodes that are the same: they are dialled one after the other, without a pause.
    let mut rig = FaultRig::with(
        "broker accepts and never answers, 100 times",
        form,
        Setup { urls: 25, settings: &[("amqp.connect_timeout", "100ms")], ..Setup::default() },
    )
    .await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        rig.links.worker.set(Mode::Frozen);
        rig.links.worker.cut("");
        let before = rig.links.worker.accepted();
        eventually("100 dials", || async { rig.links.worker.accepted() >= before + 100 }).await;
        let grown = rig.has_not_grown().await;
        assert!(grown.is_empty(), "{grown:?}");
        rig.links.worker.set(Mode::Open);
        rig.recovered().await;
    }
    rig.end(lost_connections(form.injections())).await;
}
