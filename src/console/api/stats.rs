//! Status: throughput, failures, latency, processes, queues.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{extract::Params, reply::json};
use crate::{
    console::{Console, access::Viewer, problem::Problem},
    status::StatusSnapshot,
    store::Period,
};

pub fn routes() -> OpenApiRouter<Console> {
    OpenApiRouter::new().routes(routes!(stats))
}

#[derive(Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Span {
    /// The last hour, minute by minute.
    #[default]
    Hour,
    /// The last day, hour by hour.
    Day,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// The period that the counts cover.
    #[serde(default)]
    #[param(value_type = Option<Span>, inline)]
    period: Span,
}

/// Show the status
///
/// Throughput, processes, failing handlers and queue depths, at most two seconds old. If RabbitMQ is away,
/// `waiting.error` says so.
#[utoipa::path(get, path = "/stats", operation_id = "stats", tag = "stats", params(Asked),
    responses((status = 200, description = "The status", body = StatusSnapshot)))]
async fn stats(
    _: Viewer,
    State(console): State<Console>,
    Params(Asked { period }): Params<Asked>,
) -> Result<Response, Problem> {
    let period = match period {
        Span::Hour => Period::Hour,
        Span::Day => Period::Day,
    };
    json(&*console.status.snapshot(period).await?)
}
