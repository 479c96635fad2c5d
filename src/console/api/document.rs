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
        (name = "handlers", description = "A handler runs a task for each event of its type. The priority sets the order."),
        (name = "events", description = "The event catalogue, and publishing an event by hand."),
        (name = "executions", description = "The Execution Logs: every attempt, with its request and response."),
        (name = "dead letters", description = "Events, or parts of their plans, that provisiond gave up."),
        (name = "replays", description = "Jobs that send dead letters or executions back to their handlers."),
        (name = "stats", description = "The status of the installation."),
    )
)]
pub struct Described;

const ABOUT: &str = "Handlers, executions and dead letters of provisiond, over HTTP.

**Access.** Send `Authorization: Bearer …` with a token of `console.tokens` (`provisiond users token` creates one), \
or the session cookie of the console. With the cookie, changes also need its CSRF token in the header \
`x-csrf-token`. A viewer may only send GET and HEAD.

**Lists** are paged: pass the `next` of one page as the parameter `after` to get the following page. On the last \
page, `next` is null.

**Changes of handlers** need the version that you read: send its `ETag` as `If-Match`. If the handler has changed \
since, the response is 412 with the current version (`current`) and the changes since yours (`changes`).

**Errors** are `application/problem+json` (RFC 9457). `errors` names each wrong field (`pointer`, RFC 6901) or \
parameter. Unknown fields and parameters are rejected. If PostgreSQL or RabbitMQ is not available, the response is \
503 and says which.

**Secrets** are never returned: header values are masked, and a signing secret is shown once, when it is created.";

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
        .route("/docs", get(async move |Viewer(identity): Viewer| page.answer(&identity)))
}

/// The document, with the path of `console.public_url` before the server's path.
fn below_public_path(console: &Console, document: &str) -> String {
    match &console.settings.console.public_url {
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
            "description": "The session of the console; changes also need the header x-csrf-token"},
    });
    let all = [400, 401, 403, 404, 406, 409, 412, 413, 415, 422, 428, 500, 503];
    let responses = Map::from_iter(all.map(|status| (status.to_string(), problem(meaning(status)))));
    for (pointer, name, value) in [
        ("", "security", json!([{"token": []}, {"session": []}])),
        ("/info", "version", env!("CARGO_PKG_VERSION").into()),
        ("/components", "securitySchemes", schemes),
        ("/components", "responses", responses.into()),
    ] {
        if let Some(members) = document.pointer_mut(pointer).and_then(Value::as_object_mut) {
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
        400 => "A parameter, a header or the JSON cannot be read",
        401 => "The request has no valid session and no valid token",
        403 => "A viewer may not make changes, or the request comes from another site",
        404 => "Not found",
        406 => "The header Accept does not allow the media type of the response",
        409 => "The current state does not allow the request",
        412 => "The handler has changed since the version in If-Match: see `current` and `changes`",
        413 => "The body is larger than 26 MiB",
        415 => "The Content-Type is not JSON, or the body is compressed",
        422 => "A field has a wrong value (`errors` names it), or a rule forbids the request",
        428 => "The header If-Match is missing",
        503 => "PostgreSQL or RabbitMQ is not available, or a search took too long",
        _ => "provisiond failed; its log says why",
    }
}
