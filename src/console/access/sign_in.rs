//! Signing in and out.

use std::net::{IpAddr, SocketAddr};

use axum::{
    Router,
    extract::{ConnectInfo, FromRequestParts, RawQuery, State},
    http::{HeaderMap, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use ipnet::IpNet;
use serde::Deserialize;
use tracing::{info, warn};

use super::{OptionalIdentity, accounts::FIRST_USER, bootstrap_link::OneTimeLink, cookie, origin};
use crate::{
    console::{Console, pages::sign_in as page, problem::Problem},
    domain::access::{RandomToken, TokenHash},
};

const SIGN_IN: &str = "/sign-in";
const SIGN_OUT: &str = "/sign-out";
/// The largest form that is accepted. Ours are smaller.
const LARGEST_FORM: usize = 16 << 10;

/// Routes that need no authentication.
pub fn routes() -> Router<Console> {
    Router::new()
        .route(SIGN_IN, get(ask).post(sign_in))
        .route(OneTimeLink::PATH, get(ask_once).post(sign_in_once))
        .route(SIGN_OUT, post(sign_out))
}

/// The sign-in page, which leads back to `path`.
pub fn path_back_to(path: &str) -> String {
    let next: String = url::form_urlencoded::byte_serialize(path.as_bytes()).collect();
    format!("{SIGN_IN}?next={next}")
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    next: String,
    token: String,
}

impl Asked {
    fn of(query: Option<&str>) -> Self {
        serde_urlencoded::from_str(query.unwrap_or_default()).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Form {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
struct OnceForm {
    token: String,
}

async fn ask(
    State(console): State<Console>,
    OptionalIdentity(identity): OptionalIdentity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let next = safe_next(&Asked::of(query.as_deref()).next);
    if identity.is_some() {
        return Ok(Redirect::to(&next).into_response());
    }
    page::form(console.access.has_users(), "", &next, None)
}

/// Shows the page of the bootstrap link. Opening it does not use up the link, because mail and chat programs open links
/// too.
async fn ask_once(RawQuery(query): RawQuery) -> Result<Response, Problem> {
    page::once(&Asked::of(query.as_deref()).token, None)
}

async fn sign_in(
    State(console): State<Console>,
    Peer(address): Peer,
    headers: HeaderMap,
    body: axum::body::Body,
) -> Result<Response, Problem> {
    let Form { name, password, next } = form(&console, &headers, body).await?;
    let (name, next) = (name.trim(), safe_next(&next));
    if let Err(seconds) = console.access.limiter.begin(address, name) {
        warn!(%address, name = console.access.loggable(name), "rejected sign-in: too many attempts");
        let detail = format!("too many sign-in attempts: wait {} minutes", seconds.div_ceil(60));
        return page::form(
            console.access.has_users(),
            name,
            &next,
            Some(&Problem::too_many(detail, seconds)),
        );
    }
    let checked = console.access.check_password(name, password).await;
    if !matches!(checked, Ok(None)) {
        console.access.limiter.forgive(address, name);
    }
    if let Some(credential) = checked? {
        return begin(&console, name, &credential, &next).await;
    }
    warn!(%address, name = console.access.loggable(name), "rejected sign-in: wrong name or password");
    let problem = Problem::unauthenticated("the name or the password is wrong");
    page::form(console.access.has_users(), name, &next, Some(&problem))
}

async fn sign_in_once(
    State(console): State<Console>,
    headers: HeaderMap,
    body: axum::body::Body,
) -> Result<Response, Problem> {
    let OnceForm { token } = form(&console, &headers, body).await?;
    if let Some(credential) = console.access.use_first_link(&token) {
        return begin(&console, FIRST_USER, &credential, "/").await;
    }
    let detail =
        "this link was used before, or is from an earlier start: use the link in the log of the last start";
    page::once("", Some(&Problem::unauthenticated(detail)))
}

async fn begin(console: &Console, name: &str, credential: &[u8], next: &str) -> Result<Response, Problem> {
    let token = RandomToken::generate();
    console
        .store()
        .begin_session(&token.hash(), name, credential, console.settings.console.session_timeout)
        .await?;
    info!(name, "signed in");
    Ok(with_cookie(console, Some(&token), next))
}

/// Ends the session, if there is one. Another site cannot sign a user out: its requests fail the origin check, and
/// browsers send no cookie with them.
async fn sign_out(State(console): State<Console>, headers: HeaderMap) -> Result<Response, Problem> {
    origin::check(&headers, console.settings.console.public_url.as_ref())?;
    if let Some(token) = cookie::session(&headers) {
        console.store().end_session(&TokenHash::of(token)).await?;
    }
    Ok(with_cookie(&console, None, SIGN_IN))
}

fn with_cookie(console: &Console, token: Option<&RandomToken>, next: &str) -> Response {
    let mut response = Redirect::to(next).into_response();
    if let Some(cookie) = cookie::set(console.settings.console.public_url.as_ref(), token) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Reads a form that one of our pages sent. Otherwise another site could sign a person in as somebody else.
async fn form<T: serde::de::DeserializeOwned>(
    console: &Console,
    headers: &HeaderMap,
    body: axum::body::Body,
) -> Result<T, Problem> {
    origin::check(headers, console.settings.console.public_url.as_ref())?;
    let body = axum::body::to_bytes(body, LARGEST_FORM).await;
    let body = body.map_err(|_| Problem::too_large("the form is larger than 16 KiB"))?;
    serde_urlencoded::from_bytes(&body).map_err(|error| Problem::bad_request(error.to_string()))
}

/// `next` if it is a path of this console, otherwise `/`: a link must not lead to another site.
fn safe_next(next: &str) -> String {
    let ours = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains(|c: char| c == '\\' || c.is_control());
    if ours { next.to_owned() } else { "/".to_owned() }
}

/// The address of the client: of the TCP peer, or as a trusted proxy reports it.
struct Peer(IpAddr);

impl FromRequestParts<Console> for Peer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Problem> {
        let ConnectInfo(peer) = ConnectInfo::<SocketAddr>::from_request_parts(parts, console)
            .await
            .map_err(|_| Problem::internal())?;
        Ok(Self(client(peer.ip(), &parts.headers, &console.settings.console.trusted_proxies)))
    }
}

/// The last address in `X-Forwarded-For` that is not a trusted proxy: the client may have written what stands before
/// it. If an entry cannot be read, the proxy that added it counts as the client.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer.to_canonical();
    if !is_trusted(&peer) {
        return peer;
    }
    let lines = headers.get_all("x-forwarded-for").iter().map(|line| line.to_str().unwrap_or_default());
    let entries: Vec<_> = lines.flat_map(|line| line.split(',')).collect();
    let mut nearest = peer;
    for entry in entries.into_iter().rev() {
        match forwarded(entry.trim()) {
            Some(proxy) if is_trusted(&proxy) => nearest = proxy,
            Some(client) => return client,
            None => break,
        }
    }
    nearest
}

/// Parses an address as proxies write it: with a port or a zone, or in brackets.
fn forwarded(entry: &str) -> Option<IpAddr> {
    let with_port = || entry.parse().ok().map(|address: SocketAddr| address.ip());
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let (bare, _zone) = bare.split_once('%').unwrap_or((bare, ""));
    bare.parse().ok().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn next_is_a_path_of_the_console() {
        for (next, expected) in [
            ("/handlers?event=a", "/handlers?event=a"),
            ("", "/"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example", "/"),
            ("/a\r\nset-cookie: b", "/"),
            ("/\0", "/"),
            ("/a\u{7f}", "/"),
        ] {
            assert_eq!(safe_next(next), expected);
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("6.6.6.6, 203.0.113.9, 10.0.0.7"));
        let (proxy, other) = ("10.0.0.1".parse().expect("one"), "198.51.100.1".parse().expect("one"));
        let trusted = ["10.0.0.0/8".parse().expect("a network")];
        assert_eq!(client(proxy, &headers, &trusted).to_string(), "203.0.113.9");
        assert_eq!(client(other, &headers, &trusted), other);
        assert_eq!(client(proxy, &HeaderMap::new(), &trusted), proxy);
    }

    #[test]
    fn the_entry_of_the_last_trusted_proxy_counts_in_any_form() {
        let proxy = "10.0.0.1".parse().expect("one");
        let trusted = ["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("a network")];
        for (lines, expected) in [
            (&["198.51.100.7, 203.0.113.9:54321"][..], "203.0.113.9"),
            (&["198.51.100.7, [2001:db8::9]:443"], "2001:db8::9"),
            (&["198.51.100.7,[2001:db8::9]"], "2001:db8::9"),
            (&["198.51.100.7, fe80::9%eth0"], "fe80::9"),
            (&["198.51.100.7, [fe80::9%25eth0]:80"], "10.0.0.1"),
            (&["198.51.100.7, ::ffff:203.0.113.9"], "203.0.113.9"),
            (&["198.51.100.7, ::ffff:10.0.0.3"], "198.51.100.7"),
            (&["198.51.100.7, 10.0.0.5:80, fd00::2"], "198.51.100.7"),
            (&["198.51.100.7", "203.0.113.9"], "203.0.113.9"),
            (&["198.51.100.7", "203.0.113.9, 10.0.0.5"], "203.0.113.9"),
            (&["198.51.100.7, unknown"], "10.0.0.1"),
            (&["198.51.100.7, unknown, 10.0.0.5"], "10.0.0.5"),
            (&["198.51.100.7, _hidden, [fd00::2]:1"], "fd00::2"),
            (&["198.51.100.7, "], "10.0.0.1"),
            (&["198.51.100.7, 203.0.113.9:x"], "10.0.0.1"),
            (&["198.51.100.7, 203.0.113.999"], "10.0.0.1"),
            (&["198.51.100.7, \"203.0.113.9\""], "10.0.0.1"),
            (&["10.0.0.2"], "10.0.0.2"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", HeaderValue::from_static(line));
            }
            assert_eq!(client(proxy, &headers, &trusted).to_string(), expected, "{lines:?}");
        }
    }
}
