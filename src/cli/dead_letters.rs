//! `dead-letters`: events, or shares of them, that were given up.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::Subcommand;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{
    context::Context,
    error::CliError,
    executions::summary,
    output::{facts, moment, or_dash, short, table},
    time::{parse_id, parse_time},
};
use crate::{
    domain::{
        dead_letter::{Reason, State},
        execution::Execution,
        handler::HandlerId,
    },
    store::{Cursor, DeadLetterFilter, DeadLetterRow, StoredDeadLetter},
};

/// In JSON each attempt comes whole, with its bodies: the latest of them.
const WHOLE_ATTEMPTS: usize = 100;

#[derive(Subcommand)]
pub(super) enum Command {
    /// List dead letters, newest first
    List(List),
    /// Show a dead letter whole: why, the event, every attempt
    Show {
        /// Its id, as the list shows it
        #[arg(value_parser = parse_id)]
        id: Uuid,
    },
}

#[derive(clap::Args)]
pub(super) struct List {
    #[arg(long)]
    event: Option<String>,
    #[arg(long)]
    event_id: Option<String>,
    /// The handler's id
    #[arg(long)]
    handler: Option<HandlerId>,
    #[arg(long, value_name = "malformed|permanent|exhausted|crash_loop|unrouted|expired")]
    reason: Option<Reason>,
    #[arg(long)]
    object_id: Option<String>,
    /// With this text in the body or the error
    #[arg(long)]
    text: Option<String>,
    /// Died from this time on: 2026-01-31, 2026-01-31T12:00:00Z, or an age such as 2h
    #[arg(long, value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Died before this time
    #[arg(long, value_parser = parse_time)]
    until: Option<Timestamp>,
    /// If absent: open ones
    #[arg(long, value_name = "open|replayed|discarded", default_value = "open")]
    state: State,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Go on where another page ended
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::List(args) => list(context, args).await,
        Command::Show { id } => show(context, id).await,
    }
}

async fn list(context: &Context, args: List) -> Result<(), CliError> {
    let store = context.store()?;
    let List { event, event_id, handler, reason, object_id, text, since, until, state, limit, after } = args;
    let filter = DeadLetterFilter {
        event,
        handler,
        reason,
        object_id,
        text,
        since,
        until,
        state: Some(state),
        event_id,
    };
    let page = store.list_dead_letters(&filter, limit as usize, after).await?;
    context.output.value(&page.items, |letters| list_table(letters))?;
    if let Some(next) = page.next {
        Context::hint(&format!("there are more: --after {next}"));
    }
    if context.output.is_json() {
        return Ok(());
    }
    let lines = store.dead_letter_summary(&filter).await?;
    let total: i64 = lines.iter().map(|line| line.count).sum();
    let parts = lines.iter().map(|line| {
        let handler = line.handler_name.as_deref().map(|name| format!(" of {name}")).unwrap_or_default();
        format!("{} {}{handler}", line.count, line.reason)
    });
    let parts = parts.collect::<Vec<_>>().join(", ");
    context.output.text(&if total == 0 { String::new() } else { format!("{total} {state}: {parts}\n") })
}

fn list_table(letters: &[DeadLetterRow]) -> String {
    if letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    table(
        ["ID", "Died (UTC)", "Event", "Object ID", "Reason", "Handler", "Attempts", "Error"],
        letters.iter().map(|letter| {
            let facts = &letter.letter;
            [
                facts.id.to_string(),
                moment(facts.died_at),
                short(&facts.event_name, 60),
                short(facts.object_id.as_deref().unwrap_or("–"), 30),
                facts.reason.to_string(),
                facts
                    .handler_name
                    .as_ref()
                    .map_or_else(|| or_dash(facts.handler_id), |name| short(name.as_str(), 30)),
                facts.attempts.to_string(),
                short(&facts.error, 80),
            ]
        }),
    )
}

async fn show(context: &Context, id: Uuid) -> Result<(), CliError> {
    let store = context.store()?;
    let letter = store.dead_letter(id).await?;
    let facts = &letter.row.letter;
    // Of its handler, or of all where the whole event was given up.
    let attempts = match &facts.event_id {
        Some(event_id) => store.attempts(event_id, facts.handler_id).await?,
        None => Vec::new(),
    };
    if context.output.is_json() {
        let mut whole = Vec::new();
        for attempt in attempts.iter().rev().take(WHOLE_ATTEMPTS) {
            whole.push(store.execution(attempt.id).await?);
        }
        return context.output.json(&Shown::of(&letter, &whole));
    }
    let mut text = one(&letter);
    text.push_str("\nEvery attempt:\n");
    text.extend(attempts.iter().map(|attempt| summary(&attempt.into())));
    if attempts.is_empty() {
        text.push_str("none was recorded\n");
    }
    context.output.text(&text)
}

/// A dead letter in JSON: the body as text, or in base64 where it is none.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    row: &'a DeadLetterRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    content_type: Option<&'a str>,
    /// How it was published, where that is known.
    exchange: Option<&'a str>,
    routing_key: Option<&'a str>,
    traceparent: Option<&'a str>,
    tracestate: Option<&'a str>,
    executions: &'a [Execution],
}

impl<'a> Shown<'a> {
    fn of(letter: &'a StoredDeadLetter, executions: &'a [Execution]) -> Self {
        let body = std::str::from_utf8(&letter.body).ok();
        let body_base64 = body.is_none().then(|| BASE64_STANDARD.encode(&letter.body));
        Self {
            row: &letter.row,
            body,
            body_base64,
            content_type: letter.content_type.as_deref(),
            exchange: letter.exchange.as_deref(),
            routing_key: letter.routing_key.as_deref(),
            traceparent: letter.trace.parent.as_deref(),
            tracestate: letter.trace.state.as_deref(),
            executions,
        }
    }
}

fn one(letter: &StoredDeadLetter) -> String {
    let f = &letter.row.letter;
    let handler = f.handler_name.as_ref().map(ToString::to_string);
    let plan = f.plan.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    facts(&[
        ("ID", f.id.to_string()),
        ("State", letter.row.state.to_string()),
        ("Why", format!("{}: {}", why(f.reason), f.error)),
        ("Event", f.event_name.clone()),
        ("Event ID", f.event_id.clone().unwrap_or_default()),
        ("Object ID", f.object_id.clone().unwrap_or_default()),
        (
            "Handler",
            f.handler_id.map(|id| format!("{} (id {id})", handler.unwrap_or_default())).unwrap_or_default(),
        ),
        ("Attempts", f.attempts.to_string()),
        ("First failed", f.first_failed_at.map(moment).unwrap_or_default()),
        ("Died", moment(f.died_at)),
        (
            "A replay runs",
            if plan.is_empty() {
                "what is enabled for the event by then".into()
            } else {
                format!("handlers {plan}")
            },
        ),
        ("Body", String::from_utf8_lossy(&letter.body).into_owned()),
    ])
}

/// The reason, in a sentence's words.
const fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Malformed => "it is malformed",
        Reason::Permanent => "the handler failed in a way that trying again does not mend",
        Reason::Exhausted => "every attempt failed",
        Reason::CrashLoop => "it was delivered again and again without being settled",
        Reason::Unrouted => "no queue took it",
        Reason::Expired => "it waited longer than its queue allows",
    }
}
