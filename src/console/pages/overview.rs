//! The overview page: the status of the installation as tiles, charts and short lists, with links to the details.

mod charts;
mod lists;

use askama::Template;
use axum::extract::State as Of;

use self::{
    charts::{Chart, durations, events, outcomes},
    lists::{Circuit, Failing, Process, Queue, circuits, failing, processes, queues},
};
use super::{
    Answer,
    fields::{Asked, Fields},
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
struct Letters {
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
    reasons: Vec<Letters>,
    handlers: Vec<Letters>,
    queues: Vec<Queue>,
    broker_problem: String,
    queue_problems: Vec<String>,
    processes: Vec<Process>,
}

pub async fn overview(Viewer(somebody): Viewer, Of(console): Of<Console>, Asked(asked): Asked) -> Answer {
    let is_day = asked.get("period") == "day";
    let picture = console.overview.snapshot(if is_day { Period::Day } else { Period::Hour }).await?;
    let activity = &picture.activity;
    html(&OverviewPage {
        frame: Frame::in_section(Section::Overview, "Overview", &somebody).telling(&asked),
        is_day,
        tiles: tiles(&picture, is_day),
        charts: vec![outcomes(activity), events(activity), durations(activity)],
        failing: failing(&picture),
        circuits: circuits(&picture),
        reasons: reasons(&picture),
        handlers: handlers(&picture),
        queues: queues(&picture.waiting),
        broker_problem: picture.waiting.error.clone().unwrap_or_default(),
        queue_problems: queue_problems(&picture.waiting, &picture.policies),
        processes: processes(&picture.processes),
    })
}

fn queue_problems(waiting: &Waiting, seen: &Policies) -> Vec<String> {
    let unknown_queues = waiting.unknown_queues.iter().map(ToString::to_string);
    let harmful = seen.harmful.iter().map(ToString::to_string);
    let unknown = seen.error.iter().map(|error| format!("cannot read the policies of the queues: {error}"));
    let policies = harmful.chain(unknown).map(|problem| capital(&problem));
    unknown_queues.chain(policies).collect()
}

fn tiles(picture: &StatusSnapshot, is_day: bool) -> Vec<Tile> {
    let total = &picture.activity.total;
    let period = if is_day { "in 24 h" } else { "in the last hour" };
    let failed = total.retrying + total.dead_lettered;
    let attempts = total.done + total.forbidden + failed;
    let since = Fields::default().with("since", picture.activity.since.to_string());
    let letters = &picture.open_dead_letters;
    vec![
        Tile {
            label: "Events",
            value: charts::rate(&picture.activity),
            unit: "a second".to_owned(),
            note: format!("{} {period}", grouped(total.events)),
            href: since.href("/executions"),
            is_alarm: false,
        },
        Tile {
            label: "Succeeded",
            value: share(attempts - failed, attempts),
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
        waiting(picture),
        Tile {
            label: "Open dead letters",
            value: grouped(letters.total),
            unit: String::new(),
            note: if letters.total == 0 { "nothing to do" } else { "edit, replay or discard them" }
                .to_owned(),
            href: "/dead-letters".to_owned(),
            is_alarm: letters.total > 0,
        },
        workers(picture),
    ]
}

fn waiting(picture: &StatusSnapshot) -> Tile {
    let events: u64 = picture.waiting.queues.iter().filter_map(lists::waiting_events).sum();
    let overdue = picture.waiting.overdue_retries;
    Tile {
        label: "Retries waiting",
        value: picture.waiting.retries.map_or_else(|| "–".to_owned(), grouped),
        unit: String::new(),
        note: match picture.waiting.error {
            Some(_) => "RabbitMQ does not answer".to_owned(),
            None if overdue > 0 => format!("{} overdue, see provisiond check", grouped(overdue)),
            None => format!("{} waiting for a worker", counted(events, "event", "events")),
        },
        href: Fields::default().with("disposition", "retrying").href("/executions"),
        is_alarm: picture.waiting.error.is_some() || overdue > 0,
    }
}

fn workers(picture: &StatusSnapshot) -> Tile {
    let workers: Vec<_> =
        picture.processes.iter().filter(|seen| seen.process.roles.contains(&Role::Worker)).collect();
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
fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let tenths = part.saturating_mul(1000) / whole;
    format!("{}.{} %", tenths / 10, tenths % 10)
}

fn reasons(picture: &StatusSnapshot) -> Vec<Letters> {
    let lines = picture.open_dead_letters.reasons.iter().map(|line| Letters {
        label: spaced(line.reason.as_str()),
        count: grouped(line.count),
        href: Fields::default().with("reason", line.reason.as_str()).href("/dead-letters"),
    });
    lines.collect()
}

fn handlers(picture: &StatusSnapshot) -> Vec<Letters> {
    let lines = picture.open_dead_letters.handlers.iter().map(|line| Letters {
        label: handler_name(line.handler_id, line.handler_name.as_deref(), line.deleted),
        count: grouped(line.count),
        href: Fields::default().with("handler", line.handler_id.to_string()).href("/dead-letters"),
    });
    lines.collect()
}
