//! The parameters after the `?`. Every wrong or unknown one is reported, and none is ignored.

use std::{borrow::Cow, collections::BTreeSet, str::FromStr};

use axum::{
    extract::FromRequestParts,
    http::{Uri, request::Parts},
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::console::{
    Console,
    api::{
        page::{After, Limit},
        serde_messages::{duplicate_field, plain, unknown_field},
    },
    problem::{FieldError, Problem},
};

/// The parameters after the `?`.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Console> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Console) -> Result<Self, Problem> {
        parameters(parts, |_| true).map(Self).map_err(Problem::bad_fields)
    }
}

/// No parameters after the `?`. One that is sent is rejected, because it would have no effect.
pub struct NoParams;

impl FromRequestParts<Console> for NoParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Console) -> Result<Self, Problem> {
        no_parameters(&parts.uri)
    }
}

pub(super) fn no_parameters(uri: &Uri) -> Result<NoParams, Problem> {
    let query = uri.query().unwrap_or_default();
    let names: BTreeSet<_> = url::form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name).collect();
    let errors =
        names.into_iter().map(|name| FieldError::parameter(name, "is unknown; no parameter is allowed here"));
    let errors: Vec<_> = errors.collect();
    if errors.is_empty() { Ok(NoParams) } else { Err(Problem::bad_fields(errors)) }
}

/// The filter of a list, and the page of it.
pub struct Paged<F, P> {
    pub filter: F,
    pub limit: Limit,
    pub after: Option<P>,
}

impl<F: DeserializeOwned, P: FromStr> FromRequestParts<Console> for Paged<F, P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Console) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        #[serde(bound = "P: FromStr")]
        struct Place<P> {
            #[serde(default)]
            limit: Limit,
            after: Option<After<P>>,
        }
        let is_place = |name: &str| matches!(name, "limit" | "after");
        match (parameters(parts, |name| !is_place(name)), parameters(parts, is_place)) {
            (Ok(filter), Ok(Place { limit, after })) => {
                Ok(Self { filter, limit, after: after.map(|After(place)| place) })
            }
            (filter, place) => {
                let errors = [filter.err(), place.err()].into_iter().flatten().flatten();
                Err(Problem::bad_fields(errors.collect()))
            }
        }
    }
}

/// Reads the parameters whose names are `included`. It first parses each one alone, so that every wrong one is
/// reported, and then all together, to find duplicates. (No parameter is ever required.)
fn parameters<T: DeserializeOwned>(
    parts: &Parts,
    included: impl Fn(&str) -> bool,
) -> Result<T, Vec<FieldError>> {
    let query = parts.uri.query().unwrap_or_default();
    let pairs = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| included(name));
    let pairs: Vec<_> = pairs.collect();
    let alone = pairs.iter().filter_map(|pair| read::<T>(std::slice::from_ref(pair)).err());
    let mut wrong: Vec<FieldError> = alone.collect();
    wrong.dedup();
    if wrong.is_empty() { read(&pairs).map_err(|error| vec![error]) } else { Err(wrong) }
}

fn read<T: DeserializeOwned>(pairs: &[(Cow<'_, str>, Cow<'_, str>)]) -> Result<T, FieldError> {
    let encoded = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let encoded = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(encoded.as_bytes()));
    serde_path_to_error::deserialize(encoded).map_err(|error| {
        let path = error.path().to_string();
        let detail = error.into_inner().to_string();
        let name = unknown_field(&detail).or_else(|| duplicate_field(&detail)).unwrap_or(&path);
        FieldError::parameter(name, plain(&detail))
    })
}
