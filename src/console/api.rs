//! The REST API, `/api/v1`: JSON in, JSON out, problems as RFC 9457 has them.

use axum::Router;

use super::Console;

pub fn routes() -> Router<Console> {
    Router::new()
}
