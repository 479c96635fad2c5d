//! Enables, disables, archives and deletes handlers.

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};

use super::{Answer, named};
use crate::{
    console::{
        Console,
        access::{Identity, Operator},
        pages::{
            fields::Form,
            html,
            layout::{Frame, Section, done},
            with_status,
        },
        problem::Problem,
    },
    domain::handler::{Handler, HandlerId, Status},
    store::StoreError,
};

const LIST: &str = "/handlers";

#[derive(Template)]
#[template(path = "handlers/delete.html")]
struct DeletePage {
    frame: Frame,
    title: String,
    handler: Handler,
    is_archived: bool,
    problem: String,
}

pub async fn set_status(
    Operator(identity): Operator,
    State(console): State<Console>,
    Path(id): Path<String>,
    Form(sent): Form,
) -> Answer {
    let before = named(&console, &id).await?;
    let id = before.id;
    let status: Status =
        sent.get("status").parse().map_err(|error| Problem::bad_request(format!("status: {error}")))?;
    console.store().set_handler_status(id, None, status, &identity.by(), None).await?;
    let is_brought_back = before.spec.status == Status::Archived && status == Status::Disabled;
    let notice = if is_brought_back { "back" } else { status.as_str() };
    Ok(done(back(sent.get("back")), notice, &id))
}

/// The page to return to. Only the list is allowed, because the field of the form could contain any URL.
fn back(path: &str) -> &str {
    if path == LIST || path.starts_with("/handlers?") { path } else { LIST }
}

pub async fn ask_delete(
    Operator(identity): Operator,
    State(console): State<Console>,
    Path(id): Path<String>,
) -> Answer {
    delete_page(named(&console, &id).await?, &identity, String::new())
}

fn delete_page(handler: Handler, identity: &Identity, problem: String) -> Answer {
    let is_archived = handler.spec.status == Status::Archived;
    let action = if is_archived { "Delete" } else { "Archive or delete" };
    let title = format!("{action} {}?", handler.spec.name);
    let frame = Frame::in_section(Section::Handlers, &title, identity);
    let status = if problem.is_empty() { StatusCode::OK } else { StatusCode::CONFLICT };
    with_status(status, html(&DeletePage { frame, title, handler, is_archived, problem }))
}

pub async fn delete(
    Operator(identity): Operator,
    State(console): State<Console>,
    Path(id): Path<String>,
    Form(sent): Form,
) -> Answer {
    let id = named(&console, &id).await?.id;
    let deleted =
        console.store().delete_handler(id, sent.get("version").parse().ok(), &identity.by(), None).await;
    ended(&console, &identity, id, deleted, "deleted").await
}

pub async fn archive(
    Operator(identity): Operator,
    State(console): State<Console>,
    Path(id): Path<String>,
    Form(sent): Form,
) -> Answer {
    let (id, version) = (named(&console, &id).await?.id, sent.get("version").parse().ok());
    let archived =
        console.store().set_handler_status(id, version, Status::Archived, &identity.by(), None).await;
    ended(&console, &identity, id, archived, "archived").await
}

async fn ended(
    console: &Console,
    identity: &Identity,
    id: HandlerId,
    result: Result<Handler, StoreError>,
    notice: &str,
) -> Answer {
    match result {
        Ok(handler) => Ok(done(LIST, notice, &handler.id)),
        Err(StoreError::Conflict { .. }) => {
            let problem =
                "Somebody has changed the handler. This is its current state: choose again what to do.";
            delete_page(console.store().handler(id).await?, identity, problem.to_owned())
        }
        // Somebody else has deleted it already.
        Err(StoreError::NotFound(_)) => Ok(leave()),
        Err(error) => Err(error.into()),
    }
}

fn leave() -> Response {
    Redirect::to(LIST).into_response()
}
