//! The filters that the `dead-letters` commands share.

use jiff::Timestamp;

use crate::{
    cli::{error::CliError, time::parse_time},
    domain::{
        dead_letter::{Reason, State},
        event::EventId,
        handler::HandlerId,
    },
    store::DeadLetterFilter,
};

/// All filters except the reason. `discard` calls that one `--died-of`, because its `--reason` is the operator's note.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Which dead letters")]
pub(super) struct Filter {
    /// Only of this event type
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Only of the event with this id
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    event_id: Option<String>,
    /// Only of the handler with this id
    #[arg(long, value_name = "ID")]
    handler: Option<HandlerId>,
    /// Only of events about this object
    #[arg(long = "object", alias = "object-id", value_name = "ID", allow_hyphen_values = true)]
    object: Option<String>,
    /// Only with this text in the body or the error
    #[arg(long, allow_hyphen_values = true)]
    text: Option<String>,
    /// Only given up at or after this time: 2026-01-31, 2026-01-31T12:00:00Z, or an age such as 2h
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only given up before this time
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    until: Option<Timestamp>,
}

#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Which dead letters")]
pub(super) struct ReasonArg {
    /// Only with this reason: malformed, permanent, exhausted, crash_loop, unrouted or expired
    #[arg(long, alias = "died-of", value_name = "REASON")]
    reason: Option<Reason>,
}

#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Which dead letters")]
pub(super) struct DiedOf {
    /// Only with this reason: malformed, permanent, exhausted, crash_loop, unrouted or expired
    #[arg(long, value_name = "REASON")]
    died_of: Option<Reason>,
}

#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Which dead letters")]
pub(super) struct StateArg {
    /// Only in this state: open, replayed or discarded
    #[arg(long, value_name = "STATE", default_value = "open")]
    pub state: State,
}

impl From<ReasonArg> for Option<Reason> {
    fn from(arg: ReasonArg) -> Self {
        arg.reason
    }
}

impl From<DiedOf> for Option<Reason> {
    fn from(arg: DiedOf) -> Self {
        arg.died_of
    }
}

impl Filter {
    pub(super) fn with(self, reason: impl Into<Option<Reason>>, state: State) -> DeadLetterFilter {
        let Self { event, event_id, handler, object, text, since, until } = self;
        let event_id = event_id.map(|id| EventId::from_message_id(&id).into());
        let (object_id, reason, state) = (object, reason.into(), Some(state));
        DeadLetterFilter { event, event_id, handler, reason, object_id, text, since, until, state }
    }
}

/// The dead letters that a command changes: given ids, or all that match a filter.
pub(super) enum Which {
    These(Vec<uuid::Uuid>),
    By(DeadLetterFilter),
}

impl Which {
    /// # Errors
    /// If neither ids, a filter nor `--all` is given, or ids together with one of the others.
    pub(super) fn of(ids: Vec<uuid::Uuid>, filter: DeadLetterFilter, all: bool) -> Result<Self, CliError> {
        let filtered = !filter.to_string().is_empty();
        match (ids.is_empty(), filtered || all) {
            (false, true) => Err(CliError::usage("select dead letters by ids or by a filter, not by both")),
            (false, false) => Ok(Self::These(ids)),
            (true, true) => Ok(Self::By(filter)),
            (true, false) => Err(CliError::usage(
                "which dead letters? Name their ids, or a filter such as --handler 3 or --since 2h, or --all",
            )),
        }
    }
}
