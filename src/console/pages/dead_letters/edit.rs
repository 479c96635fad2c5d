//! Edits the body of a dead letter in three steps: edit, review the diff, replay.

use std::time::Duration;

use askama::Template;
use axum::{
    extract::{Path, State as AxumState},
    http::StatusCode,
    response::{IntoResponse, Redirect},
};
use bytes::Bytes;
use uuid::Uuid;

use super::id;
use crate::{
    console::{
        Console,
        access::{Identity, Operator},
        pages::{
            Answer,
            body::indented,
            diff::{self, Line},
            fields::Form,
            html,
            layout::{Frame, Section},
            with_status,
        },
        problem::Problem,
    },
    dead_letters::edited_event,
    domain::{dead_letter::State, replay::ReplayLimits},
    store::{NewReplay, Selection, StoredDeadLetter},
};

/// How long the request waits for the replay. A single one usually ends in this time, and its page shows the result.
const START_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Template)]
#[template(path = "dead_letters/edit.html")]
struct EditPage {
    frame: Frame,
    problem: String,
    id: Uuid,
    event: String,
    body: String,
    error: String,
    diff: Option<Vec<Line>>,
    diff_summary: String,
}

/// The body in the editor: indented if it is JSON.
fn text(stored: &StoredDeadLetter) -> String {
    let text = String::from_utf8_lossy(&stored.body);
    indented(&text).unwrap_or_else(|| text.into_owned())
}

async fn open_dead_letter(console: &Console, text: &str) -> Result<StoredDeadLetter, Problem> {
    let stored = console.store().dead_letter(id(text)?).await?;
    if stored.row.state == State::Open {
        return Ok(stored);
    }
    let by = stored.row.state_changed_by.as_deref().unwrap_or("somebody");
    Err(Problem::conflict(format!("this dead letter was {} already, by {by}", stored.row.state)))
}

fn page(
    identity: &Identity,
    stored: &StoredDeadLetter,
    body: String,
    error: String,
    diff: Option<Vec<Line>>,
) -> Answer {
    let status = if error.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let dead_letter = &stored.row.letter;
    let page = EditPage {
        frame: Frame::in_section(Section::DeadLetters, "Edit and replay", identity),
        problem: String::new(),
        id: dead_letter.id,
        event: dead_letter.event_name.clone(),
        body,
        error,
        diff_summary: diff.as_deref().map(diff::summary).unwrap_or_default(),
        diff,
    };
    with_status(status, html(&page))
}

pub async fn edit(
    Operator(identity): Operator,
    AxumState(console): AxumState<Console>,
    Path(id_text): Path<String>,
) -> Answer {
    let stored = open_dead_letter(&console, &id_text).await?;
    page(&identity, &stored, text(&stored), String::new(), None)
}

/// Handles one step of the form: `edit` returns to the editor, `review` shows the diff, `replay` starts the replay. The
/// edited text is a field of each form, and nothing is stored before the replay.
pub async fn send(
    Operator(identity): Operator,
    AxumState(console): AxumState<Console>,
    Path(id_text): Path<String>,
    Form(sent): Form,
) -> Answer {
    let stored = open_dead_letter(&console, &id_text).await?;
    let edited = sent.lines("body");
    if sent.get("step") == "edit" {
        return page(&identity, &stored, edited, String::new(), None);
    }
    let (before, body) = (text(&stored), Bytes::from(edited.clone()));
    if edited == before {
        let error =
            "You have changed nothing. To replay the event unchanged, use the page of the dead letter."
                .to_owned();
        return page(&identity, &stored, edited, error, None);
    }
    let (dead_letter, content_type) = (&stored.row.letter, stored.content_type.as_deref());
    if let Err(why) = edited_event(dead_letter, content_type, &body, console.dead_letters.max_event_bytes) {
        return page(&identity, &stored, edited, format!("This is not a valid event: {why}"), None);
    }
    if sent.get("step") != "replay" {
        let after = indented(&edited).unwrap_or_else(|| edited.clone());
        return page(&identity, &stored, edited, String::new(), Some(diff::lines(&before, &after)));
    }
    let new = NewReplay {
        asked: "1 by id, edited".to_owned(),
        caution: ReplayLimits::default(),
        by: identity.by(),
    };
    let job =
        console.jobs.begin_and_wait(&new, &Selection::Edited(dead_letter.id, body), START_TIMEOUT).await?;
    Ok(Redirect::to(&format!("/replays/{}", job.id)).into_response())
}
