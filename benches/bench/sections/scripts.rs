//! Scripts: provisiond compared with bare spawning of the same script, the minimal loop and amqp-consume, all
//! with the same number of scripts at a time.

use std::process::Stdio;

use crate::{
    Bench,
    contender::Contender,
    cpu::{self, Used},
    drain::{Measured, drain},
    peers::installed,
    table::{Table, median, spread},
    work::{SCRIPTS_AT_A_TIME, Work},
};

const SCRIPTS: [(&str, u64); 3] = [("true", 8_000), ("sh", 5_000), ("python3", 600)];

fn bare(bench: &Bench, script: &str, count: u64) -> Measured {
    let program = std::env::current_exe().expect("this program");
    let used = || Used { worker: cpu::of(std::process::id()), ..Used::default() };
    let before = used();
    let output = std::process::Command::new(program)
        .args(["spawning", &bench.script(script), &count.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .expect("bench spawning");
    assert!(output.status.success(), "bench spawning failed");
    let text = String::from_utf8(output.stdout).expect("text");
    let per_second = text.trim().parse().expect("a rate");
    Measured { per_second, used: used().since(before, count), ..Measured::default() }
}

/// The contenders for `script`, with the work for each.
fn contenders(script: &str) -> Vec<(Contender, Work)> {
    let work = Work { concurrency: 100, ..Work::HTTP };
    let mut all = vec![(Contender::Minimal, work.clone()), (Contender::Worker, work.clone())];
    // A script that does not read its input ends amqp-consume.
    if script != "true" && installed("amqp-consume") {
        // Each process runs one script at a time.
        let work = Work { concurrency: 2, workers: SCRIPTS_AT_A_TIME, ..work };
        all.push((Contender::Peer("amqp-consume"), work));
    }
    all
}

pub async fn measure(bench: &Bench) -> Table {
    let head = [
        "four at a time",
        "runs/s",
        "of bare",
        "of the minimal",
        "cpu/10k: all",
        "without the scripts",
        "broker",
    ];
    let mut table = Table::new("Scripts", &head);
    for (script, count) in SCRIPTS {
        let count = bench.scaled(count);
        let contenders = contenders(script);
        let mut measured = vec![Vec::new(); contenders.len() + 1];
        for _ in 0..bench.rounds {
            measured[0].push(bare(bench, script, count));
            for (number, (contender, work)) in contenders.iter().enumerate() {
                let work = Work { script: Some(script), count, ..work.clone() };
                measured[number + 1].push(drain(bench, *contender, &work).await);
            }
        }
        let rates: Vec<Vec<f64>> =
            measured.iter().map(|all| all.iter().map(|one| one.per_second).collect()).collect();
        let ratio = |rates: &[f64], ceiling: &[f64]| {
            format!("{:.2}", median(rates.iter().copied()) / median(ceiling.iter().copied()))
        };
        let names = contenders.iter().map(|(contender, _)| contender.name());
        for (number, name) in std::iter::once("bare spawning".to_owned()).chain(names).enumerate() {
            let median_of =
                |part: fn(&Used) -> f64| median(measured[number].iter().map(|one| part(&one.used)));
            table.row(vec![
                format!("{script}: {name}"),
                spread(&rates[number], 0),
                ratio(&rates[number], &rates[0]),
                ratio(&rates[number], &rates[1]),
                format!("{:.1}", median_of(|used| used.worker)),
                format!("{:.1}", median_of(|used| used.worker_itself)),
                format!("{:.2}", median_of(|used| used.broker)),
            ]);
        }
    }
    table
}
