//! Authentication and authorization of all requests.
//!
//! A client sends a session cookie, which it got when it signed in, or `Authorization: Bearer …` with a token. Both are
//! compared with the configured users and tokens at every request. Removing a user or a token therefore revokes access,
//! including open sessions, at the next restart. A browser sends its cookie by itself, so a cookie is not enough for a
//! write: the request must also come from a page of this console.

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

/// The authenticated caller.
#[derive(Clone, Debug)]
pub struct Identity {
    name: String,
    role: Role,
    /// The CSRF token of a session. `None` for a bearer token.
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

    /// The value that a form must send in its field `csrf`.
    pub fn csrf(&self) -> &str {
        self.csrf.as_deref().unwrap_or_default()
    }

    /// The author of a change, for the history: the name, and whether a session or a token was used.
    pub fn by(&self) -> String {
        let means = if self.csrf.is_some() { "console" } else { "token" };
        format!("{} ({means})", self.name)
    }
}

/// An extractor: a caller who may read.
pub struct Viewer(pub Identity);

/// An extractor: a caller who may write.
pub struct Operator(pub Identity);

/// The identity that [`guard`] stored in the request. A route without the guard has none and answers 401.
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

/// Whether requests with this method only read.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Rejects unauthenticated requests, writes by viewers, and writes of a session that another site sent.
pub async fn guard(State(console): State<Console>, request: Request, next: Next) -> Response {
    match admitted(&console, request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => *refusal,
    }
}

/// The request with its [`Identity`], or the response that rejects it.
async fn admitted(console: &Console, mut request: Request) -> Result<Request, Box<Response>> {
    let refuse = |problem: Problem| Box::new(problem.into_response());
    let Some(identity) = authenticate(console, request.headers()).await.map_err(refuse)? else {
        return Err(Box::new(unknown(&request)));
    };
    if !is_safe(request.method()) {
        // A viewer may sign out too.
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

/// Finds out who sent a request: `None` if it has neither a valid token nor a valid session.
///
/// A valid token has precedence over a session. An unknown `Authorization` header is ignored: a proxy in front may ask
/// for its own password or token, and the browser sends that along with the session cookie.
///
/// # Errors
/// If the sessions cannot be read from the database.
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

/// Whether the sender of a request is still authenticated. A live page checks this and ends with its session.
///
/// It also returns `true` while the sessions cannot be read, so that a database outage ends no live page.
pub async fn is_still_known(console: &Console, headers: &HeaderMap) -> bool {
    !matches!(authenticate(console, headers).await, Ok(None))
}

/// Derives the CSRF token from the session token, which scripts cannot read and other sites do not know.
fn csrf_of(token: &str) -> String {
    let digest = Sha256::new().chain_update("csrf/").chain_update(token).finalize();
    base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, digest)
}

/// Redirects a browser to the sign-in page, which leads back; answers 401 to a program.
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

/// An extractor for pages that need no authentication: the caller, if there is one.
pub struct Anybody(pub Option<Identity>);

impl FromRequestParts<Console> for Anybody {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Infallible> {
        Ok(Self(authenticate(console, &parts.headers).await.ok().flatten()))
    }
}
