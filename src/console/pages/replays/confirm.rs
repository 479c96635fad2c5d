//! The confirmation page of a replay: the number of items by event type and handler, and the limits of the job.

use askama::Template;
use axum::http::StatusCode;

use crate::{
    console::{
        Console,
        access::Identity,
        pages::{
            Answer,
            fields::{Errors, Fields},
            format::{counted, grouped, short, unsigned},
            html,
            layout::{Frame, Section},
            with_status,
        },
    },
    domain::replay::{ReplayLimits, Source},
    store::{PlanLine, Selection},
};

/// The chosen items and their description.
pub(super) struct Choice {
    pub chosen: Selection,
    pub source: Source,
    /// The description that is stored with the job.
    pub description: String,
    /// The hidden fields with which the form chooses the same items again.
    pub hidden: Vec<(String, String)>,
}

struct Line {
    count: String,
    event: String,
    handler: String,
    tone: &'static str,
    now: String,
}

#[derive(Template)]
#[template(path = "replays/confirm.html")]
struct ConfirmPage {
    frame: Frame,
    problem: String,
    title: String,
    summary: String,
    total: u64,
    total_text: String,
    nothing: &'static str,
    lines: Vec<Line>,
    will_refuse: bool,
    action: &'static str,
    cancel: &'static str,
    cancel_word: &'static str,
    hidden: Vec<(String, String)>,
    rate: String,
    max_failures: String,
    errors: Errors,
}

pub(super) async fn confirm(
    console: &Console,
    identity: &Identity,
    choice: Choice,
    typed: &Fields,
    errors: Errors,
) -> Answer {
    let plan = console.dead_letters.plan(&choice.chosen).await?;
    let total = unsigned(plan.iter().map(|line| line.count).sum());
    let defaults = ReplayLimits::default();
    let typed_or = |name, default: String| if typed.has(name) { typed.get(name).to_owned() } else { default };
    let (action, cancel, cancel_word, section, nothing) = match choice.source {
        Source::DeadLetters => (
            "/dead-letters/replay",
            "/dead-letters",
            "Dead Letters",
            Section::DeadLetters,
            "No open dead letter is selected.",
        ),
        Source::Executions => (
            "/executions/replay",
            "/executions",
            "Execution Logs",
            Section::Executions,
            "None of these can be replayed.",
        ),
    };
    let total_text = if total == 1 { "it".to_owned() } else { grouped(total) };
    let title = format!("Replay {}?", counted(total, "event", "events"));
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let page = ConfirmPage {
        frame: Frame::in_section(section, &title, identity),
        problem: String::new(),
        title,
        summary: format!("Selected: {}. Each is sent back to its handlers once.", choice.description),
        total,
        total_text,
        nothing,
        will_refuse: plan.iter().any(|line| line.enabled == 0),
        lines: plan.iter().map(line).collect(),
        action,
        cancel,
        cancel_word,
        hidden: choice.hidden,
        rate: typed_or("rate", defaults.rate.to_string()),
        max_failures: typed_or("max_failures", defaults.max_failures.to_string()),
        errors,
    };
    with_status(status, html(&page))
}

fn line(line: &PlanLine) -> Line {
    let name = line.handler_name.as_deref().unwrap_or_default();
    let (tone, now) = match (line.handler_id, line.enabled) {
        _ if line.replaced => ("", "does not exist any more: another handler has its id".to_owned()),
        (Some(_), 0) => ("", "not enabled".to_owned()),
        (Some(_), _) => ("good", "enabled".to_owned()),
        (None, 0) => ("", "no handler is enabled".to_owned()),
        (None, n) => ("good", format!("{n} enabled")),
    };
    Line {
        count: grouped(unsigned(line.count)),
        event: short(&line.event, 80),
        handler: line
            .handler_id
            .map_or_else(|| "the whole event".to_owned(), |id| format!("{} ({id})", short(name, 60))),
        tone,
        now,
    }
}
