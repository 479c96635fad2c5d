//! `status`: the state of the installation on one screen.

use std::fmt::Write as _;

use super::{
    check::overdue_told,
    context::Context,
    error::CliError,
    output::{facts, moment, or_dash, table},
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
    let overview = StatusWatch::new(context.store()?, context.broker()?);
    let picture = overview.snapshot(period).await?;
    context.output.value(&*picture, |picture| {
        let mut text = totals(picture);
        text.push_str(&processes(&picture.processes));
        text.push_str(&circuits(&picture.processes));
        text.push_str(&failing(picture));
        text.push_str(&queues(&picture.waiting));
        text.push_str(&unknown_queues(&picture.waiting));
        text.push_str(&policies(&picture.policies));
        text
    })
}

fn totals(picture: &StatusSnapshot) -> String {
    let Counts { events, done, forbidden, retrying, dead_lettered, skipped, p50_ms, p95_ms, p99_ms } =
        &picture.activity.total;
    let ms = |value: &Option<f64>| value.map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms"));
    let reasons = &picture.open_dead_letters.reasons;
    let reasons: Vec<_> = reasons.iter().map(|line| format!("{} {}", line.count, line.reason)).collect();
    let overdue = match picture.waiting.overdue_retries {
        0 => String::new(),
        count => overdue_told(count),
    };
    facts(&[
        ("Since", moment(picture.activity.since)),
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
        ("Retries waiting", or_dash(picture.waiting.retries)),
        ("Retries overdue", overdue),
        ("Open dead letters", format!("{} {}", picture.open_dead_letters.total, listed(&reasons))),
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
            moment(process.started_at),
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
                moment(circuit.since),
                circuit.error.clone(),
            ]
        })
        .collect();
    let none = rows.is_empty();
    titled("Open circuits", &table(["ID", "Worker", "State", "Since", "Error"], rows), none)
}

fn failing(picture: &StatusSnapshot) -> String {
    let rows = picture.failing_handlers.iter().map(|failing| {
        [
            failing.handler_id.to_string(),
            or_dash(failing.handler_name.as_ref()),
            failing.status.map_or("deleted", Status::as_str).to_owned(),
            format!("{} of {}", failing.counts.failures, failing.counts.attempts),
        ]
    });
    let none = picture.failing_handlers.is_empty();
    titled("Handlers that failed in the last day", &table(["ID", "Name", "Status", "Failures"], rows), none)
}

fn queues(seen: &Waiting) -> String {
    if let Some(error) = &seen.error {
        return format!("\nCannot read the queues of the broker: {error}\n");
    }
    // The total of the delay ladder is shown above. Here only its missing queues are listed.
    let shown = seen
        .queues
        .iter()
        .filter(|queue| !matches!(queue.kind, QueueKind::Delay { .. }) || queue.depth.is_none());
    let rows = shown.map(|queue| match queue.depth {
        Some(depth) => [queue.queue.clone(), depth.messages.to_string(), depth.consumers.to_string()],
        None => [queue.queue.clone(), "missing".to_owned(), "–".to_owned()],
    });
    titled("Queues", &table(["Queue", "Waiting", "Consumers"], rows), false)
}

fn unknown_queues(seen: &Waiting) -> String {
    let told = |queue: &UnknownQueue| format!("\nWarning: {queue} (docs/operations.md#after-a-restore)\n");
    seen.unknown_queues.iter().map(told).collect()
}

fn policies(seen: &Policies) -> String {
    let mut text = String::new();
    for policy in &seen.harmful {
        let _ = write!(text, "\nWarning: {}\n", policy.with_remedy());
    }
    if let Some(error) = &seen.error {
        let _ = write!(text, "\nCannot read the policies on the queues: {error}\n");
    }
    text
}

fn titled(title: &str, table: &str, none: bool) -> String {
    let mut text = String::new();
    if !none {
        let _ = write!(text, "\n{title}\n{table}");
    }
    text
}
