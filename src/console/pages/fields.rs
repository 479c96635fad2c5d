//! The fields of a form or a query string, as text.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::{body::Bytes, http::request::Parts};
use url::form_urlencoded;

use super::format::capital;
use crate::console::problem::Problem;

/// Names and values, in the order in which they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

/// An extractor: the fields of the query string.
pub struct Query(pub Fields);

/// An extractor: the fields of a form in the body.
pub struct Form(pub Fields);

impl Fields {
    pub fn parse(encoded: &[u8]) -> Self {
        Self(form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// The first value with this name, trimmed; empty if there is none.
    pub fn get(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// The first value with this name, unchanged. Browsers end the lines of a text area with CR LF.
    pub fn raw(&self, name: &str) -> &str {
        self.0.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    pub fn lines(&self, name: &str) -> String {
        self.raw(name).replace("\r\n", "\n")
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(own, value)| own == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    /// The fields with these names that are not blank.
    pub fn only(&self, names: &[&str]) -> Self {
        let kept =
            self.0.iter().filter(|(name, value)| names.contains(&name.as_str()) && !value.trim().is_empty());
        Self(kept.cloned().collect())
    }

    pub fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|(own, _)| own != name).cloned().collect())
    }

    #[must_use]
    pub fn with(&self, name: &str, value: impl Into<String>) -> Self {
        let mut fields = self.without(name);
        fields.0.push((name.to_owned(), value.into()));
        fields
    }

    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// The URL of `path` with these fields as its query string.
    pub fn href(&self, path: &str) -> String {
        if self.0.is_empty() {
            return path.to_owned();
        }
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish();
        format!("{path}?{query}")
    }
}

/// The URL of `path` with one field.
pub fn href(path: &str, name: &str, value: &str) -> String {
    Fields::default().with(name, value).href(path)
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(Fields::parse(parts.uri.query().unwrap_or_default().as_bytes())))
    }
}

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|error| Problem::bad_request(error.body_text()))?;
        Ok(Self(Fields::parse(&body)))
    }
}

/// Error messages, one for each invalid field. The first message of a field stays.
#[derive(Clone, Debug, Default)]
pub struct Errors(BTreeMap<&'static str, String>);

impl Errors {
    pub fn of(&self, field: &str) -> &str {
        self.0.get(field).map_or("", String::as_str)
    }

    pub fn add(&mut self, field: &'static str, error: impl Into<String>) {
        self.0.entry(field).or_insert_with(|| capital(&error.into()));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(field, error)| (*field, error.as_str()))
    }

    /// The parsed value; or `None`, after adding the error to the field.
    pub fn take<T, E: ToString>(&mut self, field: &'static str, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// The same for an optional field: a blank one is `None` without an error.
    pub fn optional<T, E: ToString>(
        &mut self,
        field: &'static str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if text.is_empty() { None } else { self.take(field, parse(text)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_contain_the_search() {
        let query = Fields::parse(b"text=a+%26+b&status=&event=x&id=1&id=2&after=z");
        assert_eq!((query.get("text"), query.get("nothing")), ("a & b", ""));
        assert_eq!(query.all("id").collect::<Vec<_>>(), ["1", "2"]);
        let search = query.only(&["text", "status", "event"]);
        assert_eq!(search.href("/x"), "/x?text=a+%26+b&event=x");
        assert_eq!(search.without("text").without("event").href("/x"), "/x");
        assert_eq!(search.with("event", "ü").href("/x"), "/x?text=a+%26+b&event=%C3%BC");
    }
}
