//! The page of one execution: the request and the response.

use askama::Template;
use axum::{
    extract::{Path, State},
    http::header,
    response::IntoResponse,
};
use uuid::Uuid;

use super::row::Row;
use crate::{
    console::{
        Console,
        access::Viewer,
        pages::{
            Answer,
            body::Body,
            fields::{Fields, Query},
            format::moment,
            html,
            layout::{Frame, Section},
        },
        problem::Problem,
    },
    domain::{
        execution::{Disposition, Execution},
        outcome::Response,
    },
};

#[derive(Template)]
#[template(path = "executions/show.html")]
struct ShowPage {
    frame: Frame,
    row: Row,
    kind: String,
    target: String,
    retry_at: String,
    event_id: String,
    event_href: String,
    happened: String,
    worker: String,
    bodies: Vec<Body>,
    answer_note: String,
    /// The link to its dead letter, if it has one.
    dead_letter_href: Option<String>,
}

async fn named(console: &Console, id: &str) -> Result<Execution, Problem> {
    let id: Uuid = id.parse().map_err(|_| Problem::not_found(format!("there is no execution {id}")))?;
    Ok(console.store().execution(id).await?)
}

pub async fn show(
    Viewer(identity): Viewer,
    State(console): State<Console>,
    Path(id): Path<String>,
    Query(query): Query,
) -> Answer {
    let execution = identity.view_of(named(&console, &id).await?);
    let row = Row::of_whole(&execution);
    let task = execution.handler.as_ref().and_then(|handler| handler.task.as_ref());
    let event = &execution.event;
    html(&ShowPage {
        frame: Frame::in_section(Section::Executions, &format!("Execution of {}", event.name), &identity),
        kind: task.map(|task| task.kind.to_string()).unwrap_or_default(),
        target: task.map(|task| task.target.clone()).unwrap_or_default(),
        retry_at: execution.retry_at.map(|time| format!("{} UTC", moment(time))).unwrap_or_default(),
        event_id: event.id.to_string(),
        event_href: Fields::default().with("event_id", event.id.as_str()).href("/executions"),
        happened: format!("{} UTC", moment(event.dt)),
        worker: format!(
            "{}, process {}, version {}",
            execution.worker.host, execution.worker.pid, execution.worker.version
        ),
        bodies: bodies(&execution, query.get("whole") == "yes"),
        answer_note: answer_note(&execution),
        dead_letter_href: dead_letter_href(&execution),
        row,
    })
}

fn dead_letter_href(execution: &Execution) -> Option<String> {
    let handler =
        execution.handler.as_ref().filter(|_| execution.disposition == Disposition::DeadLettered)?;
    let search = Fields::default()
        .with("event_id", execution.event.id.as_str())
        .with("handler", handler.id.to_string())
        .with("state", "any");
    Some(search.href("/dead-letters"))
}

fn bodies(execution: &Execution, show_all: bool) -> Vec<Body> {
    let page = format!("/executions/{}", execution.id);
    let sent = if execution.attempt == 0 { "What would have been sent" } else { "Sent" };
    let mut bodies = vec![Body::new("sent", sent, execution.request.get(), &page, show_all)];
    for (id, title, text) in answers(execution.response.as_ref()) {
        let note = if execution.response.as_ref().is_some_and(|r| r.truncated) {
            "truncated when it was received"
        } else {
            ""
        };
        bodies.push(Body::new(id, title, text, &page, show_all).with_note(note));
    }
    bodies
        .into_iter()
        .map(|body| {
            let raw = format!("{page}/{}", body.id);
            body.with_raw(raw)
        })
        .collect()
}

/// The non-empty parts of a response: id, title, text.
pub fn answers(response: Option<&Response>) -> Vec<(&'static str, String, &str)> {
    let Some(response) = response else { return Vec::new() };
    let code = code(response);
    let parts = [
        ("answer", "Answered", &response.body),
        ("stdout", "Written to stdout", &response.stdout),
        ("stderr", "Written to stderr", &response.stderr),
    ];
    let parts = parts.into_iter().filter_map(|(id, title, text)| Some((id, title, text.as_deref()?)));
    parts
        .filter(|(_, _, text)| !text.is_empty())
        .map(|(id, title, text)| {
            (id, if code.is_empty() { title.to_owned() } else { format!("{title}, {code}") }, text)
        })
        .collect()
}

/// The result code of a response: `HTTP 200`, `exit code 0` or `signal 9`.
pub fn code(response: &Response) -> String {
    match (response.http_status, response.exit_code, response.signal) {
        (Some(status), ..) => format!("HTTP {status}"),
        (_, Some(code), _) => format!("exit code {code}"),
        (_, _, Some(signal)) => format!("signal {signal}"),
        _ => String::new(),
    }
}

/// A note for an execution without a response to show.
fn answer_note(execution: &Execution) -> String {
    let Some(response) = &execution.response else {
        return if execution.attempt == 0 { String::new() } else { "There was no response.".to_owned() };
    };
    match (answers(Some(response)).is_empty(), code(response)) {
        (true, code) if !code.is_empty() => format!("The response was {code}, without a body or output."),
        _ => String::new(),
    }
}

/// One part, unchanged, to be saved. It is always plain text: as HTML it would act with the session of the user.
pub async fn raw(
    Viewer(_): Viewer,
    State(console): State<Console>,
    Path((id, part)): Path<(String, String)>,
) -> Answer {
    let permit = console.messages.permit().await?;
    let execution = named(&console, &id).await?;
    let response = execution.response.clone().unwrap_or_default();
    let text = match part.as_str() {
        "sent" => Some(execution.request.get().to_owned()),
        "answer" => response.body,
        "stdout" => response.stdout,
        "stderr" => response.stderr,
        _ => None,
    };
    let text = text.ok_or_else(|| Problem::not_found("there is no such part of the execution"))?;
    Ok(permit.until_sent(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()))
}
