//! Signing secrets of handlers.

use std::time::Duration;

use axum::{extract::State, response::Response};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Changed, IfMatch, Named, versioned};
use crate::{
    console::{
        Console,
        access::Operator,
        api::extract::OptionalJson,
        problem::{FieldError, Problem},
    },
    domain::{
        handler::{Handler, HandlerId},
        secret::SigningSecret,
    },
};

pub(super) fn routes() -> OpenApiRouter<Console> {
    OpenApiRouter::new().routes(routes!(rotate)).routes(routes!(remove))
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// The new secret. If absent, a random one, which the response shows once.
    #[schema(write_only, pattern = "^whsec_[A-Za-z0-9+/]{43}=$")]
    secret: Option<String>,
    /// How long requests are also signed with the old secret; they have two signatures until then. A day if absent.
    #[serde(default, with = "humantime_serde")]
    #[schema(value_type = Option<String>, pattern = "^[1-9][0-9]{0,2}(s|m|h)$", example = "24h")]
    keep_old: Option<Duration>,
}

const A_DAY: Duration = Duration::from_hours(24);

/// Give a handler a new signing secret
#[utoipa::path(post, path = "/handlers/{id}/rotate-secret", operation_id = "rotate_secret", tag = "handlers", request_body = Option<Rotation>,
    params(("id" = i64, Path, description = "The id of the handler"),
        ("If-Match" = String, Header, description = "The ETag of the version you have seen, or `*`")),
    responses((status = 200, description = "Requests are signed with the new secret", body = Changed,
        headers(("ETag" = String, description = "The version of the handler")))))]
async fn rotate(
    Operator(identity): Operator,
    State(console): State<Console>,
    Named(id): Named<HandlerId>,
    if_match: IfMatch,
    OptionalJson(rotation): OptionalJson<Rotation>,
) -> Result<Response, Problem> {
    let given: Option<SigningSecret> = match rotation.secret.as_deref().map(str::parse).transpose() {
        Ok(given) => given,
        Err(error) => return Err(Problem::invalid(vec![FieldError::at("/secret", format!("{error}"))])),
    };
    let current = if_match.handler(&console, id).await?;
    let (secret, shown) = given.map_or_else(
        || {
            let new = SigningSecret::generate();
            let shown = new.expose();
            (new, Some(shown))
        },
        |given| (given, None),
    );
    let version = Some(current.version);
    let store = console.store();
    let rotated = store
        .rotate_secret(id, version, &secret.stored(), rotation.keep_old.unwrap_or(A_DAY), &identity.by())
        .await;
    answer(&console, &if_match, id, rotated, shown).await
}

/// Remove the signing secret of a handler
#[utoipa::path(delete, path = "/handlers/{id}/signing-secret", operation_id = "remove_secret", tag = "handlers",
    params(("id" = i64, Path, description = "The id of the handler"),
        ("If-Match" = String, Header, description = "The ETag of the version you have seen, or `*`")),
    responses((status = 200, description = "Requests are no longer signed", body = Changed,
        headers(("ETag" = String, description = "The version of the handler")))))]
async fn remove(
    Operator(identity): Operator,
    State(console): State<Console>,
    Named(id): Named<HandlerId>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let current = if_match.handler(&console, id).await?;
    let removed = console.store().remove_secret(id, Some(current.version), &identity.by()).await;
    answer(&console, &if_match, id, removed, None).await
}

async fn answer(
    console: &Console,
    if_match: &IfMatch,
    id: HandlerId,
    changed: Result<Handler, crate::store::StoreError>,
    signing_secret: Option<String>,
) -> Result<Response, Problem> {
    match changed {
        Ok(handler) => {
            let version = handler.version;
            versioned(&Changed { handler, warnings: Vec::new(), signing_secret }, version)
        }
        Err(error) => Err(if_match.problem(console, id, error).await),
    }
}
