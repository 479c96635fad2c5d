//! Reads requests. Every unknown or invalid part is rejected and named.

mod query;

use std::{fmt, marker::PhantomData, str::FromStr};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request, rejection::BytesRejection},
    http::{StatusCode, header, request::Parts},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_path_to_error::{Path as JsonPath, Segment};

use super::serde_messages::{duplicate_field, missing_field, plain};
use crate::console::{
    Console,
    problem::{FieldError, Problem},
};
use query::no_parameters;
pub use query::{NoParams, Paged, Params};

/// The only parameter in the path: `{id}` or `{name}`.
pub struct Named<T>(pub T);

impl<T: FromStr<Err: std::fmt::Display>> FromRequestParts<Console> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Problem> {
        no_parameters(&parts.uri)?;
        let named = Path::<Vec<(String, String)>>::from_request_parts(parts, console).await;
        let named = named.map_err(|error| Problem::bad_request(error.body_text()))?;
        let (name, text) = named.0.into_iter().next().ok_or_else(Problem::internal)?;
        let bad = |e: T::Err| Problem::bad_fields(vec![FieldError::parameter(name, plain(&e.to_string()))]);
        text.parse().map(Self).map_err(bad)
    }
}

/// A JSON body.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Console> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, console: &Console) -> Result<Self, Problem> {
        no_parameters(request.uri())?;
        let media = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media =
            media.map(|media| media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        if !media.is_some_and(|media| is_json(&media)) {
            return Err(Problem::unsupported_media_type(
                "send JSON, with the header Content-Type: application/json",
            ));
        }
        parse(&bytes(request, console).await?).map(Self)
    }
}

/// An optional JSON body.
pub struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<Console> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, console: &Console) -> Result<Self, Problem> {
        no_parameters(request.uri())?;
        if request.headers().contains_key(header::CONTENT_TYPE) {
            let Json(body) = Json::from_request(request, console).await?;
            return Ok(Self(body));
        }
        if bytes(request, console).await?.is_empty() {
            return Ok(Self(T::default()));
        }
        Err(Problem::unsupported_media_type("send JSON, with the header Content-Type: application/json"))
    }
}

/// Merge patches and other `+json` types are JSON too.
fn is_json(media: &str) -> bool {
    media == "application/json" || media.ends_with("+json")
}

async fn bytes(request: Request, console: &Console) -> Result<Bytes, Problem> {
    let encoding = request.headers().get(header::CONTENT_ENCODING).map(|value| value.as_bytes().to_owned());
    if let Some(encoding) = encoding.filter(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
        let encoding = String::from_utf8_lossy(&encoding).into_owned();
        return Err(Problem::unsupported_media_type(format!(
            "the header Content-Encoding is {encoding:?}: send the body uncompressed"
        )));
    }
    Bytes::from_request(request, console).await.map_err(|rejection: BytesRejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Problem::too_large("the body is larger than 26 MiB");
        }
        Problem::bad_request("the body did not arrive completely")
    })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let is_utf_16 =
        [&b"\xff\xfe"[..], b"\xfe\xff", b"{\0", b"\0{"].iter().any(|start| body.starts_with(start));
    if is_utf_16 {
        return Err(Problem::bad_request("the body is UTF-16: send JSON in UTF-8"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let ObjectOf(parsed) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = pointer(error.path());
        problem(&path, &error.into_inner())
    })?;
    json.end().map_err(|error| problem("", &error))?;
    Ok(parsed)
}

/// A JSON object. (serde alone would also accept an array of the right length for a struct.)
#[derive(Debug)]
pub struct ObjectOf<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ObjectOf<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

fn problem(path: &str, error: &serde_json::Error) -> Problem {
    let detail = error.to_string();
    if !error.is_data() {
        return Problem::bad_request(format!("the body is not JSON: {detail}"));
    }
    // The pointer names the field, so line and column are left out.
    let detail = detail.rsplit_once(" at line ").map_or(detail.as_str(), |(message, _)| message);
    // For a missing or duplicate field, the path of the error ends at the parent.
    let path = missing_field(detail)
        .or(duplicate_field(detail))
        .map_or_else(|| path.to_owned(), |name| format!("{path}/{}", escaped(name)));
    Problem::invalid(vec![FieldError::at(path, plain(detail))])
}

/// The path as a JSON pointer (RFC 6901).
fn pointer(path: &JsonPath) -> String {
    let segments = path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(escaped(key)),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    segments.fold(String::new(), |pointer, segment| pointer + "/" + &segment)
}

pub fn escaped(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(rename = "a/b")]
        _list: Vec<u8>,
    }

    #[test]
    fn each_error_names_its_field() {
        for (body, status, expected) in [
            (r#"{"a/b":[1,"x"]}"#, 422, "/a~1b/1: is the text \"x\", and must be a whole number"),
            (r#"{"a/b":[],"c":1}"#, 422, "/c: is unknown; allowed: a/b"),
            ("{}", 422, "/a~1b: is missing"),
            (r#"{"a/b":[],"a/b":[]}"#, 422, "/a~1b: is given twice"),
            ("[]", 422, "is a list, and must be a JSON object"),
            ("{", 400, "the body is not JSON: EOF"),
            (r#"{"a/b":[]} x"#, 400, "the body is not JSON: trailing characters"),
            ("", 400, "the body is not JSON: EOF"),
            ("\u{feff}{}", 422, "/a~1b: is missing"),
            ("{\0}\0", 400, "the body is UTF-16"),
        ] {
            let problem = parse::<Sample>(body.as_bytes()).expect_err(body);
            assert!(problem.detail.starts_with(expected), "{body}: {}", problem.detail);
            assert_eq!(problem.status().as_u16(), status, "{body}");
        }
    }
}
