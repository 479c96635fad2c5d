//! The recorder alone with a full queue of results, compared with COPY of the same rows into the same table.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, TryStreamExt};

use crate::{
    Bench,
    contender::Contender,
    cpu::Used,
    drain::prepare,
    load,
    support::World,
    table::{Table, median, spread},
    work::{ONE, Work},
};

/// Rows per second, and the CPU time that they used.
type Rows = (f64, Used);

async fn rows(world: &World) -> u64 {
    world.count("SELECT count(*) FROM executions").await.try_into().expect("a count")
}

async fn measure_once(bench: &Bench) -> (Rows, Rows) {
    let work = Work { count: bench.scaled(Work::HTTP.count), ..Work::HTTP };
    let world = prepare(bench, &work).await;
    load::publish(&world, ONE, work.count, work.bytes, None).await;
    let mut worker = Contender::Worker.spawn(bench, &world, &work);
    while world
        .broker
        .depth("execution-log")
        .await
        .is_none_or(|(messages, _)| u64::from(messages) < work.count)
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    worker.terminate().await;

    let mut recorder = world.spawn(&["--roles", "recorder"]);
    while rows(&world).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (begun, before, already) = (Instant::now(), bench.used(&[], Some(&recorder)), rows(&world).await);
    while rows(&world).await < work.count {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (took, after) = (begun.elapsed(), bench.used(&[], Some(&recorder)));
    let written = work.count - already;
    let ours = (written as f64 / took.as_secs_f64(), after.since(before, written));
    recorder.terminate().await;

    let copied = copy(bench, &world, work.count).await;
    world.abandon().await;
    (ours, copied)
}

/// Writes the same rows with one COPY into the emptied table.
async fn copy(bench: &Bench, world: &World, count: u64) -> Rows {
    let (client, connection) =
        tokio_postgres::connect(&world.database_url, tokio_postgres::NoTls).await.expect("postgres");
    tokio::spawn(connection);
    let out =
        client.copy_out("COPY (SELECT * FROM executions) TO STDOUT (FORMAT binary)").await.expect("copied");
    let rows: Vec<bytes::Bytes> = out.try_collect().await.expect("rows");
    client.batch_execute("TRUNCATE executions").await.expect("emptied");
    let (begun, before) = (Instant::now(), bench.used(&[], None));
    let mut sink = pin!(client.copy_in("COPY executions FROM STDIN (FORMAT binary)").await.expect("copying"));
    for row in rows {
        sink.feed(row).await.expect("copied");
    }
    assert_eq!(sink.finish().await.expect("copied"), count, "rows");
    let (took, after) = (begun.elapsed(), bench.used(&[], None));
    (count as f64 / took.as_secs_f64(), after.since(before, count))
}

pub async fn measure(bench: &Bench) -> Table {
    let head = ["", "rows/s", "recorder cpu/10k", "postgres cpu/10k", "broker cpu/10k"];
    let mut table = Table::new("Recorder alone, results waiting", &head);
    let (mut recorded, mut copied) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let (ours, ceiling) = measure_once(bench).await;
        recorded.push(ours);
        copied.push(ceiling);
    }
    for (name, rows) in [("COPY", copied), ("recorder", recorded)] {
        let median_of =
            |part: fn(&Used) -> f64| format!("{:.3}", median(rows.iter().map(|one| part(&one.1))));
        let rates: Vec<f64> = rows.iter().map(|one| one.0).collect();
        table.row(vec![
            name.to_owned(),
            spread(&rates, 0),
            median_of(|used| used.recorder),
            median_of(|used| used.postgres),
            median_of(|used| used.broker),
        ]);
    }
    table
}
