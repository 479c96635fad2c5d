//! The pages: server-rendered HTML, each from a template in `templates/`.

mod body;
mod chart;
mod dead_letters;
mod diff;
mod events;
mod executions;
mod fields;
mod format;
mod handlers;
mod layout;
mod lists;
mod overview;
mod replays;
mod sample;
pub mod sign_in;

use askama::Template;
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};

use super::{Console, problem::Problem};
pub use layout::Frame;

/// What a page's function gives.
pub type Answer = Result<Response, Problem>;

pub fn routes() -> Router<Console> {
    Router::new()
        .route("/", get(overview::overview))
        .merge(handlers::routes())
        .merge(executions::routes())
        .merge(dead_letters::routes())
        .merge(replays::routes())
        .merge(events::routes())
}

/// A template as an answer.
///
/// # Errors
/// If it cannot be rendered, which would be a fault of ours.
pub fn html(page: &impl Template) -> Answer {
    match page.render() {
        Ok(text) => {
            Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))], text)
                .into_response())
        }
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            Err(Problem::internal())
        }
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    frame: Frame,
    problem: &'a Problem,
}

/// What a person's browser asked for and cannot be done is told in a page.
pub async fn problems_as_pages(State(_): State<Console>, request: Request, next: Next) -> Response {
    let wants = wants_html(request.headers()) && !request.uri().path().starts_with("/api/");
    let response = next.run(request).await;
    let Some(problem) = response.extensions().get::<Problem>().cloned().filter(|_| wants) else {
        return response;
    };
    let frame = Frame::of(problem.title(), None);
    let Ok(mut page) = html(&ProblemPage { frame, problem: &problem }) else { return response };
    *page.status_mut() = problem.status();
    for (name, value) in response.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            page.headers_mut().append(name.clone(), value.clone());
        }
    }
    page
}

fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// A page with another status than 200.
pub fn with_status(status: StatusCode, answer: Answer) -> Answer {
    answer.map(|mut response| {
        *response.status_mut() = status;
        response
    })
}
