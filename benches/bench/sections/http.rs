//! HTTP: provisiond compared with the minimal loop and the peers, and the cost of several kinds of work.

use std::collections::BTreeMap;

use crate::{
    Bench,
    contender::Contender,
    drain::{Measured, drain},
    peers::installed,
    table::{Table, median, spread},
    work::Work,
};

const ALL_FIFTEEN: &[&str] = &[
    "clients.create",
    "clients.update",
    "clients.delete",
    "clients.archive",
    "clients.custom_fields.update",
    "clients.balance_notzero",
    "clients.balance_zero",
    "clients.accounts.create",
    "clients.accounts.update",
    "clients.accounts.delete",
    "clients.packages.assign",
    "clients.packages.activate",
    "clients.packages.deactivate",
    "clients.packages.renew",
    "clients.packages.close",
];

/// The columns of all tables about drained queues.
const HEAD: &[&str] = &[
    "",
    "attempts/s",
    "of the minimal",
    "worker cpu/10k",
    "of the minimal",
    "recorder",
    "behind s",
    "broker",
    "postgres",
    "target",
    "MiB",
];

fn row(name: String, all: &[Measured], ceiling: Option<&[Measured]>) -> Vec<String> {
    let each = |field: fn(&Measured) -> f64| all.iter().map(field).collect::<Vec<_>>();
    let median_of = |all: &[Measured], field: fn(&Measured) -> f64| median(all.iter().map(field));
    let ratio = |field: fn(&Measured) -> f64| {
        ceiling.map_or_else(String::new, |ceiling| {
            format!("{:.2}", median_of(all, field) / median_of(ceiling, field))
        })
    };
    vec![
        name,
        spread(&each(|one| one.per_second), 0),
        ratio(|one| one.per_second),
        spread(&each(|one| one.used.worker), 2),
        ratio(|one| one.used.worker),
        format!("{:.2}", median_of(all, |one| one.used.recorder)),
        format!("{:.1}", median_of(all, |one| one.recorded_after)),
        format!("{:.2}", median_of(all, |one| one.used.broker)),
        format!("{:.2}", median_of(all, |one| one.used.postgres)),
        format!("{:.2}", median_of(all, |one| one.used.target)),
        format!("{:.0}", median_of(all, |one| one.memory)),
    ]
}

/// Measures the lines in turn, so that a change on the machine affects all of them.
async fn in_turn(bench: &Bench, lines: &[(String, Contender, Work)]) -> BTreeMap<usize, Vec<Measured>> {
    let mut measured: BTreeMap<usize, Vec<Measured>> = BTreeMap::new();
    for _ in 0..bench.rounds {
        for (number, (_, contender, work)) in lines.iter().enumerate() {
            let work = Work { count: bench.scaled(work.count), ..work.clone() };
            measured.entry(number).or_default().push(drain(bench, *contender, &work).await);
        }
    }
    measured
}

pub async fn contenders(bench: &Bench) -> Table {
    let mut compared = vec![Contender::Minimal, Contender::Worker, Contender::WorkerAndRecorder];
    compared.extend(
        ["node", "aio-pika", "celery"].into_iter().filter(|name| installed(name)).map(Contender::Peer),
    );
    let lines: Vec<_> = compared
        .into_iter()
        .map(|contender| {
            // Slow contenders get fewer events.
            let count = match contender {
                Contender::Peer("aio-pika" | "celery") => Work::HTTP.count / 5,
                _ => Work::HTTP.count,
            };
            (contender.name(), contender, Work { count, ..Work::HTTP })
        })
        .collect();
    let measured = in_turn(bench, &lines).await;
    let mut table = Table::new("HTTP: one handler, one event, 300 bytes, 256 in flight", HEAD);
    for (number, (name, ..)) in lines.into_iter().enumerate() {
        table.row(row(name, &measured[&number], Some(&measured[&0])));
    }
    table
}

pub async fn kinds_of_work(bench: &Bench) -> Table {
    let half = Work { count: 25_000, ..Work::HTTP };
    let kinds = [
        ("1 handler, 300 bytes", Work { count: 50_000, ..half.clone() }),
        ("2 handlers", Work { handlers: 2, ..half.clone() }),
        ("3 handlers", Work { handlers: 3, count: 16_000, ..half.clone() }),
        ("10 KB", Work { bytes: 10_000, ..half.clone() }),
        ("fifteen events", Work { events: ALL_FIFTEEN, ..half.clone() }),
        ("one call takes 5 s", Work { path: "/one-slow", count: 50_000, ..half.clone() }),
    ];
    let mut lines = Vec::new();
    for (name, work) in kinds {
        // The minimal loop makes one call for an event, so it is the ceiling of one attempt.
        let ceiling = Work { handlers: 1, ..work.clone() };
        lines.push((format!("minimal: {name}"), Contender::Minimal, ceiling));
        lines.push((format!("provisiond: {name}"), Contender::Worker, work));
    }
    let measured = in_turn(bench, &lines).await;
    let mut table = Table::new("HTTP: kinds of work, worker alone (figures of one attempt)", HEAD);
    for (number, (name, ..)) in lines.into_iter().enumerate() {
        table.row(row(name, &measured[&number], Some(&measured[&(number / 2 * 2)])));
    }
    table
}
