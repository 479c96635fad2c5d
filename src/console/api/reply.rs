//! Answers: JSON, with what HTTP says beside it.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::console::problem::Problem;

/// A value as the body of an answer.
pub fn json(value: &impl Serialize) -> Result<Response, Problem> {
    match serde_json::to_vec(value) {
        Ok(body) => {
            Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
        }
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            Err(Problem::internal())
        }
    }
}

/// The same, of something with a version.
pub fn versioned(value: &impl Serialize, version: i64) -> Result<Response, Problem> {
    let mut response = json(value)?;
    response.headers_mut().insert(header::ETAG, etag(version));
    Ok(response)
}

/// `answer` as what was made at `location`.
pub fn created(mut answer: Response, status: StatusCode, location: &str) -> Response {
    *answer.status_mut() = status;
    if let Ok(location) = HeaderValue::from_str(location) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer
}

fn etag(version: i64) -> HeaderValue {
    // Digits in quotes are always a header's value.
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Whether whoever asks has this version already.
pub fn is_known(headers: &HeaderMap, version: i64) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|tags| tags.split(',')).any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == format!("\"{version}\"")
    })
}

/// 304: there is nothing new.
pub fn not_modified(version: i64) -> Response {
    (StatusCode::NOT_MODIFIED, [(header::ETAG, etag(version))]).into_response()
}
