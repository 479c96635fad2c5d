//! Connections to the broker that are lost, stand still, creep or carry noise.

use std::time::Duration;

use super::{
    Form, both_forms,
    checker::Allowed,
    scene::{CUT, HEARTBEAT, Scene, Setup},
};
use crate::support::{Garble, Mode, Way, eventually};

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
const UNANSWERED: Duration = HEARTBEAT.saturating_mul(4).saturating_add(Duration::from_secs(5));
const LOST: &str = "connection to the broker lost";
/// Within which a link that stands still is noticed, and another one made.
const FROZEN: Duration = HEARTBEAT.saturating_mul(2).saturating_add(Duration::from_secs(5));

/// Allowed where a worker lost its connections so many times.
fn lost_connections(times: usize) -> Allowed {
    Allowed { repeated: CUT * times, ..Allowed::default() }
}

async fn consumer_cut(form: Form) {
    let mut scene = Scene::begin("consumer connection cut", form).await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        assert_eq!(scene.links.worker.cut("worker: consume"), 1, "there is one such connection");
        scene.recovered().await;
    }
    scene.end(lost_connections(form.injections())).await;
}

async fn all_cut(form: Form) {
    let mut scene = Scene::begin("every connection to the broker cut", form).await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        // One consumes, one publishes, and one answers those who ask.
        assert_eq!(scene.links.worker.cut(""), 3);
        // The third looks at queues now and then.
        assert!((2..=3).contains(&scene.links.recorder.cut("")));
        scene.recovered().await;
    }
    scene.end(lost_connections(form.injections())).await;
}

/// Frozen for longer than the heartbeat, and then well again.
async fn worker_frozen(form: Form) {
    let mut scene = Scene::begin("worker's connections frozen", form).await;
    scene.patience = FROZEN;
    for injection in 1..=form.injections() {
        scene.random_moment().await;
        scene.links.worker.set(Mode::Frozen);
        // Both of its connections.
        scene.says(&scene.workers[0], LOST, 2 * injection).await;
        tokio::time::sleep(form.away()).await;
        scene.links.worker.set(Mode::Open);
        scene.recovered().await;
    }
    scene.end(lost_connections(form.injections())).await;
}

/// Frozen for ever; only new connections are well.
async fn worker_stranded(form: Form) {
    let mut scene = Scene::begin("worker's connections half-open", form).await;
    scene.patience = FROZEN;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        scene.links.worker.strand();
        scene.recovered().await;
    }
    scene.end(lost_connections(form.injections())).await;
}

async fn recorder_frozen(form: Form) {
    let mut scene = Scene::begin("recorder's connections half-open", form).await;
    scene.patience = FROZEN;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        scene.links.recorder.strand();
        scene.recovered().await;
    }
    scene.end(Allowed::default()).await;
}

async fn slowed(form: Form) {
    let mut scene = Scene::begin("connections slowed to 10 KB/s", form).await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        scene.links.worker.set(Mode::Slow(10_000));
        scene.links.recorder.set(Mode::Slow(10_000));
        tokio::time::sleep(form.away()).await;
        scene.links.worker.set(Mode::Open);
        scene.links.recorder.set(Mode::Open);
        scene.recovered().await;
    }
    // A link that is slow is not lost; but a heartbeat may be late behind what waits.
    scene.end(lost_connections(form.injections())).await;
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
    let mut scene = Scene::begin(name, form).await;
    scene.patience = UNANSWERED;
    for _ in 0..form.injections() {
        for way in [Way::There, Way::Back] {
            scene.random_moment().await;
            scene.links.worker.garble(way, how);
            scene.recovered().await;
            scene.random_moment().await;
            scene.links.recorder.garble(way, how);
            scene.recovered().await;
        }
    }
    scene.end(lost_connections(2 * form.injections())).await;
}

/// A broker that accepts connections and never says a word, 100 times.
async fn never_answers(form: Form) {
    // Many nodes that are the same: they are dialled one after the other, without a pause.
    let mut scene = Scene::with(
        "broker accepts and never answers, 100 times",
        form,
        Setup { urls: 25, settings: &[("amqp.connect_timeout", "100ms")], ..Setup::default() },
    )
    .await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        scene.links.worker.set(Mode::Frozen);
        scene.links.worker.cut("");
        let before = scene.links.worker.accepted();
        eventually("100 dials", || async { scene.links.worker.accepted() >= before + 100 }).await;
        let grown = scene.has_not_grown().await;
        assert!(grown.is_empty(), "{grown:?}");
        scene.links.worker.set(Mode::Open);
        scene.recovered().await;
    }
    scene.end(lost_connections(form.injections())).await;
}
