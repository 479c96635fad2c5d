//! Replays: a page that asks for confirmation, and the jobs that it starts, which can be watched, stopped and resumed.

mod choose;
mod confirm;
mod job;

use axum::{
    Router,
    routing::{get, post},
};

use crate::console::Console;

pub fn routes() -> Router<Console> {
    Router::new()
        .route("/dead-letters/replay", get(choose::ask_dead_letters).post(choose::replay_dead_letters))
        .route("/dead-letters/{id}/replay", post(choose::replay_dead_letter))
        .route("/executions/replay", get(choose::ask_executions).post(choose::replay_executions))
        .route("/replays", get(job::list))
        .route("/replays/{id}", get(job::show))
        .route("/replays/{id}/stop", post(job::stop))
        .route("/replays/{id}/resume", post(job::resume))
}
