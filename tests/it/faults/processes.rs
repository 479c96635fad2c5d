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
    fault_rig::{FaultRig, Setup},
};
use crate::support::eventually;

both_forms!(worker_killed, recorder_killed, sigterm, rolling_restart, crash_loop);

async fn worker_killed(form: Form) {
    let mut rig = FaultRig::begin("worker killed (SIGKILL) in a handler's call", form).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        // In the midst of a handler's call.
        let before = rig.receivers.endpoint.count();
        rig.receivers.endpoint.wait_for(before + 1).await;
        rig.kill_worker(0).await;
        rig.start_worker(0);
        rig.recovered().await;
    }
    let repeated = form.max_repeated_by_kill(form.injections());
    rig.end(Allowed { repeated, unrecorded: repeated, ..Allowed::default() }).await;
}

async fn recorder_killed(form: Form) {
    let mut rig = FaultRig::begin("recorder killed (SIGKILL)", form).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        rig.recorder.kill().await;
        rig.start_recorder();
        rig.recovered().await;
    }
    rig.end(Allowed::default()).await;
}

/// Whoever is asked to stop repeats nothing.
async fn sigterm(form: Form) {
    let mut rig = FaultRig::begin("SIGTERM to worker and recorder", form).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        let status = rig.recorder.terminate().await;
        assert!(status.success(), "ended with {status}; its log:\n{}", rig.recorder.log());
        rig.start_recorder();
        rig.replace_worker(0).await;
        rig.recovered().await;
    }
    rig.end(Allowed::default()).await;
}

async fn rolling_restart(form: Form) {
    let setup = Setup { workers: 3, ..Setup::default() };
    let mut rig = FaultRig::with("rolling restart of three workers", form, setup).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        for number in 0..3 {
            rig.replace_worker(number).await;
            rig.recovered().await;
        }
    }
    rig.end(Allowed::default()).await;
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
    let mut rig = FaultRig::with(name, form, Setup { settings, ..Setup::default() }).await;
    rig.random_moment().await;
    let crash_loop_event = rig.load.next() + 10;
    let victim = Arc::new(AtomicI32::new(0));
    let killing = Arc::clone(&victim);
    let aim = move |rig: &FaultRig| {
        victim.store(i32::try_from(rig.workers[0].pid()).expect("a pid"), Ordering::SeqCst);
    };
    aim(&rig);
    rig.receivers.override_reply(move |handler, number, _| {
        if (handler, number) == ("steady", crash_loop_event) {
            // It may have been killed already.
            let _ = kill(Pid::from_raw(killing.load(Ordering::SeqCst)), Signal::SIGKILL);
        }
        None
    });
    let (mut crashes, query) = (0, "SELECT count(*) FROM dead_letters WHERE reason = 'crash_loop'");
    while rig.world.count(query).await == 0 {
        eventually("the worker dies or the event is given up", || async {
            rig.workers[0].has_ended() || rig.world.count(query).await > 0
        })
        .await;
        if rig.workers[0].has_ended() {
            crashes += 1;
            if crashes > 1 {
                rig.record_injection();
            }
            assert!(crashes <= limit + 2, "it goes on after {crashes} crashes");
            rig.start_worker(0);
            aim(&rig);
        }
    }
    rig.recovered().await;
    let (repeated, crash_loop_event) = (form.max_repeated_by_kill(crashes), Some(crash_loop_event));
    rig.end(Allowed { repeated, unrecorded: repeated, crash_loop_event, ..Allowed::default() }).await;
}
