//! Processes that die, stop and are replaced.

use std::sync::{
    Arc,
    atomic::{AtomicI32, Ordering},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    Form, both_forms,
    checker::Allowed,
    scene::{Scene, Setup},
};
use crate::support::eventually;

both_forms!(worker_killed, recorder_killed, sigterm, rolling_restart, crash_loop);

async fn worker_killed(form: Form) {
    let mut scene = Scene::begin("worker killed (SIGKILL) in a handler's call", form).await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        // In the midst of a handler's call.
        let before = scene.receivers.endpoint.count();
        scene.receivers.endpoint.wait_for(before + 1).await;
        scene.kill_worker(0).await;
        scene.start_worker(0);
        scene.recovered().await;
    }
    let repeated = form.killed(form.injections());
    scene.end(Allowed { repeated, unrecorded: repeated, ..Allowed::default() }).await;
}

async fn recorder_killed(form: Form) {
    let mut scene = Scene::begin("recorder killed (SIGKILL)", form).await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        scene.recorder.kill().await;
        scene.start_recorder();
        scene.recovered().await;
    }
    scene.end(Allowed::default()).await;
}

/// Whoever is asked to stop repeats nothing.
async fn sigterm(form: Form) {
    let mut scene = Scene::begin("SIGTERM to worker and recorder", form).await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        let status = scene.recorder.terminate().await;
        assert!(status.success(), "ended with {status}; its log:\n{}", scene.recorder.log());
        scene.start_recorder();
        scene.replace_worker(0).await;
        scene.recovered().await;
    }
    scene.end(Allowed::default()).await;
}

async fn rolling_restart(form: Form) {
    let setup = Setup { workers: 3, ..Setup::default() };
    let mut scene = Scene::with("rolling restart of three workers", form, setup).await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        for number in 0..3 {
            scene.replace_worker(number).await;
            scene.recovered().await;
        }
    }
    scene.end(Allowed::default()).await;
}

/// An event whose handler ends the worker that calls it, as often as it is called.
async fn crash_loop(form: Form) {
    let name = "an event that kills its worker";
    // Three among its neighbours, and 10 alone by default. From the fourth on the neighbours have their turns before it or
    // after it by chance: of few neighbours all have passed after fewer crashes.
    let (limit, settings): (usize, &[_]) = if form.is_long {
        (13, &[("worker.concurrency", "100")])
    } else {
        (8, &[("worker.crash_limit", "5"), ("worker.concurrency", "2")])
    };
    let mut scene = Scene::with(name, form, Setup { settings, ..Setup::default() }).await;
    scene.random_moment().await;
    let doomed = scene.load.next() + 10;
    let victim = Arc::new(AtomicI32::new(0));
    let killing = Arc::clone(&victim);
    let aim = move |scene: &Scene| {
        victim.store(i32::try_from(scene.workers[0].pid()).expect("a pid"), Ordering::SeqCst);
    };
    aim(&scene);
    scene.receivers.twist(move |handler, number, _| {
        if (handler, number) == ("steady", doomed) {
            // It may have been killed already.
            let _ = kill(Pid::from_raw(killing.load(Ordering::SeqCst)), Signal::SIGKILL);
        }
        None
    });
    let (mut crashes, query) = (0, "SELECT count(*) FROM dead_letters WHERE reason = 'crash_loop'");
    while scene.world.count(query).await == 0 {
        eventually("the worker dies or the event is given up", || async {
            scene.workers[0].has_ended() || scene.world.count(query).await > 0
        })
        .await;
        if scene.workers[0].has_ended() {
            crashes += 1;
            if crashes > 1 {
                scene.injected();
            }
            assert!(crashes <= limit + 2, "it goes on after {crashes} crashes");
            scene.start_worker(0);
            aim(&scene);
        }
    }
    scene.recovered().await;
    let (repeated, doomed) = (form.killed(crashes), Some(doomed));
    scene.end(Allowed { repeated, unrecorded: repeated, doomed, ..Allowed::default() }).await;
}
