//! `dead-letters discard` and `dead-letters export`.

use std::pin::pin;

use clap::builder::NonEmptyStringValueParser;
use futures_util::TryStreamExt as _;
use serde::Serialize;
use uuid::Uuid;

use super::filter::{DiedOf, Filter, ReasonArg, StateArg, Which};
use crate::{
    cli::{
        context::Context,
        error::CliError,
        replays::{confirm, plan_table, total},
        time::parse_id,
    },
    dead_letters::ExportedLetter,
    domain::dead_letter::State,
    store::{Closing, Selection},
};

#[derive(clap::Args)]
pub(in crate::cli) struct Discard {
    /// Ids of dead letters, as the list shows them
    #[arg(value_parser = parse_id, value_name = "ID")]
    ids: Vec<Uuid>,
    /// Why no replay is needed; stored with each dead letter
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new(), allow_hyphen_values = true)]
    reason: String,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    died_of: DiedOf,
    /// Every open dead letter
    #[arg(long, help_heading = "Which dead letters")]
    all: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
    /// Only count what would be discarded
    #[arg(long)]
    dry_run: bool,
}

#[derive(clap::Args)]
pub(in crate::cli) struct Export {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    reason: ReasonArg,
    #[command(flatten)]
    state: StateArg,
}

#[derive(Serialize)]
struct Discarded {
    discarded: u64,
}

pub(super) async fn discard(context: &Context, args: Discard) -> Result<(), CliError> {
    let Discard { ids, reason, filter, died_of, all, yes, dry_run } = args;
    let dead_letters = context.dead_letters()?;
    let by = Context::operator();
    let discarded = match Which::of(ids, filter.with(died_of, State::Open), all)? {
        Which::These(ids) => {
            for id in &ids {
                super::replay::require_open(&dead_letters.store.dead_letter(*id).await?)?;
            }
            if dry_run {
                return context.output.text(&format!("{} would be discarded\n", ids.len()));
            }
            dead_letters.store.discard_dead_letters(Closing::These(&ids), &reason, &by).await?
        }
        Which::By(filter) => {
            let plan = dead_letters.plan(&Selection::LettersBy(filter.clone())).await?;
            let count = total(&plan);
            if dry_run {
                return context.output.value(&plan, |plan| plan_table(plan));
            }
            if count > 0 && !yes {
                context.output.text(&plan_table(&plan))?;
                let filter_text = filter.to_string();
                confirm(&format!("Discard {count} open dead letters ({filter_text}) permanently?"))?;
            }
            dead_letters.store.discard_dead_letters(Closing::By(&filter), &reason, &by).await?
        }
    };
    context.output.value(&Discarded { discarded }, |d| format!("discarded {}\n", d.discarded))
}

pub(super) async fn export(context: &Context, args: Export) -> Result<(), CliError> {
    let Export { filter, reason, state } = args;
    let filter = filter.with(reason, state.state);
    let dead_letters = context.dead_letters()?;
    let mut dead_letters = pin!(dead_letters.export(filter));
    while let Some(dead_letter) = dead_letters.try_next().await? {
        context.output.json_line(&ExportedLetter::of(&dead_letter))?;
    }
    Ok(())
}
