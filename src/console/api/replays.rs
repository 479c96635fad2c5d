//! Replays: counts, and jobs that run in the background and can be stopped and resumed.

use std::time::Duration;

use axum::{extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    extract::{Named, OptionalJson, Paged},
    page::{PageOf, Paging},
    reply::{created, json},
};
use crate::{
    console::{
        Console,
        access::{Identity, Operator, Viewer},
        problem::{FieldError, Problem},
    },
    dead_letters::Progress,
    domain::replay::{JobState, MAX_RATE, ReplayLimits},
    store::{NewReplay, PlanLine, Refusal, Replay, Selection},
};

/// How long a request waits for the replay of one item. After that, the response is 202.
const START_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_IDS: usize = 1000;

pub fn routes() -> OpenApiRouter<Console> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(stop))
        .routes(routes!(resume))
}

/// The rate of a job, and when it stops by itself.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReplayPace)]
pub struct Pace {
    /// Replay at most this many a second; 50 if absent.
    #[schema(minimum = 1, maximum = 1000)]
    pub rate: Option<u32>,
    /// Stop if more than this percentage of the latest 100 first attempts failed (at least 20 must have ended); 100:
    /// never. 50 if absent.
    #[schema(minimum = 0, maximum = 100)]
    pub max_failures: Option<u8>,
}

impl Pace {
    fn or(self, defaults: ReplayLimits) -> Result<ReplayLimits, Problem> {
        let limits = ReplayLimits {
            rate: self.rate.unwrap_or(defaults.rate),
            max_failures: self.max_failures.unwrap_or(defaults.max_failures),
        };
        let mut errors = Vec::new();
        if !(1..=MAX_RATE).contains(&limits.rate) {
            errors.push(FieldError::at("/rate", format!("must be 1 to {MAX_RATE} a second")));
        }
        if limits.max_failures > 100 {
            errors.push(FieldError::at("/max_failures", "must be a percentage, 0 to 100"));
        }
        if errors.is_empty() { Ok(limits) } else { Err(Problem::invalid(errors)) }
    }
}

/// What a replay would send.
#[derive(Serialize, ToSchema)]
pub struct Plan {
    total: i64,
    /// By event and handler, the largest count first.
    lines: Vec<PlanLine>,
}

impl Plan {
    pub fn of(lines: Vec<PlanLine>) -> Self {
        Self { total: lines.iter().map(|line| line.count).sum(), lines }
    }
}

/// Describes the selection for people: ids, a filter, or all.
///
/// # Errors
/// If nothing is selected, or in two ways.
pub fn describe_selection(ids: Option<&[Uuid]>, filter: Option<&str>, all: bool) -> Result<String, Problem> {
    let refuse = |at: &str, detail: &str| Err(Problem::invalid(vec![FieldError::at(at, detail)]));
    match (ids, filter.filter(|filter| !filter.is_empty())) {
        (Some(_), Some(_)) => refuse("/ids", "send ids or a filter, not both"),
        (Some(_), None) if all => refuse("/ids", "send ids or all, not both"),
        (Some(ids), None) if ids.is_empty() || ids.len() > MAX_IDS => refuse("/ids", "must be 1 to 1000 ids"),
        (Some(ids), None) => Ok(format!("{} by id", ids.len())),
        (None, Some(filter)) => Ok(filter.to_owned()),
        (None, None) if all => Ok("all".to_owned()),
        (None, None) => refuse("/filter", "nothing is selected: send a filter that is not empty, or ids"),
    }
}

/// Replays one item, and waits for the result.
pub async fn one(
    console: &Console,
    identity: &Identity,
    chosen: &Selection,
    description: &str,
) -> Result<Response, Problem> {
    let new =
        NewReplay { asked: description.to_owned(), caution: ReplayLimits::default(), by: identity.by() };
    let replay = console.jobs.begin_and_wait(&new, chosen, START_TIMEOUT).await?;
    let why = match console.store().refusals(replay.id).await?.into_iter().next() {
        Some(refusal) => Some(refusal.why),
        None if replay.counts.passed > 0 => {
            Some("it was replayed, discarded or deleted in the meantime".to_owned())
        }
        None => replay.note.clone().filter(|_| replay.state == JobState::Stopped),
    };
    if let Some(why) = why {
        return Err(Problem::conflict(why).with("replay", replay.id));
    }
    let status = if replay.state == JobState::Finished { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(created(json(&replay)?, status, &location(replay.id)))
}

/// Counts the selection, or starts a job.
pub async fn many(
    console: &Console,
    identity: &Identity,
    chosen: &Selection,
    description: &str,
    pace: Pace,
    dry_run: bool,
) -> Result<Response, Problem> {
    let limits = pace.or(ReplayLimits::default())?;
    if dry_run {
        return json(&Plan::of(console.dead_letters.plan(chosen).await?));
    }
    let new = NewReplay { asked: description.to_owned(), caution: limits, by: identity.by() };
    let replay = console.jobs.begin(&new, chosen).await?;
    Ok(created(json(&replay)?, StatusCode::ACCEPTED, &location(replay.id)))
}

fn location(id: i64) -> String {
    format!("/api/v1/replays/{id}")
}

/// A job and its progress.
#[derive(Serialize, ToSchema)]
struct ShownReplay {
    #[serde(flatten)]
    replay: Replay,
    /// Why items were refused, and how many; the most frequent reason first.
    refusals: Vec<Refusal>,
    /// How the first attempts end. Only present if the process that answers runs the job.
    progress: Option<Progress>,
}

/// The list of replays has no filter.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct All {}

/// List replays
///
/// Newest first.
#[utoipa::path(get, path = "/replays", operation_id = "list_replays", tag = "replays", params(Paging),
    responses((status = 200, description = "A page of replays", body = PageOf<Replay>)))]
async fn list(
    _: Viewer,
    State(console): State<Console>,
    Paged { filter: All {}, limit, after }: Paged<All, i64>,
) -> Result<Response, Problem> {
    let replays = console.store().list_replays(limit.rows() + 1, after).await?;
    json(&PageOf::of(replays, limit, |replay| replay.id.to_string()))
}

/// Show a replay
///
/// With its progress.
#[utoipa::path(get, path = "/replays/{id}", operation_id = "show_replay", tag = "replays", params(("id" = i64, Path, description = "The id of the replay")),
    responses((status = 200, description = "The replay", body = ShownReplay)))]
async fn show(_: Viewer, State(console): State<Console>, Named(id): Named<i64>) -> Result<Response, Problem> {
    shown(&console, console.store().replay(id).await?).await
}

/// Stop a replay
///
/// The process that runs it stops it within about a second. It can be resumed.
#[utoipa::path(post, path = "/replays/{id}/stop", operation_id = "stop_replay", tag = "replays", params(("id" = i64, Path, description = "The id of the replay")),
    responses((status = 200, description = "The replay was asked to stop, or has ended", body = ShownReplay)))]
async fn stop(
    Operator(identity): Operator,
    State(console): State<Console>,
    Named(id): Named<i64>,
) -> Result<Response, Problem> {
    shown(&console, console.jobs.stop(id, &identity.by()).await?).await
}

/// Resume a replay
///
/// A replay that a person stopped, that stopped by itself, or whose process was killed.
#[utoipa::path(post, path = "/replays/{id}/resume", operation_id = "resume_replay", tag = "replays", request_body = Option<Pace>,
    params(("id" = i64, Path, description = "The id of the replay")),
    responses((status = 202, description = "The replay continues", body = ShownReplay)))]
async fn resume(
    _: Operator,
    State(console): State<Console>,
    Named(id): Named<i64>,
    OptionalJson(input): OptionalJson<Pace>,
) -> Result<Response, Problem> {
    let job = console.store().replay(id).await?;
    let limits = input.or(ReplayLimits { rate: job.rate, max_failures: job.max_failures })?;
    let replay = console.jobs.resume(id, Some(limits)).await?;
    let answer = shown(&console, replay).await?;
    Ok(created(answer, StatusCode::ACCEPTED, &location(id)))
}

async fn shown(console: &Console, replay: Replay) -> Result<Response, Problem> {
    let refusals = console.store().refusals(replay.id).await?;
    let progress = console.jobs.progress(replay.id);
    json(&ShownReplay { replay, refusals, progress })
}
