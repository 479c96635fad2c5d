//! Speed, memory and startup with more workers, more waiting events and more handlers.

use std::time::{Duration, Instant};

use crate::{
    Bench,
    contender::Contender,
    cpu,
    drain::{drain, prepare},
    load,
    support::{Process, World},
    table::{Table, median, spread},
    work::{ONE, Work},
};

/// One, two and four workers with calls that take 20 ms each, compared with as many minimal loops.
pub async fn workers(bench: &Bench) -> Table {
    let head = ["", "processes", "events/s", "of one", "cpu/10k (all)", "broker"];
    let mut table = Table::new("Scale: calls of 20 ms, 16 at a time in each process", &head);
    let lines = [Contender::Minimal, Contender::Worker]
        .map(|contender| [1, 2, 4].map(|workers| (contender, workers)));
    let mut all = lines.map(|line| line.map(|_| Vec::new()));
    for _ in 0..bench.rounds {
        for ((contender, workers), measured) in lines.iter().flatten().zip(all.iter_mut().flatten()) {
            let count = bench.scaled(6_000 * *workers as u64);
            let work = Work { workers: *workers, count, path: "/slow", concurrency: 16, ..Work::HTTP };
            measured.push(drain(bench, *contender, &work).await);
        }
    }
    for (line, all) in lines.iter().zip(&all) {
        let baseline = median(all[0].iter().map(|one| one.per_second));
        for ((contender, workers), measured) in line.iter().zip(all) {
            let rates: Vec<f64> = measured.iter().map(|one| one.per_second).collect();
            table.row(vec![
                contender.name(),
                workers.to_string(),
                spread(&rates, 0),
                format!("{:.2}", median(rates.iter().copied()) / baseline),
                format!("{:.2}", median(measured.iter().map(|one| one.used.worker))),
                format!("{:.2}", median(measured.iter().map(|one| one.used.broker))),
            ]);
        }
    }
    table
}

/// A worker and a recorder drain a million waiting events, which are an hour of 278 events a second.
pub async fn memory(bench: &Bench) -> Table {
    let work = Work { count: bench.scaled(1_000_000), ..Work::HTTP };
    let world = prepare(bench, &work).await;
    let mut table = Table::new(
        "Memory and speed while a million events are worked off",
        &["done", "events/s since the line before", "worker MiB", "at most", "recorder MiB", "at most"],
    );
    let mut line = |done: u64, rate: Option<f64>, running: &[Process; 2]| {
        let memory = running.iter().map(|process| cpu::memory(process.pid()));
        let memory = memory.flat_map(|(now, most)| [format!("{now:.1}"), format!("{most:.1}")]);
        let rate = rate.map(|rate| format!("{rate:.0}")).unwrap_or_default();
        table.row([done.to_string(), rate].into_iter().chain(memory).collect());
    };
    let start = async || [world.worker().await, world.recorder().await];
    let mut running = start().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    line(0, None, &running);
    for process in &mut running {
        process.terminate().await;
    }

    load::publish(&world, ONE, work.count, work.bytes, None).await;
    bench.target.reset().await;
    let mut running = start().await;
    let (mut begun, mut done) = (Instant::now(), 0);
    for fraction in [0.01, 0.1, 0.25, 0.5, 0.75, 1.0] {
        let wanted = (work.count as f64 * fraction) as u64;
        let mut count = done;
        while count < wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
            count = bench.target.calls().await.count;
        }
        line(count, Some((count - done) as f64 / begun.elapsed().as_secs_f64()), &running);
        (begun, done) = (Instant::now(), count);
    }
    while u64::try_from(world.count("SELECT count(*) FROM executions").await).expect("a count") < work.count {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for process in &mut running {
        process.terminate().await;
    }
    world.abandon().await;
    table
}

/// Inserts `count` handlers, as an operator's script would make them over the years.
async fn insert(world: &World, event: &str, url: &str, count: u64) {
    let sql = format!(
        "INSERT INTO handlers (name, event, task)
         SELECT 'bench ' || n, $1, jsonb_build_object('type', 'http', 'url', $2::text) FROM generate_series(1, {count}) n"
    );
    world.rows(&sql, &[&event, &url]).await;
}

/// Returns the milliseconds until a worker consumes, its memory in MiB, the milliseconds until a change takes
/// effect, and the worker's CPU time for 10,000 events.
async fn with_handlers(bench: &Bench, count: u64) -> [f64; 4] {
    let work = Work { count: bench.scaled(20_000), ..Work::HTTP };
    let world = prepare(bench, &work).await;
    insert(&world, "clients.update", "http://127.0.0.1:9/", count).await;
    let begun = Instant::now();
    let mut worker = Contender::Worker.spawn(bench, &world, &work);
    while world.broker.depth("events.clients.create").await.is_none_or(|(_, consumers)| consumers == 0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let started = begun.elapsed().as_secs_f64() * 1000.0;
    let (memory, _) = cpu::memory(worker.pid());
    let live = change(bench, &world).await;
    bench.target.reset().await;
    let before = cpu::of(worker.pid());
    load::publish(&world, ONE, work.count, work.bytes, None).await;
    while bench.target.calls().await.count < work.count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let used = (cpu::of(worker.pid()) - before) * 10_000.0 / work.count as f64;
    worker.terminate().await;
    world.abandon().await;
    [started, memory, live, used]
}

/// Returns the milliseconds from the commit of a new handler until an event calls it. It publishes one event
/// after the other until then.
async fn change(bench: &Bench, world: &World) -> f64 {
    bench.target.reset().await;
    let event = "clients.delete";
    insert(world, event, &bench.target.url("/ok"), 1).await;
    let committed = crate::target::now();
    loop {
        load::publish(world, &[event], 1, 300, None).await;
        let calls = bench.target.calls().await;
        if calls.count > 0 {
            return calls.first.saturating_sub(committed) as f64 / 1e6;
        }
    }
}

pub async fn handlers(bench: &Bench) -> Table {
    let head =
        ["handlers", "start ms", "MiB", "a change is live after ms", "worker cpu/10k, one of them called"];
    let mut table = Table::new("Handlers in the registry", &head);
    for count in [10, 1_000, 100_000] {
        let mut all = Vec::new();
        for _ in 0..bench.rounds {
            all.push(with_handlers(bench, count).await);
        }
        table.spreads(count.to_string(), &all, [0, 0, 0, 2]);
    }
    table
}
