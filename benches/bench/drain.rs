//! Drains a queue that was filled before, and measures how fast, and which part uses how much CPU time.

use std::time::Duration;

use crate::{
    Bench,
    contender::Contender,
    cpu::{self, Used},
    load,
    support::{Process, World},
    target::{Calls, now},
    work::{SCRIPTS_AT_A_TIME, Work},
};

#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// Attempts per second.
    pub per_second: f64,
    /// CPU time for 10,000 attempts.
    pub used: Used,
    /// The most memory that one worker used, in MiB.
    pub memory: f64,
    /// Seconds from the last call until its result was there: in the table with a recorder, else in the
    /// queue.
    pub recorded_after: f64,
}

struct Running<'a> {
    bench: &'a Bench,
    contender: Contender,
    world: &'a World,
    work: &'a Work,
    workers: Vec<Process>,
    recorder: Option<Process>,
}

impl Running<'_> {
    fn used(&self) -> Used {
        self.bench.used(&self.workers, self.recorder.as_ref())
    }

    async fn results(&self) -> u64 {
        if !self.contender.has_results() {
            let waiting = self.world.broker.depth(&format!("events.{}", self.work.events[0])).await;
            return self.work.attempts() - waiting.map_or(0, |(messages, _)| u64::from(messages));
        }
        if self.recorder.is_some() {
            // Counting rows costs the database CPU time, so it begins when all calls were made.
            let calls = self.bench.target.calls().await.count;
            if calls < self.work.attempts() {
                return calls;
            }
            return self.world.count("SELECT count(*) FROM executions").await.try_into().expect("a count");
        }
        u64::from(self.world.broker.depth("execution-log").await.map_or(0, |(messages, _)| messages))
    }

    /// Waits until every attempt has its result. Returns when the first result and the last one were seen.
    async fn done(&self) -> (std::time::Instant, std::time::Instant) {
        let mut first = None;
        loop {
            let results = self.results().await;
            if results > 0 && first.is_none() {
                first = Some(std::time::Instant::now());
            }
            if results >= self.work.attempts() {
                let now = std::time::Instant::now();
                return (first.unwrap_or(now), now);
            }
            for worker in &self.workers {
                assert!(!worker.has_ended(), "a contender ended; its log:\n{}", worker.log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A world with the topology of provisiond, handlers for `work`, and settings for a benchmark.
pub async fn prepare(bench: &Bench, work: &Work) -> World {
    let mut world = World::new().await;
    world.set("telemetry.log", "warn");
    world.set("recorder.batch_delay", "100ms");
    world.set("worker.concurrency", &work.concurrency.to_string());
    for (key, value) in work.settings {
        world.set(key, value);
    }
    if work.script.is_some() {
        world.set("script.roots", bench.scripts.to_str().expect("a path"));
        // One handler gets at most half of the slots.
        world.set("script.concurrency", &(2 * SCRIPTS_AT_A_TIME).to_string());
    }
    let task = match work.script {
        Some(script) => vec!["--script".to_owned(), bench.script(script)],
        None => vec!["--http".to_owned(), bench.target.url(work.path)],
    };
    let task: Vec<&str> = task.iter().map(String::as_str).collect();
    for event in work.events {
        for number in 1..=work.handlers {
            world.handler(&format!("{event} {number}"), event, &task);
        }
    }
    // The worker declares the exchanges and queues.
    let mut worker = world.worker().await;
    assert!(worker.terminate().await.success(), "the worker ended badly:\n{}", worker.log());
    world
}

/// Measures one contender once.
pub async fn drain(bench: &Bench, contender: Contender, work: &Work) -> Measured {
    let world = prepare(bench, work).await;
    load::publish(&world, work.events, work.count, work.bytes, None).await;
    let recorder = match contender {
        Contender::WorkerAndRecorder => Some(world.recorder().await),
        _ => None,
    };
    bench.target.reset().await;
    let workers = (0..work.workers).map(|_| contender.spawn(bench, &world, work)).collect();
    let mut running = Running { bench, contender, world: &world, work, workers, recorder };
    while running.results().await == 0 && bench.target.calls().await.count == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = running.used();
    let (first, last) = running.done().await;
    let ended = now();
    // The last deliveries are acknowledged only after their results are confirmed.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let after = running.used();
    let calls = bench.target.calls().await;
    let memory = running.workers.iter().map(|worker| cpu::memory(worker.pid()).1).fold(0.0, f64::max);
    let measured = Measured {
        per_second: rate(work, &calls, last.duration_since(first)),
        used: after.since(before, work.attempts()),
        memory,
        recorded_after: ended.saturating_sub(calls.last) as f64 / 1e9,
    };
    for mut process in running.workers.drain(..).chain(running.recorder.take()) {
        process.terminate().await;
    }
    if contender.is_product() {
        assert_eq!(calls.count, if work.script.is_some() { 0 } else { work.attempts() }, "calls");
    }
    world.abandon().await;
    measured
}

/// The rate of the calls, or of the results if scripts ran.
fn rate(work: &Work, calls: &Calls, took: Duration) -> f64 {
    if work.script.is_none() { calls.per_second() } else { work.attempts() as f64 / took.as_secs_f64() }
}
