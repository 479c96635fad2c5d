//! An endpoint that is down: all events go into the delay ladder, or become dead letters and are replayed.

use std::time::{Duration, Instant};

use crate::{
    Bench,
    contender::Contender,
    cpu::{self, Used},
    drain::prepare,
    load,
    support::World,
    table::{Table, median, spread},
    work::{ONE, Work},
};

/// The number of messages that wait in the delay ladder.
async fn in_the_ladder(world: &World) -> u64 {
    let mut all = 0;
    for level in 0..20 {
        let depth = world.broker.depth(&format!("delay.v1.level-{level}")).await;
        all += depth.map_or(0, |(messages, _)| u64::from(messages));
    }
    all
}

/// Events per second into the delay ladder, the CPU time that they used, and the number of calls.
async fn once(bench: &Bench) -> (f64, Used, u64) {
    // No copy returns from the delay ladder during the measurement.
    const SETTINGS: &[(&str, &str)] = &[("retry.initial_interval", "6h"), ("retry.max_interval", "6h")];
    let work = Work { count: bench.scaled(50_000), path: "/fail", settings: SETTINGS, ..Work::HTTP };
    let world = prepare(bench, &work).await;
    load::publish(&world, ONE, work.count, work.bytes, None).await;
    bench.target.reset().await;
    let mut worker = [Contender::Worker.spawn(bench, &world, &work)];
    while in_the_ladder(&world).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (begun, before, already) = (Instant::now(), bench.used(&worker, None), in_the_ladder(&world).await);
    while in_the_ladder(&world).await < work.count {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (took, after) = (begun.elapsed(), bench.used(&worker, None));
    let moved = work.count - already;
    let calls = bench.target.calls().await.count;
    worker[0].terminate().await;
    world.abandon().await;
    (moved as f64 / took.as_secs_f64(), after.since(before, moved), calls)
}

/// A row with the rates of all rounds and the CPU time of `parts`.
fn row(all: &[(f64, Used)], parts: [fn(&Used) -> f64; 3]) -> Vec<String> {
    let rates: Vec<f64> = all.iter().map(|(rate, _)| *rate).collect();
    let used = parts.map(|part| format!("{:.2}", median(all.iter().map(|(_, used)| part(used)))));
    ["provisiond".to_owned(), spread(&rates, 0)].into_iter().chain(used).collect()
}

pub async fn measure(bench: &Bench) -> Table {
    let head = [
        "50,000 events, all answered 503",
        "events/s",
        "worker cpu/10k",
        "broker cpu/10k",
        "target cpu/10k",
        "calls",
    ];
    let mut table = Table::new("Retry storm: until all are in the delay ladder", &head);
    let (mut all, mut calls) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let (rate, used, made) = once(bench).await;
        all.push((rate, used));
        calls.push(made);
    }
    let calls = median(calls.into_iter().map(|calls| calls as f64));
    let mut row = row(&all, [|used| used.worker, |used| used.broker, |used| used.target]);
    row.push(format!("{calls:.0}"));
    table.row(row);
    table
}

/// Dead letters replayed per second, and the CPU time that they used. `Used::worker` is that of the command.
async fn replay_once(bench: &Bench) -> (f64, Used) {
    const SETTINGS: &[(&str, &str)] = &[("retry.max_attempts", "1")];
    let work = Work { count: bench.scaled(2_000), path: "/fail", settings: SETTINGS, ..Work::HTTP };
    let mut world = prepare(bench, &work).await;
    load::publish(&world, ONE, work.count, work.bytes, None).await;
    world.serve().await;
    let open = "SELECT count(*) FROM dead_letters WHERE state = 'open'";
    while u64::try_from(world.count(open).await).expect("a count") < work.count {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Too many failures would stop the replay.
    world.run(&["handlers", "update", "1", "--http", &bench.target.url("/ok")]).assert_done();
    // The command is a child of this process, which has waited for it.
    let used = || Used { worker: cpu::of(std::process::id()), ..bench.used(&[], None) };
    let (begun, before) = (Instant::now(), used());
    let event = ["--event", ONE[0], "--rate", "1000", "--yes"];
    world.run(&[&["dead-letters", "replay"][..], &event].concat()).assert_done();
    let (took, after) = (begun.elapsed(), used());
    let replayed = world.count("SELECT count(*) FROM dead_letters WHERE state = 'replayed'").await;
    assert_eq!(u64::try_from(replayed).expect("a count"), work.count, "letters replayed");
    world.abandon().await;
    (work.count as f64 / took.as_secs_f64(), after.since(before, work.count))
}

pub async fn replay(bench: &Bench) -> Table {
    let head = ["--rate 1000", "letters/s", "command cpu/10k", "broker cpu/10k", "postgres cpu/10k"];
    let mut table =
        Table::new("Replay of dead letters, by the command line, while worker and recorder run", &head);
    let mut all = Vec::new();
    for _ in 0..bench.rounds {
        all.push(replay_once(bench).await);
    }
    table.row(row(&all, [|used| used.worker, |used| used.broker, |used| used.postgres]));
    table
}
