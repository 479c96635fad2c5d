//! The filter for searches of executions.

use std::fmt;

use jiff::Timestamp;
use tokio_postgres::types::Type;

use super::row::{COLUMNS, ExecutionRow, execution_row};
use crate::{
    domain::{
        event::{EventId, EventName},
        execution::{Disposition, Status},
        handler::HandlerId,
    },
    store::{
        Cursor, Result,
        session::Session,
        sql::{Query, clean, contains, json_forms},
    },
};

/// A filter for executions. An absent field matches every execution.
#[derive(Clone, Debug, Default)]
pub struct ExecutionFilter {
    pub status: Option<Status>,
    pub disposition: Option<Disposition>,
    pub event: Option<EventName>,
    pub handler: Option<HandlerId>,
    pub object_id: Option<String>,
    pub event_id: Option<EventId>,
    /// Text in the request or the response. The case of ASCII letters is ignored.
    pub data: Option<String>,
    /// Text in the error. The case of ASCII letters is ignored.
    pub error: Option<String>,
    /// Started at this time or later.
    pub since: Option<Timestamp>,
    /// Started before this time.
    pub until: Option<Timestamp>,
}

/// How a search compares text. Both ways find the same rows: in the collation "C" of the columns, only ASCII letters
/// have upper and lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum TextBy {
    /// With `ILIKE`, which can use a trigram index. Without the index it takes four times as long as
    /// [`Self::Reading`].
    Index,
    /// With `strpos`, by reading all of the text.
    Reading,
}

impl ExecutionFilter {
    /// Returns the executions that match, newest first.
    pub(super) async fn search(
        &self,
        session: &mut Session,
        text_by: TextBy,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Vec<ExecutionRow>> {
        let mut query = self.query(text_by);
        if let Some(after) = after {
            // The first condition is redundant, but it lets PostgreSQL skip partitions; a row comparison does not.
            query.and_cursor("started_at <= ?at AND (started_at, id) < (?at, ?id)", after.at, after.id);
        }
        query.end("ORDER BY started_at DESC, id DESC");
        query.limit(limit);
        session.search(&query).await?.iter().map(execution_row).collect()
    }

    /// Starts a query with the conditions, without order and limit.
    pub(in crate::store) fn query(&self, text_by: TextBy) -> Query<'_> {
        self.add_conditions(Query::new(&format!("SELECT {COLUMNS} FROM executions")), text_by)
    }

    /// Adds the conditions to `query`.
    pub(in crate::store) fn add_conditions<'a>(&'a self, query: Query<'a>, text_by: TextBy) -> Query<'a> {
        let mut query = self.add_column_conditions(query);
        if let Some(text) = &self.data {
            let (condition, patterns) = text_by.data_condition(&json_forms(text));
            query.and_any(condition, patterns);
        }
        if let Some(text) = &self.error {
            // An execution that is `done` has no error. This condition lets PostgreSQL read the partial index of the
            // others.
            query.and_that("disposition <> 'done'");
            let (condition, patterns) = text_by.error_condition(text);
            query.and_any(condition, patterns);
        }
        query
    }

    fn add_column_conditions<'a>(&'a self, mut query: Query<'a>) -> Query<'a> {
        // The second conditions are redundant, but they repeat the conditions of partial indexes: the planner cannot
        // derive them from a parameter.
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

/// The filter in words for people, which a replay job stores. Empty without conditions.
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
    /// The condition on requests and responses, and a pattern for each form of the text.
    fn data_condition(self, forms: &[String]) -> (&'static str, Vec<String>) {
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

    fn error_condition(self, text: &str) -> (&'static str, Vec<String>) {
        match self {
            Self::Index => ("error ILIKE ?", vec![contains(text)]),
            Self::Reading => ("strpos(lower(error), ?) > 0", vec![lowered(text)]),
        }
    }
}

/// The same as PostgreSQL's `lower` in the collation "C".
fn lowered(text: &str) -> String {
    clean(text).to_ascii_lowercase()
}
