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

impl ExecutionFilter {
    /// The conditions, without order and limit.
    pub(in crate::store) fn query(&self) -> Query<'_> {
        self.continued(Query::new(&format!("SELECT {COLUMNS} FROM executions")))
    }

    /// `query` with the conditions.
    pub(in crate::store) fn continued<'a>(&'a self, mut query: Query<'a>) -> Query<'a> {
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
        if let Some(text) = &self.data {
            let anywhere = "(request ILIKE ANY (?) OR response_body ILIKE ANY (?)
                OR response_stdout ILIKE ANY (?) OR response_stderr ILIKE ANY (?))";
            let patterns: Vec<String> = json_forms(text).iter().map(|form| contains(form)).collect();
            query.and(anywhere, patterns, Type::TEXT_ARRAY);
        }
        if let Some(text) = &self.error {
            query.and("error ILIKE ?", contains(text), Type::TEXT);
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
