//! The list of handlers.

use askama::Template;
use axum::extract::State;

use crate::{
    console::{
        Console,
        access::{Identity, Viewer},
        pages::{
            Answer,
            fields::{Errors, Fields, Query},
            format::{capital, grouped},
            html,
            layout::{Frame, Section},
            lists::{Chip, Group, Pager, chips, groups},
        },
        problem::{FieldError, Problem},
    },
    domain::{
        handler::{Handler, Mode, Status},
        task::TaskType,
    },
    store::{HandlerFilter, a_day_ago},
};

const PAGE_SIZE: usize = 100;
const PATH: &str = "/handlers";
const SEARCH: [(&str, &str); 4] =
    [("text", "Text"), ("event", "Event"), ("task", "Handler Type"), ("status", "Status")];

struct Row {
    handler: Handler,
    /// Failed attempts in the last 24 hours.
    failures: u64,
    /// The link to its executions, or to its recent failures if there are any.
    logs: String,
}

impl Row {
    fn of(handler: Handler, failures: u64) -> Self {
        let mut logs = Fields::default().with("handler", handler.id.to_string());
        if failures > 0 {
            logs = logs.with("status", "fail").with("since", a_day_ago().to_string());
        }
        Self { handler, failures, logs: logs.href("/executions") }
    }

    const fn is_enabled(&self) -> bool {
        matches!(self.handler.spec.status, Status::Enabled)
    }

    /// The label of the button that archives or deletes it.
    const fn end_word(&self) -> &'static str {
        if self.is_archived() { "Delete" } else { "Archive or delete" }
    }

    const fn is_archived(&self) -> bool {
        matches!(self.handler.spec.status, Status::Archived)
    }

    const fn intercepts(&self) -> bool {
        matches!(self.handler.spec.mode, Mode::Intercept)
    }

    fn failures_text(&self) -> String {
        grouped(self.failures)
    }
}

#[derive(Template)]
#[template(path = "handlers/list.html")]
struct ListPage {
    frame: Frame,
    search: Fields,
    chips: Vec<Chip>,
    groups: Vec<Group>,
    rows: Vec<Row>,
    /// The URL to return to after a change of a row.
    back: String,
    pager: Pager,
}

pub async fn list(Viewer(identity): Viewer, State(console): State<Console>, Query(query): Query) -> Answer {
    let search = query.only(&SEARCH.map(|(name, _)| name));
    let filter = filter(&search, query.get("after"), &identity)?;
    let store = console.store();
    let mut handlers = identity.view_of(store.list_handlers(&filter, PAGE_SIZE + 1).await?);
    let more = handlers.len() > PAGE_SIZE;
    handlers.truncate(PAGE_SIZE);
    let ids: Vec<_> = handlers.iter().map(|handler| handler.id).collect();
    let counts = store.handler_counts(&ids).await?;
    let next = ids.last().filter(|_| more).map(|last| search.with("after", last.to_string()).href(PATH));
    let rows: Vec<Row> = handlers
        .into_iter()
        .map(|handler| {
            let failures = counts.get(&handler.id).map_or(0, |counts| counts.failures);
            Row::of(handler, failures)
        })
        .collect();
    let count = u64::try_from(rows.len()).unwrap_or_default();
    let after = query.has("after");
    html(&ListPage {
        frame: Frame::in_section(Section::Handlers, "Handlers", &identity).with_notice(&query),
        chips: chips(&search, PATH, &SEARCH, |name, value| match name {
            "task" => {
                value.parse().map_or_else(|_| value.to_owned(), |kind: TaskType| kind.title().to_owned())
            }
            "status" => capital(value),
            _ => value.to_owned(),
        }),
        groups: groups(store.list_event_types(false).await?),
        pager: Pager::new(count, next, &search, PATH, after, ("handler", "handlers")),
        back: query.only(&["text", "event", "task", "status", "after"]).href(PATH),
        rows,
        search,
    })
}

fn filter(search: &Fields, after: &str, identity: &Identity) -> Result<HandlerFilter, Problem> {
    let mut errors = Errors::default();
    let filter = HandlerFilter {
        event: errors.optional("event", search.get("event"), str::parse),
        task_type: errors.optional("task", search.get("task"), str::parse),
        status: errors.optional("status", search.get("status"), str::parse),
        text: Some(search.get("text").to_owned()).filter(|text| !text.is_empty()),
        only_shown: !identity.may_change(),
        after: errors.optional("after", after, str::parse),
    };
    // The form offers only valid values, so these errors come from a URL that was typed by hand.
    let wrong = errors.all().map(|(name, error)| FieldError::parameter(name, error)).collect::<Vec<_>>();
    if wrong.is_empty() { Ok(filter) } else { Err(Problem::bad_fields(wrong)) }
}
