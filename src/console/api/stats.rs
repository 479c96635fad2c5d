//! How it goes: rates, failures, latency, processes, queues.

use std::time::Duration;

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{extract::Params, reply::json};
use crate::{
    broker::QueueDepth,
    console::{Console, access::Viewer, problem::Problem},
    domain::dead_letter::State as LetterState,
    store::{Activity, DeadLetterFilter, FailingHandler, Period, SeenProcess, Summary},
};

/// A process that was silent for longer is not there.
const PRESENT: Duration = Duration::from_mins(1);
const MOST_FAILING: usize = 20;

pub fn routes() -> OpenApiRouter<Console> {
    OpenApiRouter::new().routes(routes!(stats)).routes(routes!(queues))
}

#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
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
    /// How far back.
    #[serde(default)]
    #[param(value_type = Option<Span>)]
    period: Span,
}

/// What an overview shows.
#[derive(Serialize, ToSchema)]
struct Stats {
    activity: Activity,
    /// Open ones.
    dead_letters: Summary,
    /// Those that failed most often in the last 24 hours.
    failing_handlers: Vec<FailingHandler>,
    /// That were heard of in the last minute.
    processes: Vec<SeenProcess>,
}

/// How it goes
#[utoipa::path(get, path = "/stats", tag = "stats", params(Asked),
    responses((status = 200, description = "Events, attempts, latency, dead letters, processes", body = Stats)))]
async fn stats(
    _: Viewer,
    State(console): State<Console>,
    Params(Asked { period }): Params<Asked>,
) -> Result<Response, Problem> {
    let period = match period {
        Span::Hour => Period::Hour,
        Span::Day => Period::Day,
    };
    let store = console.store();
    let open = DeadLetterFilter { state: Some(LetterState::Open), ..DeadLetterFilter::default() };
    json(&Stats {
        activity: store.activity(period).await?,
        dead_letters: store.dead_letter_summary(&open).await?,
        failing_handlers: store.failing_handlers(MOST_FAILING).await?,
        processes: store.list_processes(PRESENT).await?,
    })
}

/// What waits in the broker.
#[derive(Serialize, ToSchema)]
struct Queues<'a> {
    /// Retries that wait for their time, all levels of the delay ladder together.
    retries_waiting: u64,
    queues: &'a [QueueDepth],
}

/// What waits in the broker
///
/// Every queue with its depth and consumers, as it was at most two seconds ago.
#[utoipa::path(get, path = "/stats/queues", tag = "stats",
    responses((status = 200, description = "The queues", body = Queues<'static>)))]
async fn queues(_: Viewer, State(console): State<Console>) -> Result<Response, Problem> {
    let types = console.store().list_event_types(false).await?;
    let names: Vec<_> = types.into_iter().map(|known| known.name).collect();
    let depths = console.queues.look(&names).await?;
    json(&Queues { retries_waiting: depths.retries_waiting(), queues: &depths.queues })
}
