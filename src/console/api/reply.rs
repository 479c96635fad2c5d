//! JSON responses, with their status and headers.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::console::problem::Problem;

/// A response with `value` as its body.
pub fn json(value: &impl Serialize) -> Result<Response, Problem> {
    match serde_json::to_vec(value) {
        Ok(body) => {
            Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
        }
        Err(error) => {
            tracing::error!(%error, "cannot serialize the response");
            Err(Problem::internal())
        }
    }
}

/// The same with an `ETag`, for a value that has a version.
pub fn versioned(value: &impl Serialize, version: i64) -> Result<Response, Problem> {
    let mut response = json(value)?;
    response.headers_mut().insert(header::ETAG, etag(version));
    Ok(response)
}

/// Adds the status and the `Location` of what was created.
pub fn created(mut answer: Response, status: StatusCode, location: &str) -> Response {
    *answer.status_mut() = status;
    if let Ok(location) = HeaderValue::from_str(location) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer
}

fn etag(version: i64) -> HeaderValue {
    // Digits in quotes are always a valid header value.
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Whether `If-None-Match` names this version.
pub fn is_known(headers: &HeaderMap, version: i64) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|tags| tags.split(',')).any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == format!("\"{version}\"")
    })
}

/// 304, with the `ETag`.
pub fn not_modified(version: i64) -> Response {
    (StatusCode::NOT_MODIFIED, [(header::ETAG, etag(version))]).into_response()
}
