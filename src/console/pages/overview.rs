//! The overview page: the status of the installation as tiles, charts and short lists, with links to the details.

mod charts;
mod lists;

use askama::Template;
use axum::extract::State;

use self::{
    charts::{Chart, durations, events, outcomes},
    lists::{Circuit, Failing, Process, Queue, circuits, failing, processes, queues},
};
use super::{
    Answer,
    fields::{Fields, Query},
    format::{capital, counted, grouped, handler_name, spaced},
    html,
    layout::{Frame, Section},
};
use crate::{
    console::{Console, access::Viewer},
    domain::process::Role,
    status::{Policies, StatusSnapshot, Waiting},
    store::Period,
};

/// One number and a link to its details.
struct Tile {
    label: &'static str,
    value: String,
    unit: String,
    note: String,
    href: String,
    is_alarm: bool,
}

/// The number of open dead letters with one reason, or of one handler.
struct DeadLetterCount {
    label: String,
    count: String,
    href: String,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    frame: Frame,
    is_day: bool,
    tiles: Vec<Tile>,
    charts: Vec<Chart>,
    failing: Vec<Failing>,
    circuits: Vec<Circuit>,
    reasons: Vec<DeadLetterCount>,
    handlers: Vec<DeadLetterCount>,
    queues: Vec<Queue>,
    broker_problem: String,
    queue_problems: Vec<String>,
    processes: Vec<Process>,
}

pub async fn overview(
    Viewer(identity): Viewer,
    State(console): State<Console>,
    Query(query): Query,
) -> Answer {
    let is_day = query.get("period") == "day";
    let snapshot = console.status.snapshot(if is_day { Period::Day } else { Period::Hour }).await?;
    let activity = &snapshot.activity;
    html(&OverviewPage {
        frame: Frame::in_section(Section::Overview, "Overview", &identity).with_notice(&query),
        is_day,
        tiles: tiles(&snapshot, is_day),
        charts: vec![outcomes(activity), events(activity), durations(activity)],
        failing: failing(&snapshot),
        circuits: circuits(&snapshot),
        reasons: reasons(&snapshot),
        handlers: handlers(&snapshot),
        queues: queues(&snapshot.waiting),
        broker_problem: snapshot.waiting.error.clone().unwrap_or_default(),
        queue_problems: queue_problems(&snapshot.waiting, &snapshot.policies),
        processes: processes(&snapshot.processes),
    })
}

fn queue_problems(waiting: &Waiting, policies: &Policies) -> Vec<String> {
    let unknown_queues = waiting.unknown_queues.iter().map(ToString::to_string);
    let harmful = policies.harmful.iter().map(ToString::to_string);
    let unknown =
        policies.error.iter().map(|error| format!("cannot read the policies of the queues: {error}"));
    let policy_problems = harmful.chain(unknown).map(|problem| capital(&problem));
    unknown_queues.chain(policy_problems).collect()
}

fn tiles(snapshot: &StatusSnapshot, is_day: bool) -> Vec<Tile> {
    let total = &snapshot.activity.total;
    let period = if is_day { "in 24 h" } else { "in the last hour" };
    let failed = total.retrying + total.dead_lettered;
    let attempts = total.done + total.forbidden + failed;
    let since = Fields::default().with("since", snapshot.activity.since.to_string());
    let dead_letters = &snapshot.open_dead_letters;
    vec![
        Tile {
            label: "Events",
            value: charts::rate(&snapshot.activity),
            unit: "a second".to_owned(),
            note: format!("{} {period}", grouped(total.events)),
            href: since.href("/executions"),
            is_alarm: false,
        },
        Tile {
            label: "Succeeded",
            value: percent(attempts - failed, attempts),
            unit: String::new(),
            note: format!("{} of {} {period}", grouped(attempts - failed), grouped(attempts)),
            href: since.with("status", "fail").href("/executions"),
            is_alarm: failed * 10 > attempts,
        },
        Tile {
            label: "Duration (p95)",
            value: charts::milliseconds(total.p95_ms),
            unit: String::new(),
            note: format!("median {}", charts::milliseconds(total.p50_ms)),
            href: since.href("/executions"),
            is_alarm: false,
        },
        waiting(snapshot),
        Tile {
            label: "Open dead letters",
            value: grouped(dead_letters.total),
            unit: String::new(),
            note: if dead_letters.total == 0 { "nothing to do" } else { "edit, replay or discard them" }
                .to_owned(),
            href: "/dead-letters".to_owned(),
            is_alarm: dead_letters.total > 0,
        },
        workers(snapshot),
    ]
}

fn waiting(snapshot: &StatusSnapshot) -> Tile {
    let events: u64 = snapshot.waiting.queues.iter().filter_map(lists::waiting_events).sum();
    let overdue = snapshot.waiting.overdue_retries;
    Tile {
        label: "Retries waiting",
        value: snapshot.waiting.retries.map_or_else(|| "–".to_owned(), grouped),
        unit: String::new(),
        note: match snapshot.waiting.error {
            Some(_) => "RabbitMQ does not answer".to_owned(),
            None if overdue > 0 => format!("{} overdue, see provisiond check", grouped(overdue)),
            None => format!("{} waiting for a worker", counted(events, "event", "events")),
        },
        href: Fields::default().with("disposition", "retrying").href("/executions"),
        is_alarm: snapshot.waiting.error.is_some() || overdue > 0,
    }
}

fn workers(snapshot: &StatusSnapshot) -> Tile {
    let workers: Vec<_> =
        snapshot.processes.iter().filter(|seen| seen.process.roles.contains(&Role::Worker)).collect();
    let in_flight: u64 = workers
        .iter()
        .filter_map(|seen| seen.process.report.worker.as_ref())
        .map(|worker| worker.in_flight)
        .sum();
    Tile {
        label: "Workers",
        value: workers.len().to_string(),
        unit: String::new(),
        note: if workers.is_empty() {
            "no worker takes events".to_owned()
        } else {
            format!("seen in the last minute, {} in flight", counted(in_flight, "event", "events"))
        },
        href: "#processes".to_owned(),
        is_alarm: workers.is_empty(),
    }
}

/// A share in percent, with one decimal.
fn percent(part: u64, total: u64) -> String {
    if total == 0 {
        return "–".to_owned();
    }
    let tenths = part.saturating_mul(1000) / total;
    format!("{}.{} %", tenths / 10, tenths % 10)
}

fn reasons(snapshot: &StatusSnapshot) -> Vec<DeadLetterCount> {
    let lines = snapshot.open_dead_letters.reasons.iter().map(|line| DeadLetterCount {
        label: spaced(line.reason.as_str()),
        count: grouped(line.count),
        href: Fields::default().with("reason", line.reason.as_str()).href("/dead-letters"),
    });
    lines.collect()
}

fn handlers(snapshot: &StatusSnapshot) -> Vec<DeadLetterCount> {
    let lines = snapshot.open_dead_letters.handlers.iter().map(|line| DeadLetterCount {
        label: handler_name(line.handler_id, line.handler_name.as_deref(), line.deleted),
        count: grouped(line.count),
        href: Fields::default().with("handler", line.handler_id.to_string()).href("/dead-letters"),
    });
    lines.collect()
}
