//! Processes that die, stop and are replaced.

use super::{
    Form, both_forms,
    checker::Allowed,
    scene::{Scene, Setup, UNDER_WAY},
};

both_forms!(worker_killed, recorder_killed);

async fn worker_killed(form: Form) {
    let mut scene = Scene::begin("worker killed (SIGKILL)", form).await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        scene.kill_worker(0).await;
        scene.start_worker(0);
        scene.recovered().await;
    }
    let repeated = UNDER_WAY * form.injections();
    scene.end(Allowed { repeated, unrecorded: repeated, ..Allowed::default() }).await;
}

async fn recorder_killed(form: Form) {
    let mut scene = Scene::with("recorder killed (SIGKILL)", form, Setup::default()).await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        scene.recorder.kill().await;
        scene.start_recorder();
        scene.recovered().await;
    }
    scene.end(Allowed::default()).await;
}
