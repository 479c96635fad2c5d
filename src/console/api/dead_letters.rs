//! Dead letters: search, count, export and show. `change` replays and discards them.

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
    page::{PageOf, Paging},
    reply::json,
    time::Moment,
};
use crate::{
    console::{Console, access::Viewer, limited::blocking, problem::Problem},
    dead_letters::{ExportedLetter, WholeLetter},
    domain::{
        dead_letter::{Reason, State as LetterState},
        event::EventId,
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

/// Filter for dead letters. An absent field does not restrict the search.
#[derive(Debug, Default, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
#[schema(as = DeadLetterFilter)]
struct Filter {
    /// Only in this state. (Replay and discard take only open dead letters in any case.)
    state: Option<LetterState>,
    /// The event type as it was published; of an unrouted event, it may be any text.
    event: Option<String>,
    /// The event id, or the `message_id` that the event was published with.
    event_id: Option<String>,
    /// The id of the handler.
    handler: Option<HandlerId>,
    reason: Option<Reason>,
    object_id: Option<String>,
    /// Text in the body or the error; upper and lower case of ASCII letters are equal.
    text: Option<String>,
    /// Given up at or after this time: 2026-01-31, 2026-01-31T12:00:00Z, or an age such as 2h.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00Z")]
    #[param(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00Z")]
    since: Option<Moment>,
    /// Given up before this time.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00Z")]
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Moment>,
}

impl From<Filter> for DeadLetterFilter {
    fn from(filter: Filter) -> Self {
        let Filter { state, event, event_id, handler, reason, object_id, text, since, until } = filter;
        let (since, until) = (since.map(|Moment(time)| time), until.map(|Moment(time)| time));
        let event_id = event_id.map(|id| EventId::from_message_id(&id).into());
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
/// By reason and handler, the largest count first.
#[utoipa::path(get, path = "/dead-letters/summary", operation_id = "count_dead_letters", tag = "dead letters", params(Filter),
    responses((status = 200, description = "The counts", body = Summary)))]
async fn summary(
    _: Viewer,
    State(console): State<Console>,
    Params(filter): Params<Filter>,
) -> Result<Response, Problem> {
    json(&console.store().dead_letter_summary(&filter.into(), None).await?)
}

/// Export dead letters
///
/// One JSON value a line, newest first, with the exact bodies; compressed bodies are decompressed. A body that is text
/// is in `body`, any other in `body_base64`. At most four exports run at a time. The connection is closed if the client
/// reads nothing for a minute.
#[utoipa::path(get, path = "/dead-letters/export", operation_id = "export_dead_letters", tag = "dead letters", params(Filter),
    responses((status = 200, description = "One dead letter a line", body = ExportedLetter<'static>, content_type = "application/x-ndjson")))]
async fn export(
    _: Viewer,
    State(console): State<Console>,
    Params(filter): Params<Filter>,
) -> Result<Response, Problem> {
    let permit = console.exports.permit().await?;
    // An error before the first dead letter is answered as a problem. A later one closes the connection, so that the
    // client does not take a part for the whole.
    let mut dead_letters = Box::pin(console.dead_letters.export(filter.into()));
    let first = dead_letters.try_next().await?;
    let all = futures_util::stream::iter(first.map(Ok)).chain(dead_letters);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment; filename=\"dead-letters.jsonl\""),
        ),
    ];
    Ok(permit.until_sent(
        (headers, Body::from_stream(all.map_ok(|dead_letter| line(&dead_letter)))).into_response(),
    ))
}

fn line(dead_letter: &StoredDeadLetter) -> Bytes {
    let mut line = Vec::new();
    // Writing to memory cannot fail, and every field can be serialized.
    let _ = serde_json::to_writer(&mut line, &ExportedLetter::of(dead_letter));
    line.push(b'\n');
    line.into()
}

/// Show a dead letter
///
/// With the event, the attempts (the latest 100), and what a replay would run.
#[utoipa::path(get, path = "/dead-letters/{id}", operation_id = "show_dead_letter", tag = "dead letters", params(("id" = Uuid, Path, description = "The id of the dead letter")),
    responses((status = 200, description = "The dead letter", body = WholeLetter<'static>)))]
async fn show(
    Viewer(identity): Viewer,
    State(console): State<Console>,
    Named(id): Named<Uuid>,
) -> Result<Response, Problem> {
    let permit = console.messages.permit().await?;
    let shown = identity.view_of(console.dead_letters.show(id).await?);
    Ok(permit.until_sent(blocking(|| json(&WholeLetter::of(&shown)))?))
}
