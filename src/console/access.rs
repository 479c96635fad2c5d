//! Who asks, and whether they may: the one place where that is decided.
//!
//! A session is a cookie that begins with signing in; a token is sent as `Authorization: Bearer …`. Both are looked up at
//! every request in what is configured now, so that who is taken out of the configuration is out. What a browser sends by
//! itself, a cookie, does not suffice to change something: the request must also come from a page of ours.

mod accounts;
mod bootstrap_link;
mod cookie;
mod limiter;
mod masked;
mod origin;
pub mod sign_in;

use std::convert::Infallible;

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, Method, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use sha2::{Digest, Sha256};

use super::{Console, problem::Problem};
use crate::domain::access::{Role, TokenHash};
pub use accounts::Access;

/// Somebody whom we know.
#[derive(Clone, Debug)]
pub struct Identity {
    name: String,
    role: Role,
    /// Of a session: what its forms must hold. A token has none.
    csrf: Option<String>,
}

impl Identity {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub const fn may_change(&self) -> bool {
        self.role.may_change()
    }

    pub const fn role(&self) -> Role {
        self.role
    }

    /// What a form must send in its field `csrf`.
    pub fn csrf(&self) -> &str {
        self.csrf.as_deref().unwrap_or_default()
    }

    /// Who changes something, for the history.
    pub fn by(&self) -> String {
        let means = if self.csrf.is_some() { "console" } else { "token" };
        format!("{} ({means})", self.name)
    }
}

/// Somebody who may look.
pub struct Viewer(pub Identity);

/// Somebody who may change things.
pub struct Operator(pub Identity);

/// What the guard found out. A route that is not behind it finds nothing, and refuses.
fn identity(parts: &Parts) -> Result<Identity, Problem> {
    let known = parts.extensions.get::<Identity>().cloned();
    known.ok_or_else(|| Problem::unauthenticated("nobody is signed in"))
}

impl FromRequestParts<Console> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Console) -> Result<Self, Problem> {
        identity(parts).map(Self)
    }
}

impl FromRequestParts<Console> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Console) -> Result<Self, Problem> {
        let identity = identity(parts)?;
        if identity.may_change() { Ok(Self(identity)) } else { Err(only_looks(&identity)) }
    }
}

fn only_looks(identity: &Identity) -> Problem {
    Problem::forbidden(format!("{} is a viewer, and may look but change nothing", identity.name))
}

/// Whether a method promises to change nothing.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Lets nobody through whom we do not know, and no change by who may only look.
pub async fn guard(State(console): State<Console>, request: Request, next: Next) -> Response {
    match admitted(&console, request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => *refusal,
    }
}

/// The request with its [`Identity`].
async fn admitted(console: &Console, mut request: Request) -> Result<Request, Box<Response>> {
    let refuse = |problem: Problem| Box::new(problem.into_response());
    let Some(identity) = authenticate(console, request.headers()).await.map_err(refuse)? else {
        return Err(Box::new(unknown(&request)));
    };
    if !is_safe(request.method()) {
        // Whoever is signed in may sign out.
        if !identity.may_change() && request.uri().path() != sign_in::SIGN_OUT {
            return Err(refuse(only_looks(&identity)));
        }
        if let Some(csrf) = &identity.csrf {
            let origin = console.settings.public_url.as_ref();
            origin::check(request.headers(), origin).map_err(refuse)?;
            request = origin::check_token(request, csrf).await.map_err(refuse)?;
        }
    }
    request.extensions_mut().insert(identity);
    Ok(request)
}

/// Who sends this. A token of ours goes before a session; a proxy may ask for a password or a token of its own, which the
/// browser then sends along, and which says nothing of who is signed in here.
///
/// # Errors
/// If the sessions cannot be read.
async fn authenticate(console: &Console, headers: &HeaderMap) -> Result<Option<Identity>, Problem> {
    if let Some(identity) = bearer(headers).and_then(|token| console.access.by_token(token)) {
        return Ok(Some(identity));
    }
    let Some(token) = cookie::session(headers) else { return Ok(None) };
    let lasts = console.settings.session_timeout;
    let stored = console.store().continue_session(&TokenHash::of(token), lasts).await?;
    let role = stored.as_ref().and_then(|session| console.access.role_of(&session.user, &session.credential));
    let (Some(session), Some(role)) = (stored, role) else { return Ok(None) };
    Ok(Some(Identity { name: session.user, role, csrf: Some(csrf_of(token)) }))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Whether who sent this is still known, for answers that go on: they end when the session does. While the sessions cannot
/// be read, nobody is turned away.
pub async fn is_still_known(console: &Console, headers: &HeaderMap) -> bool {
    !matches!(authenticate(console, headers).await, Ok(None))
}

/// Derived from the session's token, which no script can read and no other site can know.
fn csrf_of(token: &str) -> String {
    let digest = Sha256::new().chain_update("csrf/").chain_update(token).finalize();
    base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, digest)
}

/// A person is led to the sign-in, and from there back; a program is told.
fn unknown(request: &Request) -> Response {
    let accepts = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let is_page = accepts.is_some_and(|accept| accept.contains("text/html"));
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if is_page && request.method() == Method::GET && !path.starts_with("/api/") {
        return Redirect::to(&sign_in::path_back_to(path)).into_response();
    }
    Problem::unauthenticated(match bearer(request.headers()) {
        Some(_) => "the token is not one of console.tokens",
        None => {
            "sign in at /sign-in, or send the header Authorization: Bearer … with a token of console.tokens"
        }
    })
    .into_response()
}

/// The visitor of a page that is open to everybody, if it is somebody.
pub struct Anybody(pub Option<Identity>);

impl FromRequestParts<Console> for Anybody {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Infallible> {
        Ok(Self(authenticate(console, &parts.headers).await.ok().flatten()))
    }
}
