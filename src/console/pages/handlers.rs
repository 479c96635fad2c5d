//! Handlers: the list, the form, the details, and the actions on one handler.

mod change;
mod end;
mod form;
mod history;
mod list;
mod show;
mod test;

use axum::{
    Router,
    routing::{get, post},
};

use super::Answer;
use crate::{
    console::{Console, problem::Problem},
    domain::handler::{Handler, HandlerId},
};

pub fn routes() -> Router<Console> {
    Router::new()
        .route("/handlers", get(list::list).post(change::create))
        .route("/handlers/new", get(change::new))
        .route("/handlers/{id}", get(show::show).post(change::save))
        .route("/handlers/{id}/edit", get(change::edit))
        .route("/handlers/{id}/status", post(end::set_status))
        .route("/handlers/{id}/archive", post(end::archive))
        .route("/handlers/{id}/delete", get(end::ask_delete).post(end::delete))
        .route("/handlers/{id}/test", get(test::ask).post(test::test))
        .route("/handlers/{id}/secret", get(show::ask_secret).post(show::change_secret))
}

/// The handler whose id is in a URL.
async fn named(console: &Console, id: &str) -> Result<Handler, Problem> {
    let id: HandlerId = id.parse().map_err(|_| Problem::not_found(format!("there is no handler {id}")))?;
    Ok(console.store().handler(id).await?)
}
