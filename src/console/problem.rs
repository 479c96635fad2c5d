//! The error response of the console and the REST API: a problem (RFC 9457), as JSON or as a page.

mod of;

use std::ops::Deref;

use axum::{
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// An error response. Clients read it, so it contains no secrets and no internal errors.
///
/// It is boxed because nearly every function of the console returns it in a `Result`.
#[derive(Clone, Debug)]
pub struct Problem(Box<ErrorBody>);

/// An error response (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ErrorBody {
    #[serde(skip)]
    code: StatusCode,
    /// Identifies the kind of problem, for programs.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    pub detail: String,
    /// The errors of single fields and parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Additional members of this kind of problem.
    #[serde(flatten)]
    pub more: Map<String, Value>,
    #[serde(skip)]
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

/// The most field errors in a response. Its `detail` contains the total number.
const MAX_ERRORS: usize = 50;
const MAX_TEXT: usize = 500;

/// The error of one field of the body (`pointer`, RFC 6901), or of one parameter of the URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    pub detail: String,
}

impl FieldError {
    pub fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: Some(pointer.into()), parameter: None, detail: detail.into() }
    }

    /// Truncates both texts, because they repeat what the client sent.
    pub fn parameter(name: impl Into<String>, detail: impl Into<String>) -> Self {
        let cut = |mut text: String| {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
            text
        };
        Self { pointer: None, parameter: Some(cut(name.into())), detail: cut(detail.into()) }
    }
}

impl Problem {
    fn new(code: StatusCode, kind: &str, title: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(ErrorBody {
            code,
            kind: format!("urn:provisiond:problem:{kind}"),
            title,
            status: code.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            more: Map::new(),
            headers: Vec::new(),
        }))
    }

    fn of_fields(mut self, mut errors: Vec<FieldError>) -> Self {
        errors.truncate(MAX_ERRORS);
        self.0.errors = errors;
        self
    }

    pub fn status(&self) -> StatusCode {
        self.0.code
    }

    pub fn title(&self) -> &'static str {
        self.0.title
    }

    /// Adds the headers of the problem. A response as JSON and a response as a page both need them.
    pub fn add_headers(&self, response: &mut Response) {
        for (name, value) in &self.headers {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.more.insert(name.to_owned(), value.into());
        self
    }

    #[must_use]
    fn with_header(mut self, name: header::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers.push((name, value));
        }
        self
    }

    /// 400: the request is not well-formed.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "Bad request", detail)
    }

    /// 400 with the parameters or fields that cannot be read.
    pub fn bad_fields(errors: Vec<FieldError>) -> Self {
        let detail = summary(&errors);
        Self::bad_request(detail).of_fields(errors)
    }

    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "Not authenticated", detail)
            .with_header(header::WWW_AUTHENTICATE, "Bearer realm=\"provisiond\"")
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 405. axum adds the header `Allow`.
    pub fn method_not_allowed(method: &Method) -> Self {
        let detail =
            format!("{method} is not allowed at this URL; the header Allow lists the allowed methods");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed", detail)
    }

    pub fn not_acceptable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", "Not acceptable", detail)
    }

    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail)
    }

    /// 412: somebody else changed it first.
    pub fn stale(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "stale", "Changed in the meantime", detail)
    }

    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Body too large", detail)
    }

    pub fn unsupported_media_type(detail: impl Into<String>) -> Self {
        let title = "Unsupported media type";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", title, detail)
    }

    /// 422: a rule forbids it.
    pub fn refused(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", "Request rejected", detail)
    }

    /// 422 with the fields whose values are not allowed.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = summary(&errors);
        let title = "Validation failed";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", title, detail).of_fields(errors)
    }

    pub fn precondition_required(detail: impl Into<String>) -> Self {
        let title = "Precondition required";
        Self::new(StatusCode::PRECONDITION_REQUIRED, "precondition-required", title, detail)
    }

    pub fn too_many(detail: impl Into<String>, seconds: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many sign-in attempts", detail)
            .with_header(header::RETRY_AFTER, &seconds.to_string())
    }

    /// 500: a fault of provisiond. The caller logs the cause.
    pub fn internal() -> Self {
        let detail = "provisiond failed; the log of the console process says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
    }

    /// 503: a limit on concurrent work is reached.
    pub fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Too many requests at the same time", detail)
            .with_header(header::RETRY_AFTER, "5")
    }
}

/// The first error and the number of others, for clients that show only `detail`.
fn summary(errors: &[FieldError]) -> String {
    let one = |error: &FieldError| {
        let place = error.pointer.as_deref().or(error.parameter.as_deref()).unwrap_or_default();
        if place.is_empty() { error.detail.clone() } else { format!("{place}: {}", error.detail) }
    };
    let more = errors.len().saturating_sub(1);
    let first = errors.first().map(one).unwrap_or_default();
    if more == 0 { first } else { format!("{first} (and {more} more, see errors)") }
}

impl Deref for Problem {
    type Target = ErrorBody;

    fn deref(&self) -> &ErrorBody {
        &self.0
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_string(&self.0).unwrap_or_default();
        let mut response =
            (self.code, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        self.add_headers(&mut response);
        // `pages::problems_as_pages` turns it into a page.
        response.extensions_mut().insert(self);
        response
    }
}
