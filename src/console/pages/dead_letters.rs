//! Dead letters: the list, the details, editing and discarding. Replays are in `replays`.

mod close;
mod edit;
mod list;
mod row;
mod search;
mod show;

use axum::{Router, routing::get};
use uuid::Uuid;

use crate::console::{Console, problem::Problem};
pub use search::{SEARCH, filter};

pub fn routes() -> Router<Console> {
    Router::new()
        .route("/dead-letters", get(list::list))
        .route("/dead-letters/discard", get(close::ask).post(close::discard))
        .route("/dead-letters/{id}", get(show::show))
        .route("/dead-letters/{id}/body", get(show::raw))
        .route("/dead-letters/{id}/edit", get(edit::edit).post(edit::send))
}

/// Parses the id in a URL; 404 if it is not a UUID.
fn id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::not_found(format!("there is no dead letter {text}")))
}
