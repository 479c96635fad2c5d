//! CSRF protection: a change with a session cookie must come from one of our pages, not from another site.
//!
//! There are two checks: of the headers in which the browser names the origin (`Sec-Fetch-Site`, else `Origin`), and of
//! a token that only our pages contain.

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, header},
};
use subtle::ConstantTimeEq;

use crate::{config::PublicUrl, console::problem::Problem};

pub const TOKEN_HEADER: &str = "x-csrf-token";
pub const TOKEN_FIELD: &str = "csrf";

const FORM: &str = "application/x-www-form-urlencoded";
/// The largest form that is read to find its token. An edited event has at most 8 MiB, but escaped bytes take three.
const LARGEST_FORM: usize = 26 << 20;

/// Checks the headers in which the browser names the origin.
///
/// # Errors
/// If they name another site, or are missing.
pub fn check(headers: &HeaderMap, public_url: Option<&PublicUrl>) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let ours = match text("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => text(header::ORIGIN.as_str()).is_some_and(|origin| match public_url {
            Some(public) => origin == public.origin(),
            None => origin.split_once("://").map(|(_, host)| host) == text(header::HOST.as_str()),
        }),
    };
    if ours {
        return Ok(());
    }
    Err(Problem::forbidden("the request does not come from a page of this console (Sec-Fetch-Site, Origin)"))
}

/// Checks the token in the header or in the form, and returns the request with its whole body.
///
/// # Errors
/// If the token is missing or wrong.
pub async fn check_token(request: Request, expected: &str) -> Result<Request, Problem> {
    if let Some(given) = request.headers().get(TOKEN_HEADER) {
        return if matches_token(given.as_bytes(), expected) { Ok(request) } else { Err(invalid_token()) };
    }
    let media = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !media.is_some_and(|media| media.starts_with(FORM)) {
        return Err(invalid_token());
    }
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, LARGEST_FORM)
        .await
        .map_err(|_| Problem::too_large("the form is larger than 26 MiB"))?;
    let given = url::form_urlencoded::parse(&body).find(|(name, _)| name == TOKEN_FIELD);
    if given.is_some_and(|(_, given)| matches_token(given.as_bytes(), expected)) {
        return Ok(Request::from_parts(parts, Body::from(body)));
    }
    Err(invalid_token())
}

fn matches_token(given: &[u8], expected: &str) -> bool {
    given.ct_eq(expected.as_bytes()).into()
}

fn invalid_token() -> Problem {
    Problem::forbidden(
        "the page is out of date: reload it (its CSRF token is missing or belongs to another session)",
    )
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn only_our_own_pages_send_changes() {
        let public: PublicUrl = "https://pv.example".parse().expect("an origin");
        for (pairs, accepted) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("sec-fetch-site", "same-site"), ("origin", "https://pv.example")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("origin", "https://pv.example")], true),
            (&[("origin", "http://pv.example")], false),
            (&[("origin", "null")], false),
            (&[], false),
        ] {
            assert_eq!(check(&headers(pairs), Some(&public)).is_ok(), accepted, "{pairs:?}");
        }
        let local = headers(&[("origin", "http://127.0.0.1:8080"), ("host", "127.0.0.1:8080")]);
        assert!(check(&local, None).is_ok());
        let other = headers(&[("origin", "http://evil.example"), ("host", "127.0.0.1:8080")]);
        assert!(check(&other, None).is_err());
    }

    #[tokio::test]
    async fn the_token_is_in_a_header_or_in_a_form_which_stays_complete() {
        let form = |body: &'static str| {
            Request::builder().header("content-type", FORM).body(Body::from(body)).expect("a request")
        };
        let request = check_token(form("a=1&csrf=right"), "right").await.expect("fine");
        assert_eq!(to_bytes(request.into_body(), 99).await.expect("a body"), "a=1&csrf=right");
        for body in ["", "csrf=wrong", "xcsrf=right"] {
            assert!(check_token(form(body), "right").await.is_err(), "{body}");
        }
        let with = |token: &'static str| {
            Request::builder().header(TOKEN_HEADER, token).body(Body::empty()).expect("a request")
        };
        assert!(check_token(with("right"), "right").await.is_ok());
        assert!(check_token(with("wrong"), "right").await.is_err());
    }
}
