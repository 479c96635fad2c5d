//! The list of executions.

use askama::Template;
use axum::extract::State;
use jiff::{Timestamp, ToSpan as _};

use super::{
    row::Row,
    search::{PATH, SEARCH, filter, search_chips},
};
use crate::{
    console::{
        Console,
        access::Viewer,
        pages::{
            Answer,
            fields::{Errors, Fields, Query},
            format::{capital, moment, spaced},
            html,
            layout::{Frame, Section},
            lists::{Chip, Choice, Group, Pager, choices, groups, handler_choices},
        },
    },
    domain::execution::{Disposition, Status},
    store::{Cursor, Page},
};

const PAGE_SIZE: usize = 50;

#[derive(Template)]
#[template(path = "executions/list.html")]
struct ListPage {
    frame: Frame,
    search: Fields,
    errors: Errors,
    /// The error that prevented the search.
    problem: String,
    chips: Vec<Chip>,
    groups: Vec<Group>,
    handlers: Vec<Choice>,
    statuses: Vec<Choice>,
    dispositions: Vec<Choice>,
    rows: Vec<Row>,
    /// How far back a text search got before its time limit.
    searched_to: Option<String>,
    /// The URL of the live tail. `None` if no new row can appear on this page.
    tail: Option<String>,
    live: bool,
    replay: String,
    pager: Pager,
}

pub async fn list(Viewer(identity): Viewer, State(console): State<Console>, Query(query): Query) -> Answer {
    let store = console.store();
    let search = query.only(&SEARCH.map(|(name, _)| name));
    let mut errors = Errors::default();
    let filter = filter(&search, &mut errors);
    let after: Option<Cursor> = query.get("after").parse().ok();
    // The live tail starts a little earlier than this query. It therefore sends the rows that are committed meanwhile.
    let begun = Timestamp::now() - 2.seconds();
    let (page, problem) = if errors.is_empty() {
        (store.list_executions(&filter, PAGE_SIZE, after).await?, String::new())
    } else {
        (
            Page { items: Vec::new(), next: None },
            "The search has a wrong value: see Advanced Search.".to_owned(),
        )
    };
    let rows: Vec<Row> = page.items.iter().map(Row::of).collect();
    let mut pager = Pager::of(&page, &search, PATH, after.is_some(), ("execution", "executions"));
    let searched_to = page.next.filter(|next| next.id.is_nil()).map(|next| moment(next.at));
    if let Some(to) = &searched_to {
        pager.count_text = format!("{}, searched back to {to} UTC", pager.count_text);
        pager.next_word = "Search further back";
    }
    let is_open = filter.until.is_none() && after.is_none() && errors.is_empty();
    let chosen = search.get("handler");
    let handlers = handler_choices(store, chosen).await?;
    let handler =
        handlers.iter().find(|handler| handler.value == chosen).map(|handler| handler.label.as_str());
    html(&ListPage {
        frame: Frame::in_section(Section::Executions, "Execution Logs", &identity).with_notice(&query),
        chips: search_chips(&search, handler),
        groups: groups(store.list_event_types(false).await?),
        handlers,
        statuses: choices(Status::ALL, Status::as_str, capital),
        dispositions: choices(Disposition::ALL, Disposition::as_str, spaced),
        tail: is_open.then(|| search.with("from", begun.to_string()).href("/executions/live")),
        live: query.get("live") == "on",
        replay: search.href("/executions/replay"),
        search,
        errors,
        problem,
        rows,
        searched_to,
        pager,
    })
}
