//! The `OpenAPI` document: made from the routes, completed with what is the same for all of them, and shown as a page.

mod docs;

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, header},
    response::IntoResponse as _,
    routing::get,
};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::console::{Console, access::Viewer, problem::ErrorBody};

/// The document to which the routes are added.
#[derive(OpenApi)]
#[openapi(
    info(title = "provisiond", description = ABOUT, license(name = "MIT", identifier = "MIT")),
    servers((url = "/api/v1")),
    components(schemas(ErrorBody)),
    tags(
        (name = "handlers", description = "On this event run this task, at this priority."),
        (name = "events", description = "The catalogue, and publishing by hand."),
        (name = "executions", description = "The Execution Logs: every attempt, and what was answered."),
        (name = "dead letters", description = "Events, or shares of them, that were given up."),
        (name = "replays", description = "Jobs that send dead letters or executions back to their handlers."),
        (name = "stats", description = "How it goes."),
    )
)]
pub struct Described;

const ABOUT: &str = "Handlers, executions and dead letters of provisiond, over HTTP.

**Access.** `Authorization: Bearer …` with a token of `console.tokens` (`provisiond users token` makes one), or the session of \
the console with its token in the header `x-csrf-token`. A viewer may send nothing but GET and HEAD.

**Lists** come in pages: `next` of one is the parameter `after` of the next, and null at the end.

**Changes of handlers** name the version they were made for: send the `ETag` of what you have seen as `If-Match`. If somebody \
was faster, the answer is 412 with what is there now (`current`) and what was changed in between (`changes`).

**Problems** are `application/problem+json` (RFC 9457). `errors` names each field (`pointer`, RFC 6901) or parameter. Unknown \
fields and parameters are refused. With PostgreSQL or RabbitMQ away the answer is 503, and says which.

**Secrets** do not come back: values of headers are masked, a signing secret is shown once, when it is made.";

/// Serves the document as JSON and as a page.
pub fn routes(described: utoipa::openapi::OpenApi) -> Router<Console> {
    let document = completed(serde_json::to_value(described).unwrap_or_default());
    let page = docs::Page::of(&document);
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    let media = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Router::new()
        .route(
            "/openapi.json",
            get(async move |_: Viewer, State(console): State<Console>| {
                (media, below_public_path(&console, &text)).into_response()
            }),
        )
        .route("/docs", get(async move |Viewer(somebody): Viewer| page.answer(&somebody)))
}

/// The document, with the path of `console.public_url` before the server's path.
fn below_public_path(console: &Console, document: &str) -> String {
    match &console.settings.public_url {
        Some(url) => document.replacen("\"/api/v1\"", &format!("\"{}/api/v1\"", url.path()), 1),
        None => document.to_owned(),
    }
}

/// Error statuses that every route can answer.
const ANY: [u16; 5] = [400, 401, 406, 500, 503];

fn completed(mut document: Value) -> Value {
    let schemes = json!({
        "token": {"type": "http", "scheme": "bearer", "description": "A token of console.tokens"},
        "session": {"type": "apiKey", "in": "cookie", "name": "provisiond",
            "description": "The session of the console; with the header x-csrf-token where something is changed"},
    });
    let all = [400, 401, 403, 404, 406, 409, 412, 413, 415, 422, 428, 500, 503];
    let responses = Map::from_iter(all.map(|status| (status.to_string(), problem(meaning(status)))));
    for (at, name, value) in [
        ("", "security", json!([{"token": []}, {"session": []}])),
        ("/info", "version", env!("CARGO_PKG_VERSION").into()),
        ("/components", "securitySchemes", schemes),
        ("/components", "responses", responses.into()),
    ] {
        if let Some(members) = document.pointer_mut(at).and_then(Value::as_object_mut) {
            members.insert(name.to_owned(), value);
        }
    }
    let paths = document.get_mut("paths").and_then(Value::as_object_mut).into_iter().flatten();
    for (path, item) in paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            complete(path, method, operation);
        }
    }
    document
}

/// Adds the error responses that extractors and layers give, depending on what the route takes.
fn complete(path: &str, method: &str, operation: &mut Value) {
    let takes_body = operation.get("requestBody").is_some();
    let parameters = operation.get("parameters").and_then(Value::as_array);
    let named = parameters.into_iter().flatten().filter_map(|parameter| parameter.get("name"));
    let has_version = named.into_iter().any(|name| name == "If-Match");
    let changes = method != "get";
    let conditions = [
        (changes, &[403, 422][..]),
        (path.contains('{'), &[404]),
        (has_version, &[412, 428]),
        (takes_body, &[413, 415]),
    ];
    let added = conditions.into_iter().filter(|(given, _)| *given).flat_map(|(_, statuses)| statuses);
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    for (status, response) in responses.iter_mut() {
        // An error response that the route itself describes is a problem too.
        if status.starts_with(['4', '5']) && response.get("content").is_none() {
            *response = problem(response.get("description").and_then(Value::as_str).unwrap_or_default());
        }
    }
    for status in ANY.iter().chain(added) {
        let reference = json!({"$ref": format!("#/components/responses/{status}")});
        responses.entry(status.to_string()).or_insert(reference);
    }
}

fn problem(description: &str) -> Value {
    let schema = json!({"$ref": "#/components/schemas/Problem"});
    json!({"description": description, "content": {"application/problem+json": {"schema": schema}}})
}

const fn meaning(status: u16) -> &'static str {
    match status {
        400 => "It cannot be read: a parameter, a header, or the JSON itself",
        401 => "Nobody is signed in, and no token of ours was sent",
        403 => "A viewer changes nothing; or the request comes from another site",
        404 => "It does not exist",
        406 => "There is no form of the answer that Accept allows",
        409 => "It is not in a state for that",
        412 => "It was changed since the version that If-Match names: `current` and `changes` tell how",
        413 => "The body is larger than 26 MiB",
        415 => "The body is not JSON by its Content-Type",
        422 => "A field holds what it must not, or a rule says no; `errors` names the fields",
        428 => "The header If-Match is missing",
        503 => "PostgreSQL or RabbitMQ is not available, or a search took too long",
        _ => "provisiond failed; its log says why",
    }
}
