//! Dead letters: search and show; what changes them is in `change`.

mod change;

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    extract::{Named, Paged, Params},
    moment::Moment,
    page::{PageOf, Paging},
    reply::json,
};
use crate::{
    console::{Console, access::Viewer, problem::Problem},
    dead_letters::{ExportedLetter, WholeLetter},
    domain::{
        dead_letter::{Reason, State as LetterState},
        handler::HandlerId,
    },
    store::{Cursor, DeadLetterFilter, DeadLetterRow, StoredDeadLetter, Summary},
};

pub fn routes() -> OpenApiRouter<Console> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(summary))
        .routes(routes!(export))
        .routes(routes!(show))
        .merge(change::routes())
}

/// Which dead letters are asked for; what is absent does not matter.
#[derive(Debug, Default, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
#[schema(as = DeadLetterFilter)]
struct Filter {
    /// In this state. (Only open ones are ever replayed or discarded.)
    state: Option<LetterState>,
    /// The name it was published by; of an unrouted event it may be any text.
    event: Option<String>,
    event_id: Option<String>,
    /// The handler's id.
    handler: Option<HandlerId>,
    reason: Option<Reason>,
    object_id: Option<String>,
    /// Text in the body or the error; the case of ASCII letters does not matter.
    text: Option<String>,
    /// Died then or later: 2026-01-31, 2026-01-31T12:00:00Z, or an age such as 2h.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00Z")]
    #[param(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00Z")]
    since: Option<Moment>,
    /// Died before then.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00Z")]
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Moment>,
}

impl From<Filter> for DeadLetterFilter {
    fn from(filter: Filter) -> Self {
        let Filter { state, event, event_id, handler, reason, object_id, text, since, until } = filter;
        let (since, until) = (since.map(|Moment(at)| at), until.map(|Moment(at)| at));
        Self { event, event_id, handler, reason, object_id, text, since, until, state }
    }
}

/// Search dead letters
///
/// Newest first, without their bodies.
#[utoipa::path(get, path = "/dead-letters", operation_id = "list_dead_letters", tag = "dead letters", params(Filter, Paging),
    responses((status = 200, description = "A page of dead letters", body = PageOf<DeadLetterRow>)))]
async fn list(
    _: Viewer,
    State(console): State<Console>,
    Paged { filter, limit, after }: Paged<Filter, Cursor>,
) -> Result<Response, Problem> {
    let page = console.store().list_dead_letters(&filter.into(), limit.rows(), after).await?;
    json(&PageOf::from(page))
}

/// Count dead letters
///
/// By reason and handler, the most first.
#[utoipa::path(get, path = "/dead-letters/summary", operation_id = "count_dead_letters", tag = "dead letters", params(Filter),
    responses((status = 200, description = "How many there are", body = Summary)))]
async fn summary(
    _: Viewer,
    State(console): State<Console>,
    Params(filter): Params<Filter>,
) -> Result<Response, Problem> {
    json(&console.store().dead_letter_summary(&filter.into(), None).await?)
}

/// Export dead letters
///
/// One JSON value a line, newest first, bodies exact: `body` is text, `body_base64` what is none.
#[utoipa::path(get, path = "/dead-letters/export", operation_id = "export_dead_letters", tag = "dead letters", params(Filter),
    responses((status = 200, description = "Lines", body = ExportedLetter<'static>, content_type = "application/x-ndjson")))]
async fn export(
    _: Viewer,
    State(console): State<Console>,
    Params(filter): Params<Filter>,
) -> Result<Response, Problem> {
    let pages = console.letters.pages(filter.into());
    // What cannot even begin is told as a problem; what ends early ends the connection, as a part is no whole.
    let mut pages = Box::pin(pages);
    let first = pages.try_next().await?;
    let all = futures_util::stream::iter(first.map(Ok)).chain(pages);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment; filename=\"dead-letters.jsonl\""),
        ),
    ];
    Ok((headers, Body::from_stream(all.map_ok(|page| lines(&page)))).into_response())
}

fn lines(page: &[StoredDeadLetter]) -> Bytes {
    let mut lines = Vec::new();
    for letter in page {
        // Writing into memory cannot fail, and everything in it can be written.
        let _ = serde_json::to_writer(&mut lines, &ExportedLetter::of(letter));
        lines.push(b'\n');
    }
    lines.into()
}

/// Show a dead letter
///
/// Whole: the event, every attempt, and what a replay would run.
#[utoipa::path(get, path = "/dead-letters/{id}", operation_id = "show_dead_letter", tag = "dead letters", params(("id" = Uuid, Path, description = "Its id")),
    responses((status = 200, description = "The dead letter", body = WholeLetter<'static>)))]
async fn show(
    _: Viewer,
    State(console): State<Console>,
    Named(id): Named<Uuid>,
) -> Result<Response, Problem> {
    json(&WholeLetter::of(&console.letters.show(id).await?))
}
