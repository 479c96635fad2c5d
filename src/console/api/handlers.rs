//! Handlers: search, show, create, change, delete.

mod change;
mod draft;
mod schema;
mod secret;
mod test;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    extract::{Json, Named, Paged},
    if_match::IfMatch,
    page::{PageOf, Paging},
    reply::{created, is_known, json, not_modified, versioned},
};
use crate::{
    console::{
        Console,
        access::{Operator, Viewer},
        problem::Problem,
    },
    domain::{
        event::EventName,
        handler::{Handler, HandlerId, HandlerSpec, Status},
        secret::SigningSecret,
        task::TaskType,
    },
    store::{HandlerFilter, HistoryEntry},
};
use draft::Draft;

pub fn routes() -> OpenApiRouter<Console> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, replace, patch, delete))
        .routes(routes!(history))
        .merge(test::routes())
        .merge(secret::routes())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Search {
    /// The event type.
    event: Option<EventName>,
    /// The type of task.
    task_type: Option<TaskType>,
    /// The status; if absent: enabled and disabled, not archived.
    status: Option<Status>,
    /// Text in the name, url, path or arguments.
    text: Option<String>,
}

/// A handler after a change.
#[derive(Serialize, ToSchema)]
#[schema(as = ChangedHandler)]
struct Changed {
    #[serde(flatten)]
    handler: Handler,
    /// Possible problems with the handler, which was accepted all the same.
    warnings: Vec<String>,
    /// A new signing secret. It is shown only this once; the receiver needs it to verify requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_secret: Option<String>,
}

/// List handlers
///
/// Ordered by id. For a viewer, the path and query of a url and the arguments of a script are masked as `***`, because
/// they may contain secrets, and `text` does not search them.
#[utoipa::path(get, path = "/handlers", operation_id = "list_handlers", tag = "handlers", params(Search, Paging),
    responses((status = 200, description = "A page of handlers", body = PageOf<Handler>)))]
async fn list(
    Viewer(identity): Viewer,
    State(console): State<Console>,
    Paged { filter, limit, after }: Paged<Search, HandlerId>,
) -> Result<Response, Problem> {
    let Search { event, task_type, status, text } = filter;
    let only_shown = !identity.may_change();
    let filter = HandlerFilter { event, task_type, status, text, only_shown, after };
    let handlers = identity.view_of(console.store().list_handlers(&filter, limit.rows() + 1).await?);
    json(&PageOf::of(handlers, limit, |handler| handler.id.to_string()))
}

/// Create a handler
///
/// Every worker uses it within a second. With `sign`, or a `signing_secret` of your own, its requests are signed.
#[utoipa::path(post, path = "/handlers", operation_id = "create_handler", tag = "handlers", request_body = schema::NewHandler,
    responses((status = 201, description = "The handler was created", body = Changed,
        headers(("ETag" = String, description = "The version of the handler"), ("Location" = String, description = "The URL of the handler")))))]
async fn create(
    Operator(identity): Operator,
    State(console): State<Console>,
    Json(body): Json<serde_json::Value>,
) -> Result<Response, Problem> {
    let (Draft { spec, secret }, warnings) = change::checked(&console, &body, None).await?;
    let (secret, shown) = secret.unpacked();
    let stored = secret.as_ref().map(SigningSecret::stored);
    let handler = console.store().create_handler(&spec, stored.as_ref(), &identity.by()).await?;
    let (id, version) = (handler.id, handler.version);
    let answer = versioned(&Changed { handler, warnings, signing_secret: shown }, version)?;
    Ok(created(answer, StatusCode::CREATED, &format!("/api/v1/handlers/{id}")))
}

/// Show a handler
#[utoipa::path(get, path = "/handlers/{id}", operation_id = "show_handler", tag = "handlers", params(("id" = i64, Path, description = "The id of the handler")),
    responses((status = 200, description = "The handler", body = Handler,
        headers(("ETag" = String, description = "The version of the handler, for `If-Match`"))),
        (status = 304, description = "The handler still has the version in `If-None-Match`")))]
async fn show(
    Viewer(identity): Viewer,
    State(console): State<Console>,
    Named(id): Named<HandlerId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let handler = identity.view_of(console.store().handler(id).await?);
    if is_known(&headers, handler.version) {
        return Ok(not_modified(handler.version));
    }
    versioned(&handler, handler.version)
}

/// Replace a handler
///
/// A field that is absent gets its default. A header with the masked value `***` keeps its stored value.
#[utoipa::path(put, path = "/handlers/{id}", operation_id = "replace_handler", tag = "handlers", request_body = HandlerSpec,
    params(("id" = i64, Path, description = "The id of the handler"),
        ("If-Match" = String, Header, description = "The ETag of the version you have seen, or `*`")),
    responses((status = 200, description = "The changed handler", body = Changed,
        headers(("ETag" = String, description = "The version of the handler")))))]
async fn replace(
    Operator(identity): Operator,
    State(console): State<Console>,
    Named(id): Named<HandlerId>,
    if_match: IfMatch,
    Json(body): Json<serde_json::Value>,
) -> Result<Response, Problem> {
    let current = if_match.handler(&console, id).await?;
    change::apply(&console, &identity, &if_match, &current, &body).await
}

/// Change parts of a handler
///
/// A merge patch (RFC 7396): an absent field stays as it is, null sets the default. `{"status":"disabled"}` disables
/// the handler; `{"status":"archived"}` also removes it from lists.
#[utoipa::path(patch, path = "/handlers/{id}", operation_id = "change_handler", tag = "handlers",
    request_body(content((schema::HandlerPatch = "application/merge-patch+json"), (schema::HandlerPatch = "application/json"))),
    params(("id" = i64, Path, description = "The id of the handler"),
        ("If-Match" = String, Header, description = "The ETag of the version you have seen, or `*`")),
    responses((status = 200, description = "The changed handler", body = Changed,
        headers(("ETag" = String, description = "The version of the handler")))))]
async fn patch(
    Operator(identity): Operator,
    State(console): State<Console>,
    Named(id): Named<HandlerId>,
    if_match: IfMatch,
    Json(patch): Json<serde_json::Value>,
) -> Result<Response, Problem> {
    let current = if_match.handler(&console, id).await?;
    let merged = draft::merged(&current.spec, &patch)?;
    change::apply(&console, &identity, &if_match, &current, &merged).await
}

/// Delete a handler
///
/// Its executions and its history stay.
#[utoipa::path(delete, path = "/handlers/{id}", operation_id = "delete_handler", tag = "handlers",
    params(("id" = i64, Path, description = "The id of the handler"),
        ("If-Match" = String, Header, description = "The ETag of the version you have seen, or `*`")),
    responses((status = 204, description = "The handler was deleted")))]
async fn delete(
    Operator(identity): Operator,
    State(console): State<Console>,
    Named(id): Named<HandlerId>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let current = if_match.handler(&console, id).await?;
    match console.store().delete_handler(id, Some(current.version), &identity.by(), None).await {
        Ok(_) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(error) => Err(if_match.problem(&console, id, error).await),
    }
}

/// List the changes of a handler
///
/// Newest first: who, when, before and after. A deleted handler keeps its history.
#[utoipa::path(get, path = "/handlers/{id}/history", operation_id = "handler_history", tag = "handlers",
    params(("id" = i64, Path, description = "The id of the handler")),
    responses((status = 200, description = "The changes of the handler", body = PageOf<HistoryEntry>)))]
async fn history(
    Viewer(identity): Viewer,
    State(console): State<Console>,
    Named(id): Named<HandlerId>,
) -> Result<Response, Problem> {
    let items = identity.view_of(console.store().handler_history(id).await?);
    if items.is_empty() {
        return Err(Problem::not_found(format!("there is no handler {id}")));
    }
    json(&PageOf { items, next: None })
}
