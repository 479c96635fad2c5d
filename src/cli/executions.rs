//! `executions`: the Execution Logs.

mod replay;
mod show;

use std::time::Duration;

use clap::Subcommand;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    context::Context,
    error::CliError,
    time::{parse_id, parse_time},
};
use crate::{
    domain::{
        event::{EventId, EventName},
        execution::{Disposition, Status},
        handler::HandlerId,
    },
    store::{Cursor, ExecutionFilter, StoreError},
};
pub(super) use show::{Brief, summary};
use show::{details, list_table};

const TAIL_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Subcommand)]
pub(super) enum Command {
    /// List executions, newest first
    List(List),
    /// Show an execution: what was sent and what was answered
    Show {
        /// Id of the execution, as the list shows it
        #[arg(value_parser = parse_id)]
        id: Uuid,
    },
    /// Print the last ten executions, and then each new one until Ctrl-C
    Tail(Tail),
    /// Replay handlers or whole events: counts them first, limits the rate
    Replay(Box<replay::Args>),
}

#[derive(clap::Args)]
pub(super) struct Tail {
    /// Only of this event type
    #[arg(long, value_name = "EVENT_TYPE")]
    event: Option<EventName>,
    #[command(flatten)]
    filter: Filter,
}

#[derive(clap::Args)]
pub(super) struct List {
    /// Only of this event type
    #[arg(long, value_name = "EVENT_TYPE")]
    event: Option<EventName>,
    #[command(flatten)]
    filter: Filter,
    /// Show at most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Continue after this cursor, which the previous page printed
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
}

#[derive(clap::Args)]
pub(super) struct Filter {
    /// Only with this status
    #[arg(long, value_name = "success|fail|skipped")]
    status: Option<Status>,
    /// Only with this disposition: done, forbidden, retrying, dead_lettered, handler_off, not_reached, no_handler,
    /// duplicate, not_answered
    #[arg(long)]
    disposition: Option<Disposition>,
    /// Only of the handler with this id
    #[arg(long)]
    handler: Option<HandlerId>,
    /// Only of events about this object, such as a client's id
    #[arg(long, allow_hyphen_values = true)]
    object_id: Option<String>,
    /// Only of the event with this id
    #[arg(long, allow_hyphen_values = true)]
    event_id: Option<String>,
    /// Only with this text in the request or the answer
    #[arg(long, allow_hyphen_values = true)]
    data: Option<String>,
    /// Only with this text in the error
    #[arg(long, allow_hyphen_values = true)]
    error: Option<String>,
    /// Only started at or after this time: 2026-01-31, 2026-01-31T12:00:00Z, or an age such as 2h
    #[arg(long, value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Only started before this time
    #[arg(long, value_parser = parse_time)]
    until: Option<Timestamp>,
}

impl Filter {
    fn with(self, event: Option<EventName>) -> ExecutionFilter {
        let Self { status, disposition, handler, object_id, event_id, data, error, since, until } = self;
        let event_id = event_id.map(|id| EventId::from_message_id(&id));
        ExecutionFilter {
            status,
            disposition,
            event,
            handler,
            object_id,
            event_id,
            data,
            error,
            since,
            until,
        }
    }
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), CliError> {
    let store = context.store()?;
    match command {
        Command::List(List { event, filter, limit, after }) => {
            let page = store.list_executions(&filter.with(event), limit as usize, after).await?;
            context.output.value(&page.items, |rows| list_table(rows))?;
            if let Some(next) = page.next {
                Context::hint(&format!("there are more: --after {next}"));
            }
            Ok(())
        }
        Command::Show { id } => context.output.value(&store.execution(id).await?, details),
        Command::Replay(args) => replay::run(context, *args).await,
        Command::Tail(Tail { event, filter }) => tail(context, &filter.with(event)).await,
    }
}

/// Prints new executions until the process ends. After the first read, it waits while PostgreSQL is away.
async fn tail(context: &Context, filter: &ExecutionFilter) -> Result<(), CliError> {
    let store = context.store()?;
    let mut last_seen: Option<Cursor> = None;
    let mut is_waiting = false;
    loop {
        // Rows are read a second late, so that no transaction commits a row behind the cursor.
        let cutoff = Timestamp::now() - Duration::from_secs(1);
        let limit = if last_seen.is_none() { 10 } else { 1000 };
        match store.tail_executions(filter, limit, last_seen).await {
            Ok(rows) => {
                is_waiting = false;
                for row in rows {
                    last_seen = Some(Cursor { at: row.recorded_at, id: row.id });
                    if context.output.is_json() {
                        context.output.json_line(&row)?;
                    } else {
                        context.output.text(&summary(&Brief::from(&row)))?;
                    }
                }
                last_seen = last_seen.or(Some(Cursor { at: cutoff, id: Uuid::nil() }));
            }
            Err(StoreError::Unavailable(why)) if last_seen.is_some() => {
                if !std::mem::replace(&mut is_waiting, true) {
                    Context::hint(&format!("waiting for PostgreSQL: {why}"));
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(TAIL_INTERVAL).await;
    }
}
