//! `executions replay`.

use uuid::Uuid;

use super::Filter;
use crate::{
    cli::{
        context::Context,
        error::CliError,
        replays::{Flags, replay_selection, resume},
        time::parse_id,
    },
    domain::{
        event::EventName,
        replay::{ReplayScope, Source},
    },
    store::Selection,
};

#[derive(clap::Args)]
#[command(after_help = "\
The handler of each execution runs again, alone, with the event that was sent to it. For an execution without a handler
(no_handler), all handlers that are enabled for the event now run. --event without a name replays whole events.
The event keeps its id. Several attempts of one handler for one event are replayed once.
To continue a replay that was stopped or killed, use --resume.")]
pub(in crate::cli) struct Args {
    /// Ids of executions, as the list shows them
    #[arg(value_parser = parse_id, value_name = "ID")]
    ids: Vec<Uuid>,
    #[command(flatten)]
    flags: Flags,
    /// Replay handlers only, and skip executions without a handler
    #[arg(long, conflicts_with = "whole_event")]
    handler_only: bool,
    /// Replay whole events: all handlers that are enabled for them now (like --event without a name)
    #[arg(long)]
    whole_event: bool,
    /// Only of this event type; without a name: replay whole events instead of handlers
    #[arg(long, num_args = 0..=1, default_missing_value = "", value_name = "NAME")]
    event: Vec<String>,
    #[command(flatten)]
    filter: Filter,
}

pub(in crate::cli) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let Args { ids, flags, handler_only, whole_event, event, filter } = args;
    if let Some(job) = flags.resume {
        return resume(context, Source::Executions, job, &flags).await;
    }
    let whole_event = whole_event || event.iter().any(String::is_empty);
    let event = event.into_iter().find(|name| !name.is_empty());
    let event: Option<EventName> = event.map(|name| name.parse()).transpose().map_err(CliError::usage)?;
    let scope = match (handler_only, whole_event) {
        (true, true) => return Err(CliError::usage("--handler-only and --event without a name conflict")),
        (true, false) => ReplayScope::HandlerOnly,
        (false, true) => ReplayScope::WholeEvent,
        (false, false) => ReplayScope::AsRecorded,
    };
    let filter = filter.with(event);
    let mut description = filter.to_string();
    let selection = match (ids.is_empty(), description.is_empty()) {
        (false, true) => {
            description = format!("{} by id", ids.len());
            Selection::Executions(ids, scope)
        }
        (true, false) => Selection::ExecutionsBy(filter, scope),
        (false, false) => {
            return Err(CliError::usage("select executions by ids or by a filter, not by both"));
        }
        (true, true) => {
            return Err(CliError::usage(
                "which executions? Name their ids, or a filter such as --disposition no_handler --since 2h",
            ));
        }
    };
    if scope == ReplayScope::WholeEvent {
        description.push_str(", the whole event");
    }
    replay_selection(context, selection, &description, &flags).await
}
