//! Authentication and authorization of requests, in one place.
//!
//! A browser sends the cookie of a session, which begins with signing in; a program sends a token as `Authorization:
//! Bearer …`. Each request compares both with the configuration of this process, so users and tokens that are not
//! configured have no access. Browsers send a cookie by themselves, so a cookie alone is not enough for a change: the
//! request must also come from one of our pages (`origin`).

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

/// An authenticated user or token.
#[derive(Clone, Debug)]
pub struct Identity {
    name: String,
    role: Role,
    /// The CSRF token of a session, which its forms must send. A bearer token has none.
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

    /// Who makes a change, for the history.
    pub fn by(&self) -> String {
        let via = if self.csrf.is_some() { "console" } else { "token" };
        format!("{} ({via})", self.name)
    }
}

/// Extracts an authenticated identity, which may read.
pub struct Viewer(pub Identity);

/// Extracts an identity that may make changes.
pub struct Operator(pub Identity);

/// The identity that [`guard`] found. A route without the guard has none and refuses every request.
fn identity(parts: &Parts) -> Result<Identity, Problem> {
    let known = parts.extensions.get::<Identity>().cloned();
    known.ok_or_else(|| Problem::unauthenticated("the request is not authenticated"))
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
        if identity.may_change() { Ok(Self(identity)) } else { Err(read_only_problem(&identity)) }
    }
}

fn read_only_problem(identity: &Identity) -> Problem {
    Problem::forbidden(format!("{} is a viewer and may not make changes", identity.name))
}

/// Whether a request with this method must not change anything.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Rejects unauthenticated requests, and writes by viewers.
pub async fn guard(State(console): State<Console>, request: Request, next: Next) -> Response {
    match admitted(&console, request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => *refusal,
    }
}

/// Checks the request and adds its [`Identity`].
async fn admitted(console: &Console, mut request: Request) -> Result<Request, Box<Response>> {
    let refuse = |problem: Problem| Box::new(problem.into_response());
    let Some(identity) = authenticate(console, request.headers()).await.map_err(refuse)? else {
        return Err(Box::new(unknown(&request)));
    };
    if !is_safe(request.method()) {
        if !identity.may_change() {
            return Err(refuse(read_only_problem(&identity)));
        }
        if let Some(csrf) = &identity.csrf {
            let origin = console.settings.console.public_url.as_ref();
            origin::check(request.headers(), origin).map_err(refuse)?;
            request = origin::check_token(request, csrf).await.map_err(refuse)?;
        }
    }
    request.extensions_mut().insert(identity);
    Ok(request)
}

/// Identifies the sender. A configured token takes precedence over a session. Other values of `Authorization` are
/// ignored: a proxy may ask for its own password or token, which the browser then sends along.
///
/// # Errors
/// If the sessions cannot be read.
async fn authenticate(console: &Console, headers: &HeaderMap) -> Result<Option<Identity>, Problem> {
    if let Some(identity) = bearer(headers).and_then(|token| console.access.by_token(token)) {
        return Ok(Some(identity));
    }
    let Some(token) = cookie::session(headers) else { return Ok(None) };
    let timeout = console.settings.console.session_timeout;
    let stored = console.store().continue_session(&TokenHash::of(token), timeout).await?;
    let role = stored.as_ref().and_then(|session| console.access.role_of(&session.user, &session.credential));
    let (Some(session), Some(role)) = (stored, role) else { return Ok(None) };
    Ok(Some(Identity { name: session.user, role, csrf: Some(csrf_of(token)) }))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Whether the sender is still authenticated, for streamed responses: they end with the session. While the sessions
/// cannot be read, the answer is yes.
pub async fn is_still_known(console: &Console, headers: &HeaderMap) -> bool {
    !matches!(authenticate(console, headers).await, Ok(None))
}

/// The CSRF token, derived from the session token, which no script can read and no other site can know.
fn csrf_of(token: &str) -> String {
    let digest = Sha256::new().chain_update("csrf/").chain_update(token).finalize();
    base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, digest)
}

/// Redirects a browser to the sign-in page, and from there back. Answers 401 to a program.
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

/// Extracts the visitor of a page that is open to everyone, if authenticated.
pub struct OptionalIdentity(pub Option<Identity>);

impl FromRequestParts<Console> for OptionalIdentity {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Infallible> {
        Ok(Self(authenticate(console, &parts.headers).await.ok().flatten()))
    }
}
