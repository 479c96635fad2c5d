//! The page of one dead letter: the reason, the event, all attempts, and the handlers that a replay would run.

use askama::Template;
use axum::{
    extract::{Path, State as AxumState},
    http::header,
    response::IntoResponse,
};

use super::{id, row::Row};
use crate::{
    console::{
        Console,
        access::Viewer,
        limited::blocking,
        pages::{
            Answer,
            body::Body,
            executions::code,
            fields::{Fields, Query},
            format::{capital, duration, handler_name, moment, short},
            html,
            layout::{Frame, Section},
        },
    },
    dead_letters::Shown,
    domain::{
        dead_letter::State,
        execution::{Disposition, Execution},
    },
    store::{DeadLetterRow, PlannedHandler},
};

struct Attempt {
    id: String,
    tone: &'static str,
    headline: String,
    date: String,
    duration: String,
    error: String,
    answer: String,
}

struct Planned {
    id: i64,
    name: String,
    enabled: bool,
    /// The note of a handler that is not enabled.
    off: String,
}

#[derive(Template)]
#[template(path = "dead_letters/show.html")]
struct ShowPage {
    frame: Frame,
    problem: String,
    row: Row,
    is_open: bool,
    state: String,
    /// Who closed it, when and why. Empty while it is open.
    closed: String,
    object_href: String,
    event_id: String,
    event_href: String,
    handler_page: String,
    first_failed: String,
    worker: String,
    published: String,
    obstacle: String,
    planned: Vec<Planned>,
    attempts: Vec<Attempt>,
    body: Body,
}

pub async fn show(
    Viewer(identity): Viewer,
    AxumState(console): AxumState<Console>,
    Path(text): Path<String>,
    Query(query): Query,
) -> Answer {
    let permit = console.messages.permit().await?;
    let shown = identity.view_of(console.dead_letters.show(id(&text)?).await?);
    let title = format!("Dead letter of {}", shown.letter.row.letter.event_name);
    let frame = Frame::in_section(Section::DeadLetters, &title, &identity).with_notice(&query);
    let answer = blocking(|| html(&page(frame, &shown, query.get("whole") == "yes")))?;
    Ok(permit.until_sent(answer))
}

fn page(frame: Frame, shown: &Shown, show_all: bool) -> ShowPage {
    let stored = &shown.letter;
    let dead_letter = &stored.row.letter;
    let row = Row::of(dead_letter);
    let href = format!("/dead-letters/{}", dead_letter.id);
    let (text, note) = match std::str::from_utf8(&stored.body) {
        Ok(text) => (text.into(), ""),
        Err(_) => (String::from_utf8_lossy(&stored.body), "not UTF-8: other bytes are shown as \u{fffd}"),
    };
    let body = Body::new("body", "The event", &text, &href, show_all)
        .with_note(note)
        .with_raw(format!("{href}/body"));
    let published = [&stored.exchange, &stored.routing_key, &stored.content_type];
    let published: Vec<_> = published.into_iter().flatten().map(String::as_str).collect();
    ShowPage {
        problem: String::new(),
        is_open: stored.row.state == State::Open,
        state: stored.row.state.to_string(),
        closed: closed(&stored.row),
        object_href: Fields::default().with("object_id", &row.object_id).href("/executions"),
        event_id: dead_letter.event_id.clone().unwrap_or_default(),
        event_href: Fields::default()
            .with("event_id", dead_letter.event_id.as_deref().unwrap_or_default())
            .href("/executions"),
        handler_page: dead_letter.handler_id.map(|id| format!("/handlers/{id}")).unwrap_or_default(),
        first_failed: dead_letter.first_failed_at.map(moment).unwrap_or_default(),
        worker: dead_letter
            .worker
            .as_ref()
            .map(|w| format!("{}, process {}", w.host, w.pid))
            .unwrap_or_default(),
        published: published.join(", "),
        obstacle: shown.replay.obstacle.clone().unwrap_or_default(),
        planned: shown.replay.handlers.iter().map(planned).collect(),
        attempts: shown.attempts.iter().map(attempt).collect(),
        body,
        row,
        frame,
    }
}

fn closed(row: &DeadLetterRow) -> String {
    if row.state == State::Open {
        return String::new();
    }
    let by = row.state_changed_by.as_deref().unwrap_or("somebody");
    let date = row.state_changed_at.map(|time| format!(", {} UTC", moment(time))).unwrap_or_default();
    let note = row.state_note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
    format!("{} by {by}{date}{note}", capital(row.state.as_str()))
}

fn planned(handler: &PlannedHandler) -> Planned {
    let name = handler.name.as_deref().map(|name| short(name, 80));
    let name = handler_name(handler.id, name.as_deref(), handler.deleted);
    let off = match &handler.replaced_by {
        Some(other) => format!("does not exist any more, {} has its id now: skipped", short(other, 60)),
        None => "not enabled: skipped".to_owned(),
    };
    Planned { id: handler.id.0, name, enabled: handler.enabled, off }
}

fn attempt(execution: &Execution) -> Attempt {
    let handler = execution.handler.as_ref().and_then(|handler| handler.name.as_ref());
    let of_handler = handler.map(|name| format!(" of {}", short(name.as_str(), 60))).unwrap_or_default();
    let (tone, ended) = match execution.disposition {
        Disposition::Done => ("good", "succeeded"),
        Disposition::Forbidden => ("warn", "forbade the event"),
        Disposition::Retrying => ("warn", "failed and is retried"),
        Disposition::DeadLettered => ("bad", "failed and was given up"),
        _ => ("", "was skipped"),
    };
    let headline = if execution.attempt == 0 {
        format!("The call{of_handler} {ended}")
    } else {
        format!("Attempt {}{of_handler} {ended}", execution.attempt)
    };
    let answer = execution.response.as_ref().map(|response| {
        let texts = [&response.body, &response.stdout, &response.stderr];
        let output = texts.into_iter().flatten().find(|text| !text.trim().is_empty());
        let output = output.map(|text| format!(": {}", short(text.trim(), 300))).unwrap_or_default();
        format!("{}{output}", code(response))
    });
    Attempt {
        id: execution.id.to_string(),
        tone,
        headline,
        date: moment(execution.started_at),
        duration: duration(execution.duration_ms),
        error: execution.error.clone().unwrap_or_default(),
        answer: answer.unwrap_or_default(),
    }
}

/// The unchanged body, as plain text, or as binary data if it is not UTF-8. It must never be served as HTML or script,
/// because it would then act with the session of the operator.
pub async fn raw(
    Viewer(_): Viewer,
    AxumState(console): AxumState<Console>,
    Path(text): Path<String>,
) -> Answer {
    let permit = console.messages.permit().await?;
    let stored = console.store().dead_letter(id(&text)?).await?;
    let media_type = match std::str::from_utf8(&stored.body) {
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    };
    Ok(permit.until_sent(([(header::CONTENT_TYPE, media_type)], stored.body).into_response()))
}
