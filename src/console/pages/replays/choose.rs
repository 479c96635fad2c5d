//! Chooses what to replay, by ids or by a search, and starts the job after the confirmation.

use std::time::Duration;

use axum::{
    extract::{Path, State as AxumState},
    response::{IntoResponse, Redirect, Response},
};
use uuid::Uuid;

use super::confirm::{Choice, confirm};
use crate::{
    console::{
        Console,
        access::{Identity, Operator},
        pages::{
            Answer, dead_letters, executions,
            fields::{Errors, Fields, Form, Query},
        },
        problem::Problem,
    },
    domain::{
        dead_letter::State,
        replay::{MAX_RATE, ReplayLimits, ReplayScope, Source},
    },
    store::{DeadLetterFilter, NewReplay, Selection},
};

/// How long the request waits for a single replay. It usually ends in this time, and its page shows the result.
const START_TIMEOUT: Duration = Duration::from_secs(3);

fn ids(fields: &Fields) -> Result<Vec<Uuid>, Problem> {
    let parsed = fields.all("id").map(|id| {
        id.parse().map_err(|_| Problem::not_found(format!("there is no dead letter or execution {id}")))
    });
    parsed.collect()
}

fn dead_letters(fields: &Fields) -> Result<Choice, Problem> {
    let names: Vec<&str> = dead_letters::SEARCH.iter().map(|(name, _)| *name).collect();
    let ids = ids(fields)?;
    let source = Source::DeadLetters;
    if !ids.is_empty() {
        let hidden = fields.only(&["id"]).pairs().to_vec();
        return Ok(Choice {
            description: format!("{} by id", ids.len()),
            chosen: Selection::Letters(ids),
            source,
            hidden,
        });
    }
    let search = fields.only(&names);
    let mut errors = Errors::default();
    let filter = DeadLetterFilter { state: Some(State::Open), ..dead_letters::filter(&search, &mut errors) };
    check_errors(&errors)?;
    let description = match filter.to_string() {
        text if text.is_empty() => "all open dead letters".to_owned(),
        text => text,
    };
    Ok(Choice { description, chosen: Selection::LettersBy(filter), source, hidden: search.pairs().to_vec() })
}

fn executions(fields: &Fields) -> Result<Choice, Problem> {
    let names: Vec<&str> = executions::SEARCH.iter().map(|(name, _)| *name).collect();
    let scope = match fields.get("share") {
        "handler" => ReplayScope::HandlerOnly,
        "event" => ReplayScope::WholeEvent,
        _ => ReplayScope::AsRecorded,
    };
    let suffix = if scope == ReplayScope::WholeEvent { ", the whole event" } else { "" };
    let ids = ids(fields)?;
    let source = Source::Executions;
    if !ids.is_empty() {
        let hidden = fields.only(&["id", "share"]).pairs().to_vec();
        let description = format!("{} by id{suffix}", ids.len());
        return Ok(Choice { description, chosen: Selection::Executions(ids, scope), source, hidden });
    }
    let search = fields.only(&names);
    if search == Fields::default() {
        return Err(Problem::bad_request(
            "select executions with a search: all executions at once cannot be replayed",
        ));
    }
    let mut errors = Errors::default();
    let filter = executions::filter(&search, &mut errors);
    check_errors(&errors)?;
    let hidden = fields.only(&[&names[..], &["share"]].concat()).pairs().to_vec();
    let description = format!("{filter}{suffix}");
    Ok(Choice { description, chosen: Selection::ExecutionsBy(filter, scope), source, hidden })
}

fn check_errors(errors: &Errors) -> Result<(), Problem> {
    let messages: Vec<String> = errors.all().map(|(field, error)| format!("{field}: {error}")).collect();
    if messages.is_empty() { Ok(()) } else { Err(Problem::bad_request(messages.join("; "))) }
}

pub async fn ask_dead_letters(
    Operator(identity): Operator,
    AxumState(console): AxumState<Console>,
    Query(query): Query,
) -> Answer {
    confirm(&console, &identity, dead_letters(&query)?, &Fields::default(), Errors::default()).await
}

pub async fn ask_executions(
    Operator(identity): Operator,
    AxumState(console): AxumState<Console>,
    Query(query): Query,
) -> Answer {
    confirm(&console, &identity, executions(&query)?, &Fields::default(), Errors::default()).await
}

pub async fn replay_dead_letters(
    Operator(identity): Operator,
    AxumState(console): AxumState<Console>,
    Form(sent): Form,
) -> Answer {
    begin(&console, &identity, dead_letters(&sent)?, &sent).await
}

pub async fn replay_executions(
    Operator(identity): Operator,
    AxumState(console): AxumState<Console>,
    Form(sent): Form,
) -> Answer {
    begin(&console, &identity, executions(&sent)?, &sent).await
}

/// Replays one dead letter without a confirmation, because its page has shown the handlers that will run.
pub async fn replay_dead_letter(
    Operator(identity): Operator,
    AxumState(console): AxumState<Console>,
    Path(id): Path<String>,
) -> Answer {
    let id: Uuid = id.parse().map_err(|_| Problem::not_found(format!("there is no dead letter {id}")))?;
    let stored = console.store().dead_letter(id).await?;
    if stored.row.state != State::Open {
        return Err(Problem::conflict(format!("this dead letter is {} already", stored.row.state)));
    }
    let new = NewReplay { asked: "1 by id".to_owned(), caution: ReplayLimits::default(), by: identity.by() };
    let job = console.jobs.begin_and_wait(&new, &Selection::Letters(vec![id]), START_TIMEOUT).await?;
    Ok(watch(job.id))
}

fn watch(job: i64) -> Response {
    Redirect::to(&format!("/replays/{job}")).into_response()
}

async fn begin(console: &Console, identity: &Identity, choice: Choice, sent: &Fields) -> Answer {
    let mut errors = Errors::default();
    let rate = errors.optional("rate", sent.get("rate"), |text| {
        text.parse().ok().filter(|rate| (1..=MAX_RATE).contains(rate)).ok_or("must be 1 to 1000")
    });
    let max_failures = errors.optional("max_failures", sent.get("max_failures"), |text| {
        text.parse().ok().filter(|percent| *percent <= 100).ok_or("must be 0 to 100")
    });
    if !errors.is_empty() {
        return confirm(console, identity, choice, sent, errors).await;
    }
    let defaults = ReplayLimits::default();
    let limits = ReplayLimits {
        rate: rate.unwrap_or(defaults.rate),
        max_failures: max_failures.unwrap_or(defaults.max_failures),
    };
    let new = NewReplay { asked: choice.description, caution: limits, by: identity.by() };
    let job = match &choice.chosen {
        Selection::Letters(ids) | Selection::Executions(ids, _) if ids.len() == 1 => {
            console.jobs.begin_and_wait(&new, &choice.chosen, START_TIMEOUT).await?
        }
        _ => console.jobs.begin(&new, &choice.chosen).await?,
    };
    Ok(watch(job.id))
}
