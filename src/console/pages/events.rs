//! Event types: the catalogue with its queues, adding and removing; and publishing one event by hand.

mod change;
mod list;
mod publish;

use axum::{Router, routing::get};

use crate::console::Console;

pub fn routes() -> Router<Console> {
    Router::new()
        .route("/events", get(list::list).post(change::add))
        .route("/events/new", get(change::new))
        .route("/events/publish", get(publish::ask).post(publish::publish))
        .route("/events/{name}/remove", get(change::ask_remove).post(change::remove))
}
