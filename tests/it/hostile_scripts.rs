//! Scripts that mean no good. Whatever they do, their attempt ends as designed and in time, others are not held up, and
//! of them nothing is left: no process, no zombie, no file, no descriptor.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Endpoint, Process, World, eventually};

/// What the worker may grow by while a script does its worst.
const MEMORY_KIB: u64 = 24 * 1024;

/// A worker with handlers that mean well, beside which hostile ones are tried.
struct Fixture {
    world: World,
    worker: Process,
    /// Of a handler on the same event, after the hostile one, and of one on another event.
    neighbours: [Endpoint; 2],
    /// Where scripts have their working directories.
    scratch: PathBuf,
    descriptors: usize,
    memory_kib: u64,
    events: u64,
    /// The hostile handler's id.
    hostile: String,
}

impl Fixture {
    /// With a hostile handler, limited to 3 s, and those of `clients.delete` that are given, by name and flags.
    async fn new(more: &[(&str, &[&str])]) -> Self {
        Self::limited("3s", more).await
    }

    /// With another limit.
    async fn limited(timeout: &str, more: &[(&str, &[&str])]) -> Self {
        let mut world = World::new().await;
        let scratch = world.dir.path().join("scratch");
        fs::create_dir(&scratch).unwrap();
        world.set_variable("TMPDIR", scratch.to_str().unwrap());
        world.set("script.kill_grace", "300ms");
        world.set("script.concurrency", "4");
        let neighbours = [Endpoint::ok().await, Endpoint::ok().await];
        for (event, endpoint) in ["clients.create", "clients.update"].into_iter().zip(&neighbours) {
            world.handler("neighbour", event, &["--http", &endpoint.url("/"), "--priority", "200"]);
        }
        world.script("good.sh", "#!/bin/sh\ncat > copy; sleep 0.01 & wait\n");
        world.handler("good", "clients.update", &["--script", "good.sh"]);
        world.script("hostile.sh", "#!/bin/sh\n");
        let note = world.dir.path().join("note");
        let task = ["--script", "hostile.sh", "--arg", note.to_str().unwrap()];
        let flags = [&task[..], &["--max-attempts", "1", "--timeout", timeout]].concat();
        let hostile = world.handler("hostile", "clients.create", &flags).to_string();
        for (name, flags) in more {
            world.handler(name, "clients.delete", flags);
        }
        let recorder = world.recorder().await;
        world.keep(recorder);
        let worker = world.worker().await;
        let mut fixture =
            Self { world, worker, neighbours, scratch, descriptors: 0, memory_kib: 0, events: 0, hostile };
        for event in ["clients.create", "clients.update"] {
            fixture.publish(event).await;
        }
        fixture.world.wait_for_executions(4, &["--status", "success"]).await;
        fixture.assert_nothing_left().await;
        fixture.descriptors = fixture.open_descriptors();
        fixture.memory_kib = fixture.worker.anonymous_kib();
        fixture
    }

    /// An event; gives its id.
    async fn publish(&mut self, event: &str) -> String {
        self.events += 1;
        let id = format!("e{}", self.events);
        self.world.publish(event, Some(&id), self.events, &json!({"id": self.events})).await;
        id
    }

    /// Runs a hostile script once, with others beside it, and gives what is recorded of it.
    async fn run_hostile(&mut self, lines: &str) -> Value {
        self.world.script("hostile.sh", &format!("#!/bin/sh\n{lines}\n"));
        let before = [self.neighbours[0].count(), self.neighbours[1].count()];
        let begun = Instant::now();
        let event = self.publish("clients.create").await;
        let mut max_kib = 0;
        for n in 1..=5 {
            let published_at = Instant::now();
            self.publish("clients.update").await;
            self.neighbours[1].wait_for(before[1] + n).await;
            assert!(published_at.elapsed() < Duration::from_secs(5), "another event is held up: {lines}");
            max_kib = max_kib.max(self.worker.anonymous_kib());
        }
        let args = ["--handler", &self.hostile, "--event-id", &event];
        let ended = self.world.wait_for_executions(1, &args).await.remove(0);
        max_kib = max_kib.max(self.worker.anonymous_kib());
        self.neighbours[0].wait_for(before[0] + 1).await;
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?} for {lines}", begun.elapsed());
        assert!(max_kib < self.memory_kib + MEMORY_KIB, "{} → {max_kib} KiB for {lines}", self.memory_kib);
        println!(
            "{:>6} ms, {} → {max_kib} KiB: {}",
            ended["duration_ms"],
            self.memory_kib,
            lines.escape_debug()
        );
        self.assert_nothing_left().await;
        eventually("no descriptor is left", || async { self.open_descriptors() <= self.descriptors }).await;
        fs::remove_file(self.world.dir.path().join("note")).ok();
        self.world.json(&["executions", "show", ended["id"].as_str().unwrap()])
    }

    async fn assert_nothing_left(&self) {
        let (worker, root) = (self.worker.pid(), self.world.dir.path().to_str().unwrap().to_owned());
        eventually("no process is left", || async { processes(worker, &root).is_empty() }).await;
        // Directories that were left as they were are kept for the next scripts.
        let is_empty = |dir: &Path| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
        eventually("no file is left", || async { self.scratched().iter().all(|path| is_empty(path)) }).await;
    }

    fn scratched(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.scratch).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn open_descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.worker.pid())).unwrap().count()
    }

    async fn end(mut self) {
        assert!(self.worker.terminate().await.success());
        let remaining = self.scratched();
        assert!(remaining.is_empty(), "left behind at the end: {remaining:?}");
        self.world.end().await;
    }
}

/// Children of the worker, zombies too, and whatever contains `marker` in its command line.
fn processes(worker: u32, marker: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let ours = all.filter(|dir| {
        let read = |file: &str| fs::read(dir.join(file)).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        parent == Some(worker) || String::from_utf8_lossy(&read("cmdline")).contains(marker)
    });
    ours.map(|dir| fs::read_to_string(dir.join("stat")).unwrap_or_default())
        .filter(|s| !s.is_empty())
        .collect()
}

fn assert_failed_with(execution: &Value, with: &str) {
    assert_eq!(execution["status"], "fail", "{execution:#}");
    let error = execution["error"].as_str().unwrap();
    assert!(error.contains(with), "{error:?} should say {with:?}");
}

#[blocking_test]
async fn processes_that_escape_their_script_are_killed() {
    let mut fixture = Fixture::new(&[]).await;
    // Each has fled before its script ends well.
    for escape in [
        "(sh -c 'echo $$ > $0; sleep 1000' $1 &) &",
        "setsid sh -c 'echo $$ > $0; exec sleep 1000' $1 &",
        "(setsid sh -c 'trap \"\" TERM HUP INT; echo $$ > $0; sleep 1000; sleep 1000' $1 &) & wait",
        "(env -i setsid sh -c 'cd /; echo $$ > $0; exec sleep 1000' $1 < /dev/null > /dev/null 2>&1 &) &",
        "(setsid sh -c 'echo $$ > $0; while :; do setsid sleep 1000 & sleep 0.01; done' $1 &) &",
        // It fills its directory while it is being removed.
        "(setsid sh -c 'echo $$ > $0; n=0; while :; do n=$((n+1)); mkdir -p d$n; echo x > d$n/f; done' $1 &) &",
    ] {
        let ended = fixture.run_hostile(&format!("{escape}\nuntil [ -s $1 ]; do :; done; echo done")).await;
        assert_eq!((&ended["status"], &ended["response"]["stdout"]), (&json!("success"), &json!("done\n")));
    }
    fixture.end().await;
}

#[blocking_test]
async fn scripts_that_do_not_end_are_killed() {
    let mut fixture = Fixture::new(&[]).await;
    let bomb = "n=${2:-0}; if [ $n -lt 6 ]; then $0 x $((n+1)) & setsid $0 x $((n+1)) & fi; trap '' TERM; sleep 1000; sleep 1000";
    for lines in
        ["trap '' TERM HUP INT; while :; do sleep 1000; done", "exec <&- >&- 2>&-; exec sleep 1000", bomb]
    {
        let ended = fixture.run_hostile(lines).await;
        assert_failed_with(&ended, "did not end within 3s and was killed");
        let duration = ended["duration_ms"].as_u64().unwrap();
        assert!(duration < 6000, "{duration} ms: {lines}");
    }
    // 127 processes that are done at once; those that fled are more than the limit of what runs at a time.
    let ended = fixture
        .run_hostile("n=${2:-0}; [ $n -ge 6 ] || { $0 x $((n+1)) & setsid $0 x $((n+1)) & }; exit 0")
        .await;
    assert_eq!(ended["status"], "success");
    fixture.end().await;
}

#[blocking_test]
async fn endless_output_fills_nothing() {
    let mut fixture = Fixture::new(&[]).await;
    let ended = fixture.run_hostile("exec cat /dev/zero").await;
    assert_failed_with(&ended, "did not end within 3s");
    assert_eq!(ended["response"]["truncated"], true);
    let kept = ended["response"]["stdout"].as_str().unwrap();
    assert!(kept.chars().count() < 65_600 && kept.contains("bytes left out"), "{}", kept.len());
    let ended = fixture.run_hostile("exec <&-; echo fine").await;
    assert_eq!((&ended["status"], &ended["response"]["stdout"]), (&json!("success"), &json!("fine\n")));
    fixture.end().await;
}

#[blocking_test]
async fn much_output_and_a_full_directory_leave_nothing() {
    // How long that much takes is the machine's affair.
    let mut fixture = Fixture::limited("20s", &[]).await;
    let lines = "echo begin; seq 2000000; seq 2000000 >&2; echo end";
    let ended = fixture.run_hostile(lines).await;
    let stdout = ended["response"]["stdout"].as_str().unwrap();
    assert!(stdout.starts_with("begin\n1\n") && stdout.ends_with("2000000\nend\n"));
    // 64 MiB, two thousand files, and directories that nobody may look into.
    let lines =
        "head -c 67108864 /dev/zero > big; mkdir -p a/b/c; seq 2000 | (cd a/b; xargs touch); chmod 0 a/b a .";
    let ended = fixture.run_hostile(lines).await;
    assert_eq!(ended["status"], "success", "{ended:#}");
    let ended = fixture.run_hostile("rm -rf \"$PWD\"; ln -s / \"$PWD\"").await;
    assert_eq!(ended["status"], "success", "{ended:#}");
    assert!(fs::metadata("/etc").is_ok(), "a link is removed, not what it leads to");
    fixture.end().await;
}

#[blocking_test]
async fn files_that_must_not_run_are_refused() {
    let refusals = [
        ("leaves.sh", "lies outside of script.roots"),
        ("open.sh", "is writable by others"),
        ("plain.sh", "is not executable"),
        ("shared/own.sh", "could be replaced by anybody"),
        ("shared", "is not a regular file"),
    ];
    let flags = refusals.map(|(script, _)| ["--script", script]);
    let handlers: Vec<_> = flags.iter().map(|flags| (flags[1], &flags[..])).collect();
    let mut fixture = Fixture::new(&handlers).await;
    let root = fixture.world.dir.path().to_owned();
    let outside = tempfile::tempdir().unwrap();
    let evil = outside.path().join("evil.sh");
    let note = outside.path().join("note");
    fs::write(&evil, format!("#!/bin/sh\necho ran >> {}\n", note.display())).unwrap();
    fs::set_permissions(&evil, PermissionsExt::from_mode(0o755)).unwrap();
    symlink(&evil, root.join("leaves.sh")).unwrap();
    for (name, mode) in [("open.sh", 0o777), ("plain.sh", 0o644)] {
        fixture.world.script(name, "#!/bin/sh\n");
        fs::set_permissions(root.join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    fs::create_dir(root.join("shared")).unwrap();
    fixture.world.script("shared/own.sh", "#!/bin/sh\n");
    fs::set_permissions(root.join("shared"), PermissionsExt::from_mode(0o777)).unwrap();
    let create = ["handlers", "create", "--name", "x", "--event", "clients.archive", "--script", "leaves.sh"];
    let created = fixture.world.run(&create);
    assert!(created.assert_done().stderr().contains("warning: the script cannot run with the configuration"));
    let check = fixture.world.run(&["check"]);
    assert_eq!(check.output.status.code(), Some(1));
    fixture.publish("clients.delete").await;
    let dead_letters = fixture.world.wait_for_dead_letters(refusals.len()).await;
    for (script, why) in refusals {
        assert!(check.stdout().contains(why), "{}", check.stdout());
        let dead_letter =
            dead_letters.iter().find(|dead_letter| dead_letter["handler_name"] == script).unwrap();
        assert!(dead_letter["error"].as_str().unwrap().contains(why), "{dead_letter:#}");
        assert_eq!(dead_letter["reason"], "permanent");
    }
    fixture.end().await;
    assert!(!note.exists());
}

/// A link that leads now to a script within the roots, now to one outside: what was looked at is what runs.
#[blocking_test]
async fn a_script_that_changes_between_check_and_start_is_not_run() {
    const EVENTS: usize = 150;
    let flags = ["--script", "flips.sh", "--max-attempts", "1"];
    let mut fixture = Fixture::new(&[("flips", &flags)]).await;
    let root = fixture.world.dir.path().to_owned();
    let outside = tempfile::tempdir().unwrap();
    let (evil, note) = (outside.path().join("evil.sh"), outside.path().join("note"));
    fs::write(&evil, format!("#!/bin/sh\necho ran >> {}\n", note.display())).unwrap();
    fs::set_permissions(&evil, PermissionsExt::from_mode(0o755)).unwrap();
    let targets = [fixture.world.script("fine.sh", "#!/bin/sh\ncat > /dev/null\n"), evil];
    let stop = Arc::new(AtomicBool::new(false));
    let flipping = std::thread::spawn({
        let (stop, root) = (Arc::clone(&stop), root.clone());
        move || {
            let mut flips = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                for target in &targets {
                    symlink(target, root.join("next")).unwrap();
                    fs::rename(root.join("next"), root.join("flips.sh")).unwrap();
                    flips += 1;
                    // Else few of them, or none, are there for as long as it takes to look and to start. It is the one
                    // and the other by turns.
                    if flips.is_multiple_of(33) {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
            }
            flips
        }
    });
    for _ in 0..EVENTS {
        fixture.publish("clients.delete").await;
    }
    let ended = fixture.world.wait_for_executions(EVENTS, &["--event", "clients.delete"]).await;
    stop.store(true, Ordering::Relaxed);
    let flips = flipping.join().unwrap();
    let (fine, refused): (Vec<_>, Vec<_>) = ended.iter().partition(|e| e["status"] == "success");
    println!("{flips} flips, {} ran, {} were refused", fine.len(), refused.len());
    assert!(!fine.is_empty() && !refused.is_empty());
    for execution in refused {
        assert_failed_with(execution, "lies outside of script.roots");
    }
    assert!(!note.exists(), "what lies outside was run");
    fixture.assert_nothing_left().await;
    fixture.end().await;
}

#[blocking_test]
async fn a_script_that_is_deleted_while_it_waits_is_tried_again() {
    let flags = ["--script", "waits.sh", "--max-concurrency", "1", "--initial-interval", "1s"];
    let mut fixture = Fixture::new(&[("waits", &flags)]).await;
    let go = fixture.world.dir.path().join("go");
    let lines = format!("#!/bin/sh\nuntil [ -e {} ]; do sleep 0.05; done\n", go.display());
    let script = fixture.world.script("waits.sh", &lines);
    for _ in 0..2 {
        fixture.publish("clients.delete").await;
    }
    let path = script.to_str().unwrap().to_owned();
    eventually("the first runs", || async { !processes(u32::MAX, &path).is_empty() }).await;
    fs::remove_file(&script).unwrap();
    fs::write(&go, "").unwrap();
    let failures = fixture.world.wait_for_executions(1, &["--status", "fail"]).await;
    assert_failed_with(&failures[0], "the script could not be started");
    assert_eq!(failures[0]["disposition"], "retrying");
    fixture.world.script("waits.sh", &lines);
    fixture.world.wait_for_executions(2, &["--status", "success", "--event", "clients.delete"]).await;
    fixture.assert_nothing_left().await;
    fixture.end().await;
}
