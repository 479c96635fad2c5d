//! The HTML pages, each rendered on the server from a template in `templates/`.

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

/// The result of a page function.
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

/// Renders a template into a response.
///
/// # Errors
/// 500 if the template cannot be rendered, which is a fault of provisiond.
pub fn html(page: &impl Template) -> Answer {
    match page.render() {
        Ok(text) => {
            Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))], text)
                .into_response())
        }
        Err(error) => {
            tracing::error!(%error, "cannot render the page");
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

/// A middleware that turns a problem into a page if the client is a browser and the path is not of the API.
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

/// Sets the status of a page, for errors.
pub fn with_status(status: StatusCode, answer: Answer) -> Answer {
    answer.map(|mut response| {
        *response.status_mut() = status;
        response
    })
}
