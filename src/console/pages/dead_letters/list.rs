//! The list of dead letters.

use askama::Template;
use axum::extract::State as AxumState;

use super::{
    row::Row,
    search::{ANY, PATH, SEARCH, filter, search_chips},
};
use crate::{
    console::{
        Console,
        access::Viewer,
        pages::{
            Answer,
            fields::{Errors, Fields, Query},
            format::{capital, grouped, short, spaced, unsigned},
            html,
            layout::{Frame, Section},
            lists::{Chip, Choice, Pager, choices, handler_choices},
        },
    },
    domain::dead_letter::{Reason, State},
    store::{Cursor, DeadLetterFilter, Page, Summary},
};

/// Counting stops here, and the page says "at least". Counting a million rows takes too long for a page.
const MAX_COUNTED: usize = 100_000;
const PAGE_SIZE: usize = 50;
/// The most lines of the summary. A search finds the rest.
const MAX_LINES: usize = 6;

/// The number of dead letters with one reason and one handler, and the link to their list.
struct Line {
    label: String,
    href: String,
}

#[derive(Template)]
#[template(path = "dead_letters/list.html")]
struct ListPage {
    frame: Frame,
    search: Fields,
    errors: Errors,
    problem: String,
    chips: Vec<Chip>,
    handlers: Vec<Choice>,
    states: Vec<Choice>,
    reasons: Vec<Choice>,
    rows: Vec<Row>,
    /// The list shows open dead letters, so the page offers replay and discard.
    is_open: bool,
    summary_total: String,
    summary: Vec<Line>,
    replay: String,
    discard: String,
    export: String,
    pager: Pager,
}

pub async fn list(
    Viewer(identity): Viewer,
    AxumState(console): AxumState<Console>,
    Query(query): Query,
) -> Answer {
    let store = console.store();
    let search = query.only(&SEARCH.map(|(name, _)| name));
    let mut errors = Errors::default();
    let filter = filter(&search, &mut errors);
    let after: Option<Cursor> = query.get("after").parse().ok();
    let (page, summary) = if errors.is_empty() {
        let page = store.list_dead_letters(&filter, PAGE_SIZE, after).await?;
        // The first page has shown the summary.
        let counted = !page.items.is_empty() && after.is_none();
        let summary =
            if counted { Some(store.dead_letter_summary(&filter, Some(MAX_COUNTED)).await?) } else { None };
        (page, summary)
    } else {
        (Page { items: Vec::new(), next: None }, None)
    };
    let problem = if errors.is_empty() { "" } else { "The search has a wrong value: see Advanced Search." };
    let chosen = search.get("handler");
    let handlers = handler_choices(store, chosen).await?;
    let handler =
        handlers.iter().find(|handler| handler.value == chosen).map(|handler| handler.label.as_str());
    let any = Choice { value: ANY.to_owned(), label: "Any".to_owned() };
    let state = filter.state;
    html(&ListPage {
        frame: Frame::in_section(Section::DeadLetters, "Dead Letters", &identity).with_notice(&query),
        chips: search_chips(&search, handler),
        handlers,
        states: choices(State::ALL, State::as_str, capital).into_iter().chain([any]).collect(),
        reasons: choices(Reason::ALL, Reason::as_str, spaced),
        pager: Pager::of(&page, &search, PATH, after.is_some(), ("dead letter", "dead letters")),
        rows: page.items.iter().map(|row| Row::of(&row.letter)).collect(),
        is_open: state == Some(State::Open),
        summary_total: summary.as_ref().map(|summary| total(summary, state)).unwrap_or_default(),
        summary: summary.map(|summary| lines(&summary, &search)).unwrap_or_default(),
        replay: search.href("/dead-letters/replay"),
        discard: search.href("/dead-letters/discard"),
        export: export(&search, &filter),
        problem: problem.to_owned(),
        search,
        errors,
    })
}

/// The URL of the API that exports the listed dead letters. In the API, no `state` means any state, and times need a
/// time zone.
fn export(search: &Fields, filter: &DeadLetterFilter) -> String {
    let mut params = search.without("state").without("since").without("until");
    for (name, time) in [("since", filter.since), ("until", filter.until)] {
        params = time.map_or(params.clone(), |time| params.with(name, time.to_string()));
    }
    let params = filter.state.map_or(params.clone(), |state| params.with("state", state.as_str()));
    params.href("/api/v1/dead-letters/export")
}

fn total(summary: &Summary, state: Option<State>) -> String {
    let least = if summary.cut { "at least " } else { "" };
    let word = state.map_or("dead letters", State::as_str);
    capital(&format!("{least}{} {word}:", grouped(unsigned(summary.total))))
}

fn lines(summary: &Summary, search: &Fields) -> Vec<Line> {
    let lines = summary.lines.iter().take(MAX_LINES).map(|line| {
        let count = grouped(unsigned(line.count));
        let reason = spaced(line.reason.as_str());
        let mut narrowed = search.with("reason", line.reason.as_str());
        let of_handler = match (line.handler_id, &line.handler_name) {
            (Some(id), name) => {
                narrowed = narrowed.with("handler", id.to_string());
                format!(
                    " of {}",
                    name.as_deref().map_or_else(|| format!("handler {id}"), |name| short(name, 40))
                )
            }
            (None, _) => String::new(),
        };
        Line { label: format!("{count} {reason}{of_handler}"), href: narrowed.href(PATH) }
    });
    lines.collect()
}
