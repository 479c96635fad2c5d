//! `dead-letters`: events, or parts of their plans, that were given up.

mod close;
mod filter;
mod peek;
mod replay;
mod show;

use clap::Subcommand;
use uuid::Uuid;

use super::{
    context::Context,
    error::CliError,
    output::{format_time, or_dash, short, table},
    time::parse_id,
};
use crate::store::{Cursor, DeadLetterRow, Summary};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List dead letters, newest first, and count them by reason and handler
    List(List),
    /// Show a dead letter: the reason, the event, every attempt, and what a replay would run
    Show {
        /// Id of the dead letter, as the list shows it
        #[arg(value_parser = parse_id)]
        id: Uuid,
    },
    /// Replay dead letters: counts them first, limits the rate, sends each once
    Replay(Box<replay::Args>),
    /// Discard dead letters that do not need a replay
    Discard(Box<close::Discard>),
    /// Write dead letters as JSON lines, with their exact bodies
    Export(Box<close::Export>),
    /// Show the messages that wait in a queue of the broker, without removing them
    Peek(peek::Args),
}

#[derive(clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: filter::Filter,
    #[command(flatten)]
    reason: filter::ReasonArg,
    #[command(flatten)]
    state: filter::StateArg,
    /// Show at most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Continue after this cursor, which the previous page printed
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::List(args) => list(context, args).await,
        Command::Show { id } => show::run(context, id).await,
        Command::Replay(args) => replay::run(context, *args).await,
        Command::Discard(args) => close::discard(context, *args).await,
        Command::Export(args) => close::export(context, *args).await,
        Command::Peek(args) => peek::run(context, &args).await,
    }
}

async fn list(context: &Context, args: List) -> Result<(), CliError> {
    let store = context.store()?;
    let List { filter, reason, state, limit, after } = args;
    let state = state.state;
    let filter = filter.with(reason, state);
    let page = store.list_dead_letters(&filter, limit as usize, after).await?;
    context.output.value(&page.items, |rows| list_table(rows))?;
    if let Some(next) = page.next {
        Context::hint(&format!("there are more: --after {next}"));
    }
    if context.output.is_json() || page.items.is_empty() {
        return Ok(());
    }
    let summary = store.dead_letter_summary(&filter, None).await?;
    context.output.text(&summary_line(&summary, state.as_str()))
}

fn summary_line(summary: &Summary, state: &str) -> String {
    let Summary { total, cut, lines } = summary;
    let parts = lines.iter().map(|line| {
        let handler = line.handler_name.as_deref().map(|name| format!(" of {}", short(name, 30)));
        format!("{} {}{}", line.count, line.reason, handler.unwrap_or_default())
    });
    let parts = parts.collect::<Vec<_>>().join(", ");
    let prefix = if *cut { "at least " } else { "" };
    format!("{prefix}{total} {state}: {parts}\n")
}

fn list_table(rows: &[DeadLetterRow]) -> String {
    if rows.is_empty() {
        return "no dead letters\n".to_owned();
    }
    table(
        ["ID", "Died (UTC)", "Event", "Object ID", "Reason", "Handler", "Attempts", "Error"],
        rows.iter().map(|row| {
            let dead_letter = &row.letter;
            [
                dead_letter.id.to_string(),
                format_time(dead_letter.died_at),
                short(&dead_letter.event_name, 60),
                short(dead_letter.object_id.as_deref().unwrap_or("–"), 30),
                dead_letter.reason.to_string(),
                dead_letter
                    .handler_name
                    .as_ref()
                    .map_or_else(|| or_dash(dead_letter.handler_id), |name| short(name.as_str(), 30)),
                dead_letter.attempts.to_string(),
                short(&dead_letter.error, 80),
            ]
        }),
    )
}
