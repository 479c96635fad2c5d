//! Discards dead letters. A page shows how many, and asks for a reason, which is stored with them.

use askama::Template;
use axum::{extract::State as AxumState, http::StatusCode};
use uuid::Uuid;

use super::{
    id,
    search::{PATH, SEARCH, filter},
};
use crate::{
    console::{
        Console,
        access::{Identity, Operator},
        pages::{
            Answer,
            fields::{Errors, Fields, Form, Query},
            format::{counted, unsigned},
            html,
            layout::{Frame, Section, done},
            with_status,
        },
        problem::Problem,
    },
    domain::dead_letter::State,
    store::{Closing, DeadLetterFilter, Selection},
};

#[derive(Template)]
#[template(path = "dead_letters/discard.html")]
struct DiscardPage {
    frame: Frame,
    problem: String,
    title: String,
    explanation: String,
    total: u64,
    total_text: String,
    hidden: Vec<(String, String)>,
    note: String,
    note_error: String,
}

/// The chosen dead letters: a list of ids, or a search. An empty search chooses all open ones.
enum Selected {
    Ids(Vec<Uuid>),
    Filter(DeadLetterFilter),
}

fn selected(fields: &Fields) -> Result<Selected, Problem> {
    let ids = fields.all("id").map(id).collect::<Result<Vec<_>, _>>()?;
    if !ids.is_empty() {
        return Ok(Selected::Ids(ids));
    }
    let mut errors = Errors::default();
    let filter = filter(fields, &mut errors);
    if errors.is_empty() {
        Ok(Selected::Filter(filter))
    } else {
        Err(Problem::bad_request("the search has a wrong value"))
    }
}

pub async fn ask(
    Operator(identity): Operator,
    AxumState(console): AxumState<Console>,
    Query(query): Query,
) -> Answer {
    page(&console, &identity, &query, "").await
}

async fn page(console: &Console, identity: &Identity, fields: &Fields, note_error: &str) -> Answer {
    let (plan, by_search) = match selected(fields)? {
        Selected::Ids(ids) => (console.dead_letters.plan(&Selection::Letters(ids)).await?, false),
        Selected::Filter(filter) => {
            let open = DeadLetterFilter { state: Some(State::Open), ..filter };
            (console.dead_letters.plan(&Selection::LettersBy(open)).await?, true)
        }
    };
    let total = unsigned(plan.iter().map(|line| line.count).sum());
    let total_text = counted(total, "dead letter", "dead letters");
    let title = format!("Discard {total_text}?");
    let explanation = if by_search { "These are all open dead letters that the search finds." } else { "" };
    let names: Vec<&str> = SEARCH.iter().map(|(name, _)| *name).chain(["id"]).collect();
    let status = if note_error.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let page = DiscardPage {
        frame: Frame::in_section(Section::DeadLetters, &title, identity),
        problem: String::new(),
        title,
        explanation: explanation.to_owned(),
        total,
        total_text,
        hidden: fields.only(&names).pairs().to_vec(),
        note: fields.get("note").to_owned(),
        note_error: note_error.to_owned(),
    };
    with_status(status, html(&page))
}

pub async fn discard(
    Operator(identity): Operator,
    AxumState(console): AxumState<Console>,
    Form(sent): Form,
) -> Answer {
    let note = sent.get("note");
    if note.is_empty() {
        return page(&console, &identity, &sent, "Give a reason. It is stored with the dead letters.").await;
    }
    let (store, by) = (console.store(), identity.by());
    let count = match selected(&sent)? {
        Selected::Ids(ids) => store.discard_dead_letters(Closing::These(&ids), note, &by).await?,
        Selected::Filter(filter) => store.discard_dead_letters(Closing::By(&filter), note, &by).await?,
    };
    Ok(done(PATH, "discarded", &count))
}
