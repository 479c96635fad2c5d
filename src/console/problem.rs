//! What is answered when something cannot be done: a problem (RFC 9457), as JSON or as a page.

mod of;

use std::ops::Deref;

use axum::{
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Why something was not done. What a person may read: secrets and inner errors stay out.
///
/// In a box: it is what nearly every function of the console may give.
#[derive(Clone, Debug)]
pub struct Problem(Box<ErrorBody>);

/// What a problem says.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ErrorBody {
    #[serde(skip)]
    code: StatusCode,
    /// Names the kind of problem, for programs.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    pub detail: String,
    /// What is wrong with what was sent, field by field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// What else there is to say about this kind of problem.
    #[serde(flatten)]
    pub more: Map<String, Value>,
    #[serde(skip)]
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

/// Of the errors of one request that are listed; how many there are in all is in its detail.
const MAX_ERRORS: usize = 50;
const MAX_TEXT: usize = 500;

/// What is wrong with one field of a body (`pointer`, RFC 6901), or with one parameter of the address.
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

    /// What was sent may be of any length; what is said of it is not.
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

    /// What the answer tells in headers, in whatever form it is given.
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

    /// It is not in a form that can be read.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request cannot be read", detail)
    }

    /// Its parameters, or its body, say what is not understood.
    pub fn bad_fields(errors: Vec<FieldError>) -> Self {
        let detail = told(&errors);
        Self::bad_request(detail).of_fields(errors)
    }

    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "Sign in, or send a bearer token", detail)
            .with_header(header::WWW_AUTHENTICATE, "Bearer realm=\"provisiond\"")
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "That is not allowed", detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "It does not exist", detail)
    }

    /// (axum adds the header `Allow`.)
    pub fn method_not_allowed(method: &Method) -> Self {
        let detail = format!("{method} is not understood at this address; the header Allow names what is");
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "The method is not understood here",
            detail,
        )
    }

    pub fn not_acceptable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", "There is no such form of the answer", detail)
    }

    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "It is not in a state for that", detail)
    }

    /// Somebody else was faster.
    pub fn stale(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "stale", "It was changed meanwhile", detail)
    }

    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail)
    }

    pub fn unsupported_media_type(detail: impl Into<String>) -> Self {
        let title = "The body is of a type that is not understood";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", title, detail)
    }

    /// A rule says no.
    pub fn refused(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", "A rule says no", detail)
    }

    /// Fields hold what they must not.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = told(&errors);
        let title = "Some fields cannot be taken so";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", title, detail).of_fields(errors)
    }

    pub fn precondition_required(detail: impl Into<String>) -> Self {
        let title = "Say which version is changed";
        Self::new(StatusCode::PRECONDITION_REQUIRED, "precondition-required", title, detail)
    }

    pub fn too_many(detail: impl Into<String>, seconds: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many tries", detail)
            .with_header(header::RETRY_AFTER, &seconds.to_string())
    }

    /// Our own fault; the log says more.
    pub fn internal() -> Self {
        let detail = "the log of the console's process says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "provisiond failed", detail)
    }

    /// It is bounded how much of this is done at a time.
    pub fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Too much at a time", detail)
            .with_header(header::RETRY_AFTER, "5")
    }
}

/// The first error as a sentence, for who shows no more.
fn told(errors: &[FieldError]) -> String {
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
        // For `pages::problems_as_pages`.
        response.extensions_mut().insert(self);
        response
    }
}
