//! How long an event takes from its publisher to its handler while no event waits.

use crate::{
    Bench,
    contender::Contender,
    drain::prepare,
    load,
    support::eventually,
    table::Table,
    work::{ONE, Work},
};

const PER_SECOND: u32 = 200;

pub async fn measure(bench: &Bench) -> Table {
    let head = ["", "p50 ms", "p99 ms", "p99.9 ms", "worker cpu/10k"];
    let mut table = Table::new(format!("Latency at {PER_SECOND} events/s, publish to handler"), &head);
    let contenders = [Contender::Minimal, Contender::Worker];
    let mut measured = [const { Vec::new() }; 2];
    for _ in 0..bench.rounds {
        for (contender, measured) in contenders.iter().zip(&mut measured) {
            measured.push(measure_once(bench, *contender).await);
        }
    }
    for (contender, measured) in contenders.iter().zip(measured) {
        table.spreads(contender.name(), &measured, [2, 2, 2, 2]);
    }
    table
}

async fn measure_once(bench: &Bench, contender: Contender) -> [f64; 4] {
    let count = bench.scaled(4_000);
    let world = prepare(bench, &Work::HTTP).await;
    let mut process = [contender.spawn(bench, &world, &Work::HTTP)];
    world.wait_for_consumer("events.clients.create").await;
    // A warm-up: connections are opened and memory is allocated.
    load::publish(&world, ONE, 200, 300, Some(PER_SECOND)).await;
    bench.target.reset().await;
    let before = bench.used(&process, None);
    load::publish(&world, ONE, count, 300, Some(PER_SECOND)).await;
    eventually("every call has come", || async { bench.target.calls().await.count >= count }).await;
    let used = bench.used(&process, None).since(before, count);
    let [p50, p99, p999, _] = bench.target.calls().await.latency.map(|micros| micros as f64 / 1000.0);
    process[0].terminate().await;
    world.abandon().await;
    [p50, p99, p999, used.worker]
}
