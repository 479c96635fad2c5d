//! The list of handlers.

use askama::Template;
use axum::extract::State;

use crate::{
    console::{
        Console,
        access::{Identity, Viewer},
        pages::{
            Answer,
            fields::{Asked, Errors, Fields},
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

const A_PAGE: usize = 100;
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

    fn failures_told(&self) -> String {
        grouped(self.failures)
    }
}

#[derive(Template)]
#[template(path = "handlers/list.html")]
struct ListPage {
    frame: Frame,
    asked: Fields,
    chips: Vec<Chip>,
    groups: Vec<Group>,
    rows: Vec<Row>,
    /// The URL to return to after a change of a row.
    back: String,
    pager: Pager,
}

pub async fn list(Viewer(somebody): Viewer, State(console): State<Console>, Asked(asked): Asked) -> Answer {
    let search = asked.only(&SEARCH.map(|(name, _)| name));
    let filter = filter(&search, asked.get("after"), &somebody)?;
    let store = console.store();
    let mut handlers = somebody.view_of(store.list_handlers(&filter, A_PAGE + 1).await?);
    let more = handlers.len() > A_PAGE;
    handlers.truncate(A_PAGE);
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
    let after = asked.has("after");
    html(&ListPage {
        frame: Frame::in_section(Section::Handlers, "Handlers", &somebody).telling(&asked),
        chips: chips(&search, PATH, &SEARCH, |name, value| match name {
            "task" => {
                value.parse().map_or_else(|_| value.to_owned(), |kind: TaskType| kind.title().to_owned())
            }
            "status" => capital(value),
            _ => value.to_owned(),
        }),
        groups: groups(store.list_event_types(false).await?),
        pager: Pager::new(count, next, &search, PATH, after, ("handler", "handlers")),
        back: asked.only(&["text", "event", "task", "status", "after"]).href(PATH),
        rows,
        asked: search,
    })
}

fn filter(search: &Fields, after: &str, somebody: &Identity) -> Result<HandlerFilter, Problem> {
    let mut errors = Errors::default();
    let filter = HandlerFilter {
        event: errors.optional("event", search.get("event"), str::parse),
        task_type: errors.optional("task", search.get("task"), str::parse),
        status: errors.optional("status", search.get("status"), str::parse),
        text: Some(search.get("text").to_owned()).filter(|text| !text.is_empty()),
        only_shown: !somebody.may_change(),
        after: errors.optional("after", after, str::parse),
    };
    // The form offers only valid values, so these errors come from a URL that was typed by hand.
    let wrong = errors.all().map(|(name, error)| FieldError::parameter(name, error)).collect::<Vec<_>>();
    if wrong.is_empty() { Ok(filter) } else { Err(Problem::bad_fields(wrong)) }
}
