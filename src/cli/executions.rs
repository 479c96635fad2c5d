//! `executions`: the Execution Logs.

use std::time::Duration;

use clap::Subcommand;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    context::Context,
    error::CliError,
    output::{facts, moment, short, table},
    time::parse_time,
};
use crate::{
    domain::{
        event::{EventId, EventName},
        execution::{Disposition, EventRef, Execution, HandlerRef, Status},
        handler::HandlerId,
    },
    store::{Cursor, ExecutionFilter, ExecutionRow},
};

const TAIL_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Subcommand)]
pub(super) enum Command {
    /// List executions, newest first
    List(List),
    /// Show an execution whole: what was sent, what was answered
    Show { id: Uuid },
    /// Print executions as they are recorded, until Ctrl-C
    Tail(Filter),
}

#[derive(clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: Filter,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Go on where another page ended
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
}

#[derive(clap::Args)]
pub(super) struct Filter {
    #[arg(long, value_name = "success|fail|skipped")]
    status: Option<Status>,
    /// What became of it: done, forbidden, retrying, dead_lettered, handler_off, not_reached, no_handler, duplicate
    #[arg(long)]
    disposition: Option<Disposition>,
    #[arg(long)]
    event: Option<EventName>,
    /// The handler's id
    #[arg(long)]
    handler: Option<HandlerId>,
    #[arg(long)]
    object_id: Option<String>,
    #[arg(long)]
    event_id: Option<String>,
    /// With this text in what was sent or answered
    #[arg(long)]
    data: Option<String>,
    /// With this text in the error
    #[arg(long)]
    error: Option<String>,
    /// From this time on: 2026-01-31, 2026-01-31T12:00:00Z, or an age such as 2h
    #[arg(long, value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_parser = parse_time)]
    until: Option<Timestamp>,
}

impl TryFrom<Filter> for ExecutionFilter {
    type Error = CliError;

    fn try_from(filter: Filter) -> Result<Self, CliError> {
        let Filter { status, disposition, event, handler, object_id, event_id, data, error, since, until } =
            filter;
        let event_id = event_id.map(EventId::try_from).transpose().map_err(CliError::usage)?;
        Ok(Self { status, disposition, event, handler, object_id, event_id, data, error, since, until })
    }
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), CliError> {
    let store = context.store()?;
    match command {
        Command::List(List { filter, limit, after }) => {
            let page = store.list_executions(&filter.try_into()?, limit as usize, after).await?;
            context.output.value(&page.items, |rows| list_table(rows))?;
            if let Some(next) = page.next {
                Context::hint(&format!("there are more: --after {next}"));
            }
            Ok(())
        }
        Command::Show { id } => context.output.value(&store.execution(id).await?, one),
        Command::Tail(filter) => tail(context, &filter.try_into()?).await,
    }
}

/// Follows the table until the process is told to end.
async fn tail(context: &Context, filter: &ExecutionFilter) -> Result<(), CliError> {
    let store = context.store()?;
    let mut seen: Option<Cursor> = None;
    loop {
        // The table is read a second late, so that nothing is committed behind what was seen.
        let looked_at = Timestamp::now() - Duration::from_secs(1);
        for row in store.tail_executions(filter, if seen.is_none() { 10 } else { 1000 }, seen).await? {
            seen = Some(Cursor { at: row.recorded_at, id: row.id });
            if context.output.is_json() {
                context.output.json_line(&row)?;
            } else {
                context.output.text(&summary(&Brief::from(&row)))?;
            }
        }
        seen = seen.or(Some(Cursor { at: looked_at, id: Uuid::nil() }));
        tokio::time::sleep(TAIL_INTERVAL).await;
    }
}

/// What every list shows of an execution.
pub(super) struct Brief<'a> {
    event: &'a EventRef,
    handler: Option<&'a HandlerRef>,
    disposition: Disposition,
    attempt: (u32, u32),
    error: Option<&'a str>,
    started_at: Timestamp,
    duration_ms: u64,
}

/// An execution whole, and a row of a list, show the same.
macro_rules! brief_of {
    ($($type:ty),+) => { $(
        impl<'a> From<&'a $type> for Brief<'a> {
            fn from(e: &'a $type) -> Self {
                Self {
                    event: &e.event,
                    handler: e.handler.as_ref(),
                    disposition: e.disposition,
                    attempt: (e.attempt, e.max_attempts),
                    error: e.error.as_deref(),
                    started_at: e.started_at,
                    duration_ms: e.duration_ms,
                }
            }
        }
    )+ };
}
brief_of!(Execution, ExecutionRow);

impl Brief<'_> {
    /// The status; and the disposition, where that says more.
    fn status(&self) -> String {
        match self.disposition {
            Disposition::Done => self.disposition.status().to_string(),
            disposition => format!("{}: {disposition}", disposition.status()),
        }
    }

    fn handler_name(&self) -> String {
        let name = |handler: &HandlerRef| {
            handler.name.as_ref().map_or_else(|| handler.id.to_string(), ToString::to_string)
        };
        self.handler.map_or_else(|| "–".to_owned(), name)
    }

    fn attempt(&self) -> String {
        match self.attempt {
            (0, _) => "–".to_owned(),
            (attempt, 0) => attempt.to_string(),
            (attempt, most) => format!("{attempt}/{most}"),
        }
    }
}

fn list_table(rows: &[ExecutionRow]) -> String {
    if rows.is_empty() {
        return "no executions\n".to_owned();
    }
    let header = ["ID", "Status", "Date", "Event", "Handler", "Object ID", "Attempt", "Error", "Duration"];
    table(
        header,
        rows.iter().map(|row| {
            let brief = Brief::from(row);
            [
                row.id.to_string(),
                brief.status(),
                moment(row.started_at),
                row.event.name.to_string(),
                short(&brief.handler_name(), 30),
                short(&row.event.object_id, 30),
                brief.attempt(),
                short(row.error.as_deref().unwrap_or_default(), 80),
                format!("{} ms", row.duration_ms),
            ]
        }),
    )
}

/// One line, for what comes as a stream.
pub(super) fn summary(brief: &Brief<'_>) -> String {
    let error = brief.error.map(|error| format!("  {}", short(error, 200))).unwrap_or_default();
    format!(
        "{}  {:<20} {}  object {}  {}  attempt {}  {} ms{error}\n",
        moment(brief.started_at),
        brief.status(),
        brief.event.name,
        short(&brief.event.object_id, 30),
        short(&brief.handler_name(), 30),
        brief.attempt(),
        brief.duration_ms,
    )
}

fn one(e: &Execution) -> String {
    let task = e.handler.as_ref().and_then(|handler| handler.task.as_ref());
    let response = e.response.clone().unwrap_or_default();
    let brief = Brief::from(e);
    facts(&[
        ("ID", e.id.to_string()),
        ("Status", brief.status()),
        ("Date", moment(e.started_at)),
        ("Event", format!("{} of {}", e.event.name, moment(e.event.dt))),
        ("Event ID", e.event.id.to_string()),
        ("Run ID", e.run_id.to_string()),
        ("Object ID", e.event.object_id.clone()),
        (
            "Handler",
            e.handler.as_ref().map(|h| format!("{} (id {})", brief.handler_name(), h.id)).unwrap_or_default(),
        ),
        ("Target", task.map(|task| format!("{} {}", task.kind, task.target)).unwrap_or_default()),
        ("Attempt", brief.attempt()),
        ("Error", e.error.clone().unwrap_or_default()),
        ("Next attempt", e.retry_at.map(moment).unwrap_or_default()),
        ("Duration", format!("{} ms", e.duration_ms)),
        ("Worker", format!("{} pid {} version {}", e.worker.host, e.worker.pid, e.worker.version)),
        ("Trace", e.trace_id.clone().unwrap_or_default()),
        ("Sent", e.request.get().to_owned()),
        ("Modified", if e.modified { "yes, for the handlers after it" } else { "" }.to_owned()),
        ("HTTP status", response.http_status.map(|s| s.to_string()).unwrap_or_default()),
        ("Exit code", response.exit_code.map(|c| c.to_string()).unwrap_or_default()),
        ("Signal", response.signal.map(|s| s.to_string()).unwrap_or_default()),
        ("Answer", response.body.unwrap_or_default()),
        ("Stdout", response.stdout.unwrap_or_default()),
        ("Stderr", response.stderr.unwrap_or_default()),
        ("Truncated", if response.truncated { "yes" } else { "" }.to_owned()),
    ])
}
