//! One line a fault: on the test's output, and in a Markdown table.

use std::{fmt::Write as _, fs::OpenOptions, io::Write as _, path::PathBuf, time::Duration};

use super::{Form, checker::Verdict};

const HEAD: &str = "| fault | injections | confirmed | ended | lost | repeated | recovery |\n\
                    |---|--:|--:|--:|--:|--:|--:|\n";

pub fn write(form: Form, fault: &str, injections: usize, verdict: &Verdict, recoveries: &[Duration]) {
    let mut recovery = String::new();
    match recoveries.iter().max() {
        Some(slowest) => write!(recovery, "{:.1} s", slowest.as_secs_f64()).expect("a string"),
        None => recovery.push('–'),
    }
    let Verdict { confirmed, ended, lost, repeated, .. } = verdict;
    let ended = match verdict.lost_with_queue {
        0 => ended.to_string(),
        lost_with_queue => format!("{ended} (+{lost_with_queue} deleted with their queue)"),
    };
    println!(
        "{fault}: {injections} injections, {confirmed} confirmed, {ended} ended, {lost} lost, {repeated} repeated, \
         recovered in {recovery}"
    );
    let row =
        format!("| {fault} | {injections} | {confirmed} | {ended} | {lost} | {repeated} | {recovery} |\n");
    let name = if form.is_long { "faults.md" } else { "faults-short.md" };
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target").join(name);
    let is_new = !path.exists();
    let mut table = OpenOptions::new().create(true).append(true).open(path).expect("a writable target/");
    // One write a line: tests run side by side.
    table.write_all(if is_new { HEAD } else { "" }.as_bytes()).expect("written");
    table.write_all(row.as_bytes()).expect("written");
}
