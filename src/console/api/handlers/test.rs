//! Test calls of handlers.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Named, json};
use crate::{
    console::{
        Console,
        access::Operator,
        api::{
            events::{ObjectId, as_written, require_object},
            extract::OptionalJson,
        },
        problem::{FieldError, Problem},
    },
    domain::{event, handler::HandlerId},
    operations::{Sample, TrialError},
    runner::Trial,
};

pub(super) fn routes() -> OpenApiRouter<Console> {
    OpenApiRouter::new().routes(routes!(test))
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TrialInput {
    /// The object that the event is about: a number or a text; 12 if absent.
    #[schema(value_type = Option<ObjectId>)]
    object_id: Option<ObjectId>,
    /// The data of the event; if absent, a sample of what the platform sends.
    #[serde(default, deserialize_with = "as_written")]
    #[schema(value_type = Option<Object>)]
    data: Option<Box<RawValue>>,
}

/// Test a handler
///
/// Calls the handler once, from the console's machine, with a sample event. The handler may be disabled. Nothing is
/// recorded or retried. The response shows what was sent, what was answered, and what a worker would do next. It takes
/// as long as the handler.
#[utoipa::path(post, path = "/handlers/{id}/test", operation_id = "test_handler", tag = "handlers", request_body = Option<TrialInput>,
    params(("id" = i64, Path, description = "The id of the handler")),
    responses((status = 200, description = "The result, even if the handler failed", body = Trial),
        (status = 409, description = "The handler cannot be called from here: its secrets cannot be decrypted")))]
async fn test(
    _: Operator,
    State(console): State<Console>,
    Named(id): Named<HandlerId>,
    OptionalJson(input): OptionalJson<TrialInput>,
) -> Result<Response, Problem> {
    let data = input.data.map(require_object).transpose()?;
    let object_id = match input.object_id {
        Some(id) => id.0,
        None => event::ObjectId::typed("12").map_err(|_| Problem::internal())?,
    };
    let trial = console.trials.run(id, &Sample { object_id, data }).await.map_err(problem)?;
    json(&trial)
}

fn problem(error: TrialError) -> Problem {
    match error {
        TrialError::Store(error) => error.into(),
        TrialError::NotCalled(_) => Problem::conflict(error.to_string()),
        TrialError::NoEvent(why) => Problem::invalid(vec![FieldError::at("/data", why)]),
    }
}
