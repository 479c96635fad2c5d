//! Discards dead letters. A page shows how many, and asks for a reason, which is stored with them.

use askama::Template;
use axum::{extract::State as Of, http::StatusCode};
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
            fields::{Asked, Errors, Fields, Form},
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
    asked: String,
    total: u64,
    total_told: String,
    hidden: Vec<(String, String)>,
    note: String,
    note_error: String,
}

/// The chosen dead letters: a list of ids, or a search. An empty search chooses all open ones.
enum Which {
    These(Vec<Uuid>),
    By(DeadLetterFilter),
}

fn which(fields: &Fields) -> Result<Which, Problem> {
    let ids = fields.all("id").map(id).collect::<Result<Vec<_>, _>>()?;
    if !ids.is_empty() {
        return Ok(Which::These(ids));
    }
    let mut errors = Errors::default();
    let filter = filter(fields, &mut errors);
    if errors.is_empty() {
        Ok(Which::By(filter))
    } else {
        Err(Problem::bad_request("the search has a wrong value"))
    }
}

pub async fn ask(Operator(somebody): Operator, Of(console): Of<Console>, Asked(asked): Asked) -> Answer {
    page(&console, &somebody, &asked, "").await
}

async fn page(console: &Console, somebody: &Identity, chosen: &Fields, note_error: &str) -> Answer {
    let (plan, by_search) = match which(chosen)? {
        Which::These(ids) => (console.letters.plan(&Selection::Letters(ids)).await?, false),
        Which::By(filter) => {
            let open = DeadLetterFilter { state: Some(State::Open), ..filter };
            (console.letters.plan(&Selection::LettersBy(open)).await?, true)
        }
    };
    let total = unsigned(plan.iter().map(|line| line.count).sum());
    let total_told = counted(total, "dead letter", "dead letters");
    let title = format!("Discard {total_told}?");
    let all = if by_search { "These are all open dead letters that the search finds." } else { "" };
    let names: Vec<&str> = SEARCH.iter().map(|(name, _)| *name).chain(["id"]).collect();
    let status = if note_error.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let page = DiscardPage {
        frame: Frame::in_section(Section::DeadLetters, &title, somebody),
        problem: String::new(),
        title,
        asked: all.to_owned(),
        total,
        total_told,
        hidden: chosen.only(&names).pairs().to_vec(),
        note: chosen.get("note").to_owned(),
        note_error: note_error.to_owned(),
    };
    with_status(status, html(&page))
}

pub async fn discard(Operator(somebody): Operator, Of(console): Of<Console>, Form(sent): Form) -> Answer {
    let note = sent.get("note");
    if note.is_empty() {
        return page(&console, &somebody, &sent, "Give a reason. It is stored with the dead letters.").await;
    }
    let (store, by) = (console.store(), somebody.by());
    let count = match which(&sent)? {
        Which::These(ids) => store.discard_dead_letters(Closing::These(&ids), note, &by).await?,
        Which::By(filter) => store.discard_dead_letters(Closing::By(&filter), note, &by).await?,
    };
    Ok(done(PATH, "discarded", &count))
}
