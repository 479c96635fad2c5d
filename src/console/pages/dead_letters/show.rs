//! The page of one dead letter: the reason, the event, all attempts, and the handlers that a replay would run.

use askama::Template;
use axum::{
    extract::{Path, State as Of},
    http::header,
    response::IntoResponse,
};

use super::{id, row::Row};
use crate::{
    console::{
        Console,
        access::Viewer,
        limited::apart,
        pages::{
            Answer,
            body::Body,
            executions::code,
            fields::{Asked, Fields},
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
    Viewer(somebody): Viewer,
    Of(console): Of<Console>,
    Path(text): Path<String>,
    Asked(asked): Asked,
) -> Answer {
    let turn = console.messages.turn().await?;
    let shown = somebody.view_of(console.letters.show(id(&text)?).await?);
    let title = format!("Dead letter of {}", shown.letter.row.letter.event_name);
    let frame = Frame::in_section(Section::DeadLetters, &title, &somebody).telling(&asked);
    let answer = apart(|| html(&page(frame, &shown, asked.get("whole") == "yes")))?;
    Ok(turn.until_sent(answer))
}

fn page(frame: Frame, shown: &Shown, whole: bool) -> ShowPage {
    let letter = &shown.letter;
    let facts = &letter.row.letter;
    let row = Row::of(facts);
    let href = format!("/dead-letters/{}", facts.id);
    let (text, note) = match std::str::from_utf8(&letter.body) {
        Ok(text) => (text.into(), ""),
        Err(_) => (String::from_utf8_lossy(&letter.body), "not UTF-8: other bytes are shown as \u{fffd}"),
    };
    let body =
        Body::new("body", "The event", &text, &href, whole).with_note(note).with_raw(format!("{href}/body"));
    let published = [&letter.exchange, &letter.routing_key, &letter.content_type];
    let published: Vec<_> = published.into_iter().flatten().map(String::as_str).collect();
    ShowPage {
        problem: String::new(),
        is_open: letter.row.state == State::Open,
        state: letter.row.state.to_string(),
        closed: closed(&letter.row),
        object_href: Fields::default().with("object_id", &row.object_id).href("/executions"),
        event_id: facts.event_id.clone().unwrap_or_default(),
        event_href: Fields::default()
            .with("event_id", facts.event_id.as_deref().unwrap_or_default())
            .href("/executions"),
        handler_page: facts.handler_id.map(|id| format!("/handlers/{id}")).unwrap_or_default(),
        first_failed: facts.first_failed_at.map(moment).unwrap_or_default(),
        worker: facts.worker.as_ref().map(|w| format!("{}, process {}", w.host, w.pid)).unwrap_or_default(),
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
    let at = row.state_changed_at.map(|at| format!(", {} UTC", moment(at))).unwrap_or_default();
    let note = row.state_note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
    format!("{} by {by}{at}{note}", capital(row.state.as_str()))
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
    let of = handler.map(|name| format!(" of {}", short(name.as_str(), 60))).unwrap_or_default();
    let (tone, ended) = match execution.disposition {
        Disposition::Done => ("good", "succeeded"),
        Disposition::Forbidden => ("warn", "forbade the event"),
        Disposition::Retrying => ("warn", "failed and is retried"),
        Disposition::DeadLettered => ("bad", "failed and was given up"),
        _ => ("", "was skipped"),
    };
    let headline = if execution.attempt == 0 {
        format!("The call{of} {ended}")
    } else {
        format!("Attempt {}{of} {ended}", execution.attempt)
    };
    let answer = execution.response.as_ref().map(|response| {
        let texts = [&response.body, &response.stdout, &response.stderr];
        let said = texts.into_iter().flatten().find(|text| !text.trim().is_empty());
        let said = said.map(|text| format!(": {}", short(text.trim(), 300))).unwrap_or_default();
        format!("{}{said}", code(response))
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
pub async fn raw(Viewer(_): Viewer, Of(console): Of<Console>, Path(text): Path<String>) -> Answer {
    let turn = console.messages.turn().await?;
    let letter = console.store().dead_letter(id(&text)?).await?;
    let media_type = match std::str::from_utf8(&letter.body) {
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    };
    Ok(turn.until_sent(([(header::CONTENT_TYPE, media_type)], letter.body).into_response()))
}
