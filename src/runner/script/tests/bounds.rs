//! What a script must not be able to do to a worker.

use std::{
    fs,
    future::Future,
    path::Path,
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};

use super::{Root, stdout};
use crate::{
    domain::outcome::{FailureKind, KEPT_BYTES},
    runner::testing::{Trial, failure, success, until},
};

/// The process ids in the note, after a script has written it.
async fn noted_pids(root: &Root) -> Vec<u32> {
    let read = || fs::read_to_string(root.path("note")).unwrap_or_default();
    until("a line in the note", || read().ends_with('\n')).await;
    read().split_whitespace().map(|pid| pid.parse().expect("a process id")).collect()
}

/// The state letter of a process. None after it is gone and reaped.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// The `/proc/…/stat` lines of the children of this process.
fn children() -> Vec<String> {
    let stats = fs::read_dir("/proc").expect("processes").flatten().filter_map(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent: u32 = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        (parent == std::process::id()).then_some(stat)
    });
    stats.collect()
}

/// Waits until these processes are dead. The leader must also be reaped, because it is our own child. The
/// others may be orphans that another process reaps.
async fn wait_until_dead(pids: &[u32]) {
    let (leader, others) = pids.split_first().expect("the leader");
    until("its leader is reaped", || state(*leader).is_none()).await;
    until("its group is dead", || others.iter().all(|pid| matches!(state(*pid), None | Some('Z')))).await;
}

/// Awaits `run`, which must take much less than the timeout of the attempt.
async fn soon<T>(run: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(5), run).await.expect("it was held up")
}

#[tokio::test]
async fn stdin_may_stay_unread_and_the_directory_may_vanish() {
    let root = Root::new();
    for lines in ["exit 0", "exec <&-; sleep 0.1", "rm -rf \"$PWD\"", "mkdir -p a/b; echo x > a/b/c"] {
        let mut trial = root.trial(lines);
        trial.event.body = vec![b' '; 1 << 20].into();
        success(soon(trial.run(&root.runner)).await);
    }
}

#[tokio::test]
async fn a_chatty_script_is_not_blocked() {
    let root = Root::new();
    let (response, _) = success(soon(root.run("seq 400000; seq 400000 >&2")).await);
    for output in [stdout(&response), response.stderr.as_deref().expect("a stderr")] {
        assert!(output.starts_with("1\n2\n") && output.ends_with("\n399999\n400000\n"));
        assert!(output.contains("bytes left out") && output.len() < KEPT_BYTES + 100);
    }
    assert!(response.truncated);
}

#[tokio::test]
async fn at_the_timeout_the_group_gets_term_then_kill() {
    let root = Root::new();
    for (lines, expected) in [
        ("trap 'echo bye; exit 3' TERM; sleep 1000 & echo $$ $! > $1; wait", (Some(3), None)),
        ("trap '' TERM; sleep 1000 & echo $$ $! > $1; while :; do sleep 1; done", (None, Some(9))),
        ("yes & echo $$ $! > $1; exec yes", (None, Some(15))),
    ] {
        let trial = Trial { timeout: Duration::from_millis(300), ..root.trial(lines) };
        let (failure, response) = failure(soon(trial.run(&root.runner)).await);
        assert_eq!(failure.kind, FailureKind::Transient);
        assert_eq!(failure.error, "did not end within 300ms and was killed");
        let response = response.expect("it ran");
        assert_eq!((response.exit_code, response.signal), expected, "{lines}");
        if response.exit_code == Some(3) {
            assert_eq!(stdout(&response), "bye\n");
        }
        wait_until_dead(&noted_pids(&root).await).await;
        fs::remove_file(root.path("note")).expect("noted");
    }
}

#[tokio::test]
async fn nothing_that_a_script_started_survives_it() {
    let root = Root::new();
    let lines = "(trap '' TERM HUP; sleep 1000) & echo $$ $! > $1; echo done";
    let (response, _) = success(soon(root.run(lines)).await);
    assert_eq!(stdout(&response), "done\n");
    wait_until_dead(&noted_pids(&root).await).await;
}

/// Ways to leave the process group. Each writes its process id to `$1`, and must not survive its call.
const ESCAPES: [&str; 4] = [
    "setsid sh -c 'echo $$ > $0; exec sleep 1000' $1 &",
    "(setsid sh -c 'trap \"\" TERM HUP; echo $$ > $0; sleep 1000' $1 &) & wait",
    // Without the call id in its environment, in a group of its own.
    "(env -i setsid sh -c 'echo $$ > $0; exec sleep 1000' $1 &) &",
    // It keeps forking.
    "(setsid sh -c 'echo $$ > $0; while :; do setsid sleep 1000 & sleep 0.01; done' $1 &) &",
];

#[tokio::test]
async fn an_escaped_process_is_killed_and_delays_nothing() {
    let root = Root::new();
    for escape in ESCAPES {
        let mut trial = root.trial(&format!("{escape}\nuntil [ -s $1 ]; do :; done; echo done"));
        trial.answer_limit = Some(1000);
        let (response, answer) = success(soon(trial.run(&root.runner)).await);
        assert_eq!(stdout(&response), "done\n");
        assert!(!response.truncated && answer.is_some(), "its pipes were closed: {escape}");
        let pids = noted_pids(&root).await;
        until(escape, || pids.iter().all(|pid| state(*pid).is_none())).await;
        fs::remove_file(root.path("note")).expect("noted");
    }
    until("no child is left", || children().is_empty()).await;
}

/// What a script leaves running is killed when its own call ends, and not when another call ends.
#[tokio::test]
async fn the_end_of_one_script_does_not_kill_another() {
    let root = Root::new();
    let long = root.trial("(setsid sh -c 'echo $$ > $0; sleep 0.5; echo fine > $0.end' $1 &) & until [ -s $1.end ]; do sleep 0.01; done; cat $1.end");
    fs::rename(root.path("script"), root.path("long")).expect("renamed");
    let mut long = long;
    long.handler.spec.task = serde_json::from_value(serde_json::json!({
        "type": "script", "path": "long", "args": [root.path("note")],
    }))
    .expect("a task");
    let short = root.trial("exit 0");
    let (outcome, ()) = tokio::join!(long.run(&root.runner), async {
        noted_pids(&root).await;
        for _ in 0..5 {
            success(short.run(&root.runner).await);
        }
    });
    assert_eq!(stdout(&success(outcome).0), "fine\n");
}

#[tokio::test]
async fn a_dropped_attempt_is_killed_and_reaped() {
    let root = Root::new();
    let trial = root.trial("trap '' TERM; sleep 1000 & pwd > $1.dir; touch used; echo $$ $! > $1; wait");
    let pids = tokio::select! {
        _ = trial.run(&root.runner) => panic!("it does not end"),
        pids = noted_pids(&root) => pids,
    };
    wait_until_dead(&pids).await;
    let dir = fs::read_to_string(root.path("note.dir")).expect("noted");
    until("its working directory is removed", || !Path::new(dir.trim()).exists()).await;
}

#[tokio::test]
async fn a_script_that_is_just_being_written_is_waited_for() {
    let root = Root::new();
    let trial = root.trial("exit 0");
    let writer = fs::OpenOptions::new().append(true).open(root.path("script")).expect("open");
    let (outcome, ()) = tokio::join!(trial.run(&root.runner), async {
        sleep(Duration::from_millis(60)).await;
        drop(writer);
    });
    success(outcome);
}

/// Many scripts end at the same time. SIGCHLD is one signal for all of them, and each call must get its own
/// outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_scripts_end_each_for_itself() {
    let root = Root::new();
    let trial = root.trial("read line; exit 0");
    let started = Instant::now();
    for _ in 0..10 {
        let runs = (0..8).map(|_| trial.run(&root.runner));
        for outcome in futures_util::future::join_all(runs).await {
            success(outcome);
        }
    }
    assert!(started.elapsed() < Duration::from_secs(10));
}
