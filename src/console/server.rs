//! The HTTP server of the console: it listens, builds the router, and adds the layers around every route.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{DefaultBodyLimit, OriginalUri, Request},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer, timeout::RequestBodyTimeoutLayer,
};
use tracing::info;

use super::{
    Console, ConsoleSettings, Parts, access, api, assets, below, drain_body, limited::Limited, pages,
    problem::Problem,
};
use crate::{
    dead_letters::{DeadLetters, Jobs},
    http_server,
    operations::Trials,
    status::StatusWatch,
    telemetry::metrics::console_request,
};

/// The largest request body, in bytes. An event has at most 8 MiB, but escaping in JSON makes it larger.
const LARGEST_BODY: usize = 26 << 20;
/// The longest pause between two parts of a request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The most open connections. Each live page and each export occupies one.
const MAX_CONNECTIONS: usize = 256;
/// How long responses may continue after the shutdown has started.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Security headers of every response.
///
/// `Referrer-Policy` is not `no-referrer`: browsers would then send `Origin: null` with forms, which `access` rejects.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Serves the console until `stop` is cancelled.
///
/// # Errors
/// If it cannot listen, because the address is in use or does not belong to this machine.
pub async fn run(
    settings: ConsoleSettings,
    dead_letters: DeadLetters,
    trials: Trials,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listen = settings.console.listen;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("the console cannot listen on {listen} (console.listen)"))?;
    let address = listener.local_addr().context("cannot read the address of the console")?;
    let base_url =
        settings.console.public_url.as_ref().map_or_else(|| format!("http://{address}"), ToString::to_string);
    let access = access::Access::new(&settings).await?;
    info!(%address, url = base_url, "the console listens");
    if let Some(link) = access.first_link(&base_url) {
        // The link is a credential. It is logged only if no user is configured, and then the console listens on a
        // loopback address.
        info!("no user is configured (provisiond users hash): sign in once with {link}");
    }
    let jobs = Jobs::new(dead_letters.clone(), stop.clone());
    let status = StatusWatch::new(dead_letters.store.clone(), dead_letters.broker.clone());
    let parts = Parts {
        settings,
        dead_letters,
        jobs: jobs.clone(),
        trials,
        status,
        access,
        exports: Limited::new("four exports of dead letters are running", 4),
        live_pages: Limited::new("sixty-four live pages are open", 64),
        messages: Limited::new("four requests for whole messages are running", 4),
        stop: stop.clone(),
    };
    let console = Console(Arc::new(parts));
    let path =
        console.settings.console.public_url.as_ref().map_or_else(String::new, |url| url.path().to_owned());
    let app = below::path(path, app(console));
    let serving = http_server::serve(listener, app, MAX_CONNECTIONS, stop.clone());
    let deadline = async {
        stop.cancelled().await;
        tokio::time::sleep(SHUTDOWN_TIMEOUT).await;
    };
    tokio::select! {
        () = serving => {}
        () = deadline => {}
    }
    // A running job finishes its current item. An operator can resume it later.
    jobs.ended().await;
    Ok(())
}

fn app(console: Console) -> Router {
    let guarded = Router::new()
        .merge(pages::routes())
        .nest("/api/v1", api::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(console.clone(), access::guard));
    let mut app = open()
        .merge(guarded)
        .layer(middleware::from_fn_with_state(console.clone(), pages::problems_as_pages))
        .layer(middleware::from_fn(count_request))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(RequestBodyTimeoutLayer::new(BODY_TIMEOUT))
        .layer(DefaultBodyLimit::max(LARGEST_BODY));
    for (name, value) in HEADERS {
        app = app.layer(SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value)));
    }
    // Pages may show secrets and are soon out of date. Assets set their own `Cache-Control`.
    let no_store =
        SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    app.layer(no_store).layer(middleware::from_fn(drain_body::drain_unread_body)).with_state(console)
}

/// The only routes that need no authentication.
fn open() -> Router<Console> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/assets/{version}/{name}", get(assets::serve))
        .merge(access::sign_in::routes())
}

async fn count_request(request: Request, next: Next) -> Response {
    let (method, started) = (request.method().clone(), Instant::now());
    let response = next.run(request).await;
    console_request(method.as_str(), response.status().as_u16(), started.elapsed());
    response
}

/// Redirects a page URL with a trailing slash to the URL without it; otherwise 404.
async fn not_found(method: Method, OriginalUri(uri): OriginalUri) -> Response {
    let path = uri.path().trim_end_matches('/');
    // A `Location` that starts with two slashes would lead to another host.
    let is_page = path.starts_with('/') && !path.starts_with("//") && !path.starts_with("/api/");
    if path != uri.path() && is_page && [Method::GET, Method::HEAD].contains(&method) {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        return Redirect::permanent(&format!("{path}{query}")).into_response();
    }
    Problem::not_found("there is nothing at this address").into_response()
}

async fn method_not_allowed(method: Method) -> Problem {
    Problem::method_not_allowed(&method)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what the layer hands over")]
fn panicked(why: Box<dyn std::any::Any + Send>) -> Response {
    let text =
        why.downcast_ref::<String>().map(String::as_str).or_else(|| why.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("unknown"), "console request panicked");
    Problem::internal().into_response()
}
