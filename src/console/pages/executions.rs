//! Execution Logs: the list, its live tail, and the details of one execution. Replays are in `replays`.

mod list;
mod live;
mod row;
mod search;
mod show;

use axum::{Router, routing::get};

use crate::console::Console;
pub use search::{SEARCH, filter, searched_time, time};
pub use show::{answers, code};

pub fn routes() -> Router<Console> {
    Router::new()
        .route("/executions", get(list::list))
        .route("/executions/live", get(live::live))
        .route("/executions/{id}", get(show::show))
        .route("/executions/{id}/{part}", get(show::raw))
}
