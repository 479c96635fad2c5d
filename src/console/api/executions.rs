//! The Execution Logs: search, show, replay.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    extract::{Json, Named, ObjectOf, OptionalJson, Paged},
    page::{PageOf, Paging},
    replays::{self, Pace, Plan},
    reply::json,
    time::Moment,
};
use crate::{
    console::{
        Console,
        access::{Operator, Viewer},
        problem::Problem,
    },
    domain::{
        event::{EventId, EventName},
        execution::{Disposition, Execution, Status},
        handler::HandlerId,
        replay::ReplayScope,
    },
    store::{Cursor, ExecutionFilter, ExecutionRow, Replay, Selection},
};

pub fn routes() -> OpenApiRouter<Console> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(replay_one))
        .routes(routes!(replay_many))
}

/// Filter for executions. An absent field does not restrict the search.
#[derive(Debug, Default, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
#[schema(as = ExecutionFilter)]
struct Filter {
    status: Option<Status>,
    /// What happened to the handler.
    disposition: Option<Disposition>,
    event: Option<EventName>,
    /// The id of the handler.
    handler: Option<HandlerId>,
    object_id: Option<String>,
    /// The event id, or the `message_id` that the event was published with.
    event_id: Option<String>,
    /// Text in the request or the answer; upper and lower case of ASCII letters are equal. The search takes some
    /// seconds at most: a page may have fewer items than requested, and still a `next`.
    data: Option<String>,
    /// Text in the error, by the same rules.
    error: Option<String>,
    /// Started at or after this time: 2026-01-31, 2026-01-31T12:00:00Z, or an age such as 2h.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00Z")]
    #[param(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00Z")]
    since: Option<Moment>,
    /// Started before this time.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00Z")]
    #[param(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00Z")]
    until: Option<Moment>,
}

impl From<Filter> for ExecutionFilter {
    fn from(filter: Filter) -> Self {
        let Filter { status, disposition, event, handler, object_id, event_id, data, error, since, until } =
            filter;
        let (since, until) = (since.map(|Moment(time)| time), until.map(|Moment(time)| time));
        let event_id = event_id.map(|id| EventId::from_message_id(&id));
        Self { status, disposition, event, handler, object_id, event_id, data, error, since, until }
    }
}

/// Search the Execution Logs
///
/// Newest first, without requests and answers.
#[utoipa::path(get, path = "/executions", operation_id = "list_executions", tag = "executions", params(Filter, Paging),
    responses((status = 200, description = "A page of executions", body = PageOf<ExecutionRow>)))]
async fn list(
    Viewer(identity): Viewer,
    State(console): State<Console>,
    Paged { filter, limit, after }: Paged<Filter, Cursor>,
) -> Result<Response, Problem> {
    let page = console.store().list_executions(&filter.into(), limit.rows(), after).await?;
    json(&PageOf::from(identity.view_of(page)))
}

/// Show an execution
///
/// With the request and the answer.
#[utoipa::path(get, path = "/executions/{id}", operation_id = "show_execution", tag = "executions", params(("id" = Uuid, Path, description = "The id of the execution")),
    responses((status = 200, description = "The execution", body = Execution)))]
async fn show(
    Viewer(identity): Viewer,
    State(console): State<Console>,
    Named(id): Named<Uuid>,
) -> Result<Response, Problem> {
    let permit = console.messages.permit().await?;
    Ok(permit.until_sent(json(&identity.view_of(console.store().execution(id).await?))?))
}

/// How much of the event is replayed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ReplayShare {
    /// The handler of the execution, with what was sent to it. If it had no handler, the event.
    #[default]
    AsRecorded,
    /// Like `as_recorded`, but executions without a handler are skipped.
    HandlerOnly,
    /// All handlers that are enabled for the event now.
    WholeEvent,
}

impl From<ReplayShare> for ReplayScope {
    fn from(share: ReplayShare) -> Self {
        match share {
            ReplayShare::AsRecorded => Self::AsRecorded,
            ReplayShare::HandlerOnly => Self::HandlerOnly,
            ReplayShare::WholeEvent => Self::WholeEvent,
        }
    }
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReplayExecution {
    #[serde(default)]
    share: ReplayShare,
}

/// Replay an execution
///
/// Runs its handler again, alone. The event keeps its id.
#[utoipa::path(post, path = "/executions/{id}/replay", operation_id = "replay_execution", tag = "executions", request_body = Option<ReplayExecution>,
    params(("id" = Uuid, Path, description = "The id of the execution")),
    responses((status = 200, description = "The execution was replayed", body = Replay),
        (status = 202, description = "The replay is still running", body = Replay),
        (status = 409, description = "No handler would run: `detail` says why")))]
async fn replay_one(
    Operator(identity): Operator,
    State(console): State<Console>,
    Named(id): Named<Uuid>,
    OptionalJson(input): OptionalJson<ReplayExecution>,
) -> Result<Response, Problem> {
    let chosen = Selection::Executions(vec![id], input.share.into());
    replays::one(&console, &identity, &chosen, "1 by id").await
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReplayExecutions {
    /// Ids of executions. Send either these or a filter.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Option<Vec<Uuid>>,
    #[schema(value_type = Option<Filter>)]
    filter: Option<ObjectOf<Filter>>,
    #[serde(default)]
    share: ReplayShare,
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

/// Replay executions
///
/// With `dry_run`, only counts them. Otherwise starts a job, which `GET /replays/{id}` shows. Several attempts of one
/// handler for one event are replayed once.
#[utoipa::path(post, path = "/executions/replay", operation_id = "replay_executions", tag = "executions", request_body = ReplayExecutions,
    responses((status = 200, description = "With `dry_run`: what would be replayed", body = Plan),
        (status = 202, description = "The job has started", body = Replay,
            headers(("Location" = String, description = "The URL of the job"))),
        (status = 404, description = "One of the ids does not exist")))]
async fn replay_many(
    Operator(identity): Operator,
    State(console): State<Console>,
    Json(input): Json<ReplayExecutions>,
) -> Result<Response, Problem> {
    let ReplayExecutions { ids, filter, share, dry_run, rate, max_failures } = input;
    let filter = filter.map(|ObjectOf(filter)| ExecutionFilter::from(filter));
    let description = replays::describe_selection(
        ids.as_deref(),
        filter.as_ref().map(ToString::to_string).as_deref(),
        false,
    )?;
    let chosen = match (ids, filter) {
        (Some(ids), _) => Selection::Executions(ids, share.into()),
        (None, filter) => Selection::ExecutionsBy(filter.unwrap_or_default(), share.into()),
    };
    replays::many(&console, &identity, &chosen, &description, Pace { rate, max_failures }, dry_run).await
}
