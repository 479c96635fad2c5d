//! The REST API, `/api/v1`: JSON requests and responses, errors as problems (RFC 9457).
//!
//! A route and its description are declared together (`routes!` of utoipa-axum), so there is no route without a
//! description. `document` adds what is the same for every route.

mod dead_letters;
mod document;
mod events;
mod executions;
mod extract;
mod handlers;
mod if_match;
mod page;
mod replays;
mod reply;
mod serde_messages;
mod stats;
mod time;

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;

use super::{Console, problem::Problem};

pub fn routes() -> Router<Console> {
    let (router, document) = OpenApiRouter::with_openapi(document::Described::openapi())
        .merge(handlers::routes())
        .merge(events::routes())
        .merge(executions::routes())
        .merge(dead_letters::routes())
        .merge(replays::routes())
        .merge(stats::routes())
        .split_for_parts();
    router.merge(document::routes(document)).layer(middleware::from_fn(acceptable))
}

/// Answers 406 if the client does not accept the media type of the response, before anything is done.
async fn acceptable(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let media_type = if path.ends_with("/docs") {
        "text/html"
    } else if path.ends_with("/dead-letters/export") {
        "application/x-ndjson"
    } else {
        "application/json"
    };
    if accepts(request.headers(), media_type) {
        return next.run(request).await;
    }
    Problem::not_acceptable(format!("the response is {media_type}, which the header Accept does not allow"))
        .into_response()
}

fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges = ranges.flat_map(|value| value.split(',')).map(|range| {
        let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
        let range = parts.next().unwrap_or_default();
        let refused = parts.any(|part| matches!(part.as_str(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        (range, refused)
    });
    let fits = |range: &str| {
        range == "*/*"
            || range == media_type
            || range.strip_suffix('*').is_some_and(|kind| kind.ends_with('/') && media_type.starts_with(kind))
    };
    !headers.contains_key(header::ACCEPT) || ranges.any(|(range, refused)| !refused && fits(&range))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn accept_allows_or_refuses_json() {
        for (accept, expected) in [
            ("application/json", true),
            ("text/html, */*;q=0.1", true),
            ("Application/*", true),
            ("application/json;q=0", false),
            ("text/html", false),
            ("application/problem+json", false),
            ("app*", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(accepts(&headers, "application/json"), expected, "{accept}");
        }
        assert!(accepts(&HeaderMap::new(), "application/json"));
    }
}
