//! `status`: the state of the installation on one screen.

use std::fmt::Write as _;

use super::{
    check::overdue_warning,
    context::Context,
    error::CliError,
    output::{field_list, format_time, or_dash, table},
};
use crate::{
    broker::{QueueKind, UnknownQueue},
    domain::handler::Status,
    status::{Policies, StatusSnapshot, StatusWatch, Waiting},
    store::{Counts, Period, SeenProcess},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Show the last day instead of the last hour
    #[arg(long)]
    day: bool,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let period = if args.day { Period::Day } else { Period::Hour };
    let watch = StatusWatch::new(context.store()?, context.broker()?);
    let snapshot = watch.snapshot(period).await?;
    context.output.value(&*snapshot, |snapshot| {
        let mut text = totals(snapshot);
        text.push_str(&processes(&snapshot.processes));
        text.push_str(&circuits(&snapshot.processes));
        text.push_str(&failing(snapshot));
        text.push_str(&queues(&snapshot.waiting));
        text.push_str(&unknown_queues(&snapshot.waiting));
        text.push_str(&policies(&snapshot.policies));
        text
    })
}

fn totals(snapshot: &StatusSnapshot) -> String {
    let Counts { events, done, forbidden, retrying, dead_lettered, skipped, p50_ms, p95_ms, p99_ms } =
        &snapshot.activity.total;
    let ms = |value: &Option<f64>| value.map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms"));
    let reasons = &snapshot.open_dead_letters.reasons;
    let reasons: Vec<_> = reasons.iter().map(|line| format!("{} {}", line.count, line.reason)).collect();
    let overdue = match snapshot.waiting.overdue_retries {
        0 => String::new(),
        count => overdue_warning(count),
    };
    field_list(&[
        ("Since", format_time(snapshot.activity.since)),
        ("Events taken", events.to_string()),
        (
            "Attempts",
            format!(
                "{done} done, {forbidden} forbidden, {retrying} failed and retried, {dead_lettered} dead-lettered"
            ),
        ),
        ("Skipped", skipped.to_string()),
        (
            "Duration",
            format!("half below {}, 95 % below {}, 99 % below {}", ms(p50_ms), ms(p95_ms), ms(p99_ms)),
        ),
        ("Retries waiting", or_dash(snapshot.waiting.retries)),
        ("Retries overdue", overdue),
        ("Open dead letters", format!("{} {}", snapshot.open_dead_letters.total, listed(&reasons))),
    ])
}

fn listed(parts: &[String]) -> String {
    if parts.is_empty() { String::new() } else { format!("({})", parts.join(", ")) }
}

fn processes(seen: &[SeenProcess]) -> String {
    let rows = seen.iter().map(|seen| {
        let process = &seen.process;
        let roles: Vec<_> = process.roles.iter().map(|role| role.as_str()).collect();
        let worker = process.report.worker.as_ref();
        [
            format!("{}:{}", process.who.host, process.who.pid),
            process.who.version.clone(),
            roles.join(","),
            format_time(process.started_at),
            format!("{} s ago", seen.silent_ms / 1000),
            or_dash(worker.map(|worker| worker.in_flight)),
            process.report.state().0,
        ]
    });
    titled(
        "Processes",
        &table(["Process", "Version", "Roles", "Started", "Seen", "In flight", "State"], rows),
        seen.is_empty(),
    )
}

fn circuits(seen: &[SeenProcess]) -> String {
    let rows: Vec<_> = seen
        .iter()
        .filter_map(|seen| Some((&seen.process.who, seen.process.report.worker.as_ref()?)))
        .flat_map(|(process, worker)| worker.circuits.iter().map(move |circuit| (process, circuit)))
        .map(|(process, circuit)| {
            [
                circuit.handler_id.to_string(),
                format!("{}:{}", process.host, process.pid),
                circuit.state.to_string(),
                format_time(circuit.since),
                circuit.error.clone(),
            ]
        })
        .collect();
    let is_empty = rows.is_empty();
    titled("Open circuits", &table(["ID", "Worker", "State", "Since", "Error"], rows), is_empty)
}

fn failing(snapshot: &StatusSnapshot) -> String {
    let rows = snapshot.failing_handlers.iter().map(|failing| {
        [
            failing.handler_id.to_string(),
            or_dash(failing.handler_name.as_ref()),
            failing.status.map_or("deleted", Status::as_str).to_owned(),
            format!("{} of {}", failing.counts.failures, failing.counts.attempts),
        ]
    });
    let is_empty = snapshot.failing_handlers.is_empty();
    titled(
        "Handlers that failed in the last day",
        &table(["ID", "Name", "Status", "Failures"], rows),
        is_empty,
    )
}

fn queues(waiting: &Waiting) -> String {
    if let Some(error) = &waiting.error {
        return format!("\nCannot read the queues of the broker: {error}\n");
    }
    // The total of the delay ladder is shown above. Here only its missing queues are listed.
    let shown = waiting
        .queues
        .iter()
        .filter(|queue| !matches!(queue.kind, QueueKind::Delay { .. }) || queue.depth.is_none());
    let rows = shown.map(|queue| match queue.depth {
        Some(depth) => [queue.queue.clone(), depth.messages.to_string(), depth.consumers.to_string()],
        None => [queue.queue.clone(), "missing".to_owned(), "–".to_owned()],
    });
    titled("Queues", &table(["Queue", "Waiting", "Consumers"], rows), false)
}

fn unknown_queues(waiting: &Waiting) -> String {
    let to_line = |queue: &UnknownQueue| format!("\nWarning: {queue} (docs/operations.md#after-a-restore)\n");
    waiting.unknown_queues.iter().map(to_line).collect()
}

fn policies(policies: &Policies) -> String {
    let mut text = String::new();
    for policy in &policies.harmful {
        let _ = write!(text, "\nWarning: {}\n", policy.with_remedy());
    }
    if let Some(error) = &policies.error {
        let _ = write!(text, "\nCannot read the policies on the queues: {error}\n");
    }
    text
}

fn titled(title: &str, table: &str, is_empty: bool) -> String {
    let mut text = String::new();
    if !is_empty {
        let _ = write!(text, "\n{title}\n{table}");
    }
    text
}
