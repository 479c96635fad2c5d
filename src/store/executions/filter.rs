//! Which executions are asked for.

use std::fmt;

use jiff::Timestamp;
use tokio_postgres::types::Type;

use super::row::COLUMNS;
use crate::{
    domain::{
        event::{EventId, EventName},
        execution::{Disposition, Status},
        handler::HandlerId,
    },
    store::sql::{Query, clean, contains, json_forms},
};

/// Which executions are asked for; what is absent does not matter.
#[derive(Clone, Debug, Default)]
pub struct ExecutionFilter {
    pub status: Option<Status>,
    pub disposition: Option<Disposition>,
    pub event: Option<EventName>,
    pub handler: Option<HandlerId>,
    pub object_id: Option<String>,
    pub event_id: Option<EventId>,
    /// Text in what was sent or answered; the case of ASCII letters does not matter.
    pub data: Option<String>,
    /// Text in the error, likewise.
    pub error: Option<String>,
    /// Started then or later.
    pub since: Option<Timestamp>,
    /// Started before then.
    pub until: Option<Timestamp>,
}

/// How text is looked for. Both find the same: the columns collate as "C", where only the case of ASCII letters is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum TextBy {
    /// As a trigram index can; without one, four times as slow as the other.
    Index,
    /// By reading all of it.
    Reading,
}

impl ExecutionFilter {
    /// The conditions, without order and limit.
    pub(in crate::store) fn query(&self, text_by: TextBy) -> Query<'_> {
        self.continued(Query::new(&format!("SELECT {COLUMNS} FROM executions")), text_by)
    }

    /// `query` with the conditions.
    pub(in crate::store) fn continued<'a>(&'a self, query: Query<'a>, text_by: TextBy) -> Query<'a> {
        let mut query = self.with_facts(query);
        if let Some(text) = &self.data {
            let (anywhere, forms) = text_by.anywhere(&json_forms(text));
            query.and_any(anywhere, forms);
        }
        if let Some(text) = &self.error {
            // What is done has no error; the index of what is not is read in its stead.
            query.and_that("disposition <> 'done'");
            let (found, forms) = text_by.in_error(text);
            query.and_any(found, forms);
        }
        query
    }

    fn with_facts<'a>(&'a self, mut query: Query<'a>) -> Query<'a> {
        // The second conditions say nothing new, but in the words of the partial indexes: the planner does
        // not see through a parameter.
        if let Some(status) = self.status {
            query.and("status = ?", status.as_str(), Type::TEXT);
            if status != Status::Success {
                query.and_that("status <> 'success'");
            }
        }
        if let Some(disposition) = self.disposition {
            query.and("disposition = ?", disposition.as_str(), Type::TEXT);
            if disposition != Disposition::Done {
                query.and_that("disposition <> 'done'");
            }
        }
        if let Some(event) = &self.event {
            query.and("event_name = ?", event.as_str(), Type::TEXT);
        }
        if let Some(handler) = self.handler {
            query.and("handler_id = ?", handler.0, Type::INT8);
        }
        if let Some(object) = &self.object_id {
            query.and("left(object_id, 128) = left(?, 128) AND object_id = ?", clean(object), Type::TEXT);
        }
        if let Some(event) = &self.event_id {
            query.and("event_id = ?", event.as_str(), Type::TEXT);
        }
        if let Some(since) = self.since {
            query.and("started_at >= ?", since, Type::TIMESTAMPTZ);
        }
        if let Some(until) = self.until {
            query.and("started_at < ?", until, Type::TIMESTAMPTZ);
        }
        query
    }
}

/// As a person reads it: what a job remembers of what was asked. Empty where nothing is.
impl fmt::Display for ExecutionFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.status.map(|status| format!("status {status}")),
            self.disposition.map(|disposition| format!("disposition {disposition}")),
            self.event.as_ref().map(|event| format!("event {event}")),
            self.handler.map(|id| format!("handler {id}")),
            self.object_id.as_ref().map(|id| format!("object {id}")),
            self.event_id.as_ref().map(|id| format!("event id {id}")),
            self.data.as_ref().map(|text| format!("data {text:?}")),
            self.error.as_ref().map(|text| format!("error {text:?}")),
            self.since.map(|at| format!("since {at}")),
            self.until.map(|at| format!("until {at}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl TextBy {
    /// A condition for each form of a text in what was sent or answered.
    fn anywhere(self, forms: &[String]) -> (&'static str, Vec<String>) {
        match self {
            Self::Index => (
                "request ILIKE ? OR response_body ILIKE ? OR response_stdout ILIKE ? OR response_stderr ILIKE ?",
                forms.iter().map(|form| contains(form)).collect(),
            ),
            Self::Reading => (
                "strpos(lower(request), ?) > 0 OR strpos(lower(response_body), ?) > 0
                    OR strpos(lower(response_stdout), ?) > 0 OR strpos(lower(response_stderr), ?) > 0",
                forms.iter().map(|form| lowered(form)).collect(),
            ),
        }
    }

    fn in_error(self, text: &str) -> (&'static str, Vec<String>) {
        match self {
            Self::Index => ("error ILIKE ?", vec![contains(text)]),
            Self::Reading => ("strpos(lower(error), ?) > 0", vec![lowered(text)]),
        }
    }
}

/// As the database's `lower` leaves it, in the collation "C".
fn lowered(text: &str) -> String {
    clean(text).to_ascii_lowercase()
}
