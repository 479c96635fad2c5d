//! Replays and discards dead letters.

use axum::{body::Bytes, extract::State, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{Filter, LetterState, Named, json};
use crate::{
    console::{
        Console,
        access::Operator,
        api::{
            extract::{Json, ObjectOf, OptionalJson},
            replays::{self, Pace, Plan},
        },
        problem::{FieldError, Problem},
    },
    dead_letters::edited_event,
    store::{Closing, DeadLetterFilter, Replay, Selection, StoredDeadLetter},
};

pub(super) fn routes() -> OpenApiRouter<Console> {
    OpenApiRouter::new()
        .routes(routes!(replay_one))
        .routes(routes!(replay_many))
        .routes(routes!(discard_one))
        .routes(routes!(discard_many))
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReplayLetter {
    /// An edited event, which replaces the original one and is sent exactly as written. It gets a new event id;
    /// otherwise receivers would take it for the original event.
    #[schema(value_type = Option<Object>)]
    event: Option<Box<RawValue>>,
}

/// Replay a dead letter
///
/// Runs the plan of the dead letter: its handler, or its handler and those that waited behind it. With `event`, replays
/// the edited event. If nothing would run, the replay is refused and the dead letter stays open.
#[utoipa::path(post, path = "/dead-letters/{id}/replay", operation_id = "replay_dead_letter", tag = "dead letters", request_body = Option<ReplayLetter>,
    params(("id" = Uuid, Path, description = "The id of the dead letter")),
    responses((status = 200, description = "The dead letter was replayed", body = Replay),
        (status = 202, description = "The replay is still running", body = Replay),
        (status = 409, description = "The dead letter is closed, or no handler would run: `detail` says which")))]
async fn replay_one(
    Operator(identity): Operator,
    State(console): State<Console>,
    Named(id): Named<Uuid>,
    OptionalJson(input): OptionalJson<ReplayLetter>,
) -> Result<Response, Problem> {
    if input.event.as_ref().is_some_and(|event| !event.get().starts_with('{')) {
        return Err(Problem::invalid(vec![FieldError::at("/event", "must be a JSON object")]));
    }
    let stored = open_dead_letter(&console, id).await?;
    let (chosen, description) = match input.event {
        None => (Selection::Letters(vec![id]), "1 by id"),
        Some(event) => {
            let body = Bytes::copy_from_slice(event.get().as_bytes());
            let (dead_letter, media) = (&stored.row.letter, stored.content_type.as_deref());
            if let Err(why) = edited_event(dead_letter, media, &body, console.dead_letters.max_event_bytes) {
                return Err(Problem::invalid(vec![FieldError::at("/event", why)]));
            }
            (Selection::Edited(id, body), "1 by id, edited")
        }
    };
    replays::one(&console, &identity, &chosen, description).await
}

/// Fails if the dead letter is closed. A client that names an id wants to know that.
async fn open_dead_letter(console: &Console, id: Uuid) -> Result<StoredDeadLetter, Problem> {
    let stored = console.store().dead_letter(id).await?;
    let row = &stored.row;
    if row.state == LetterState::Open {
        return Ok(stored);
    }
    let by = row.state_changed_by.as_deref().unwrap_or("somebody");
    Err(Problem::conflict(format!("dead letter {id} was {} already, by {by}", row.state)))
}

/// Selects dead letters: by `ids`, by `filter`, or `all`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReplayLetters {
    #[schema(min_items = 1, max_items = 1000)]
    ids: Option<Vec<Uuid>>,
    #[schema(value_type = Option<Filter>)]
    filter: Option<ObjectOf<Filter>>,
    /// Every open dead letter.
    #[serde(default)]
    all: bool,
    /// Only count what would be replayed.
    #[serde(default)]
    dry_run: bool,
    /// Replay at most this many a second; 50 if absent.
    #[schema(minimum = 1, maximum = 1000)]
    rate: Option<u32>,
    /// Stop if more than this percentage of the latest 100 first attempts failed (at least 20 must have ended); 100:
    /// never. 50 if absent.
    #[schema(minimum = 0, maximum = 100)]
    max_failures: Option<u8>,
}

/// Replay dead letters
///
/// Open ones, oldest first. With `dry_run`, only counts them. Otherwise starts a job, which `GET /replays/{id}` shows.
/// Each dead letter is replayed once, even if two people replay it at the same time.
#[utoipa::path(post, path = "/dead-letters/replay", operation_id = "replay_dead_letters", tag = "dead letters", request_body = ReplayLetters,
    responses((status = 200, description = "With `dry_run`: what would be replayed", body = Plan),
        (status = 202, description = "The job has started", body = Replay,
            headers(("Location" = String, description = "The URL of the job"))),
        (status = 404, description = "One of the ids does not exist")))]
async fn replay_many(
    Operator(identity): Operator,
    State(console): State<Console>,
    Json(input): Json<ReplayLetters>,
) -> Result<Response, Problem> {
    let ReplayLetters { ids, filter, all, dry_run, rate, max_failures } = input;
    let filter = filter.map(|ObjectOf(filter)| DeadLetterFilter::from(filter));
    let description = replays::describe_selection(
        ids.as_deref(),
        filter.as_ref().map(ToString::to_string).as_deref(),
        all,
    )?;
    let chosen = match (ids, filter) {
        (Some(ids), _) => Selection::Letters(ids),
        (None, filter) => Selection::LettersBy(filter.unwrap_or_default()),
    };
    replays::many(&console, &identity, &chosen, &description, Pace { rate, max_failures }, dry_run).await
}

/// Why the dead letters need no replay; stored with each of them.
#[derive(Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(as = DiscardReason, value_type = String, min_length = 1, max_length = 1000, pattern = r"\S")]
struct Reason(String);

impl TryFrom<String> for Reason {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let text = text.trim();
        let fits = (1..=1000).contains(&text.chars().count()) && !text.contains('\0');
        if fits { Ok(Self(text.to_owned())) } else { Err("must have 1 to 1000 characters") }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DiscardLetter {
    reason: Reason,
}

#[derive(Serialize, ToSchema)]
struct Discarded {
    discarded: u64,
}

/// Discard a dead letter
#[utoipa::path(post, path = "/dead-letters/{id}/discard", operation_id = "discard_dead_letter", tag = "dead letters", request_body = DiscardLetter,
    params(("id" = Uuid, Path, description = "The id of the dead letter")),
    responses((status = 200, description = "The dead letter was discarded", body = Discarded),
        (status = 409, description = "The dead letter is already closed")))]
async fn discard_one(
    Operator(identity): Operator,
    State(console): State<Console>,
    Named(id): Named<Uuid>,
    Json(DiscardLetter { reason }): Json<DiscardLetter>,
) -> Result<Response, Problem> {
    open_dead_letter(&console, id).await?;
    let discarded =
        console.store().discard_dead_letters(Closing::These(&[id]), &reason.0, &identity.by()).await?;
    if discarded == 0 {
        // Somebody closed it after the first check.
        open_dead_letter(&console, id).await?;
    }
    json(&Discarded { discarded })
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DiscardLetters {
    reason: Reason,
    #[serde(default)]
    #[schema(min_items = 1, max_items = 1000)]
    ids: Option<Vec<Uuid>>,
    #[serde(default)]
    #[schema(value_type = Option<Filter>)]
    filter: Option<ObjectOf<Filter>>,
    /// Every open dead letter.
    #[serde(default)]
    all: bool,
    /// Only count what would be discarded.
    #[serde(default)]
    dry_run: bool,
}

/// Discard dead letters
///
/// Closes open ones permanently. With `dry_run`, only counts them.
#[utoipa::path(post, path = "/dead-letters/discard", operation_id = "discard_dead_letters", tag = "dead letters", request_body = DiscardLetters,
    responses((status = 200, description = "How many were discarded; with `dry_run`: what would be discarded", body = inline(Outcome))))]
async fn discard_many(
    Operator(identity): Operator,
    State(console): State<Console>,
    Json(input): Json<DiscardLetters>,
) -> Result<Response, Problem> {
    let DiscardLetters { reason, ids, filter, all, dry_run } = input;
    let filter = filter.map(|ObjectOf(filter)| DeadLetterFilter::from(filter));
    replays::describe_selection(ids.as_deref(), filter.as_ref().map(ToString::to_string).as_deref(), all)?;
    let filter = filter.unwrap_or_default();
    if dry_run {
        let chosen = ids.map_or(Selection::LettersBy(filter), Selection::Letters);
        return json(&Outcome::Plan(Plan::of(console.dead_letters.plan(&chosen).await?)));
    }
    let closing = ids.as_deref().map_or(Closing::By(&filter), Closing::These);
    let discarded = console.store().discard_dead_letters(closing, &reason.0, &identity.by()).await?;
    json(&Outcome::Discarded(Discarded { discarded }))
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Outcome {
    Plan(Plan),
    Discarded(Discarded),
}
