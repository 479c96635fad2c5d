//! The filter for searches of dead letters.

use std::fmt;

use jiff::Timestamp;
use tokio_postgres::types::Type;

use crate::{
    domain::{
        dead_letter::{Reason, State},
        handler::HandlerId,
    },
    store::sql::{Query, bytea_escaped, clean, contains, json_forms},
};

/// A filter for dead letters. An absent field matches every dead letter.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    /// The event name it was published with; for an unrouted event this can be any text.
    pub event: Option<String>,
    pub event_id: Option<String>,
    pub handler: Option<HandlerId>,
    pub reason: Option<Reason>,
    pub object_id: Option<String>,
    /// Text in the body or the error. The case of ASCII letters is ignored.
    pub text: Option<String>,
    /// Died at this time or later.
    pub since: Option<Timestamp>,
    /// Died before this time.
    pub until: Option<Timestamp>,
    pub state: Option<State>,
}

impl DeadLetterFilter {
    /// Starts a query with `head` and the conditions, without order and limit.
    pub(in crate::store) fn query(&self, head: &str) -> Query<'_> {
        self.add_conditions(Query::new(head))
    }

    /// Adds the conditions to `query`.
    pub(in crate::store) fn add_conditions<'a>(&'a self, mut query: Query<'a>) -> Query<'a> {
        if let Some(event) = &self.event {
            query.and("event_name = ?", clean(event), Type::TEXT);
        }
        if let Some(event_id) = &self.event_id {
            query.and("left(event_id, 128) = left(?, 128) AND event_id = ?", clean(event_id), Type::TEXT);
        }
        if let Some(handler) = self.handler {
            query.and("handler_id = ?", handler.0, Type::INT8);
        }
        if let Some(reason) = self.reason {
            query.and("reason = ?", reason.as_str(), Type::TEXT);
        }
        if let Some(object) = &self.object_id {
            query.and("left(object_id, 128) = left(?, 128) AND object_id = ?", clean(object), Type::TEXT);
        }
        if let Some(text) = &self.text {
            query.and_any(TEXT_CONDITION, patterns(text));
        }
        if let Some(since) = self.since {
            query.and("died_at >= ?", since, Type::TIMESTAMPTZ);
        }
        if let Some(until) = self.until {
            query.and("died_at < ?", until, Type::TIMESTAMPTZ);
        }
        if let Some(state) = self.state {
            query.and("state = ?", state.as_str(), Type::TEXT);
        }
        query
    }
}

/// The filter in words for people, which a replay job stores. Empty without conditions; `state` is left out.
impl fmt::Display for DeadLetterFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.event.as_ref().map(|event| format!("event {event}")),
            self.event_id.as_ref().map(|id| format!("event id {id}")),
            self.handler.map(|id| format!("handler {id}")),
            self.reason.map(|reason| format!("reason {reason}")),
            self.object_id.as_ref().map(|id| format!("object {id}")),
            self.text.as_ref().map(|text| format!("text {text:?}")),
            self.since.map(|at| format!("since {at}")),
            self.until.map(|at| format!("until {at}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// These expressions must be the same as in the indexes of `V3__replays.sql`. The first 16 KiB of a body have a
/// trigram index. The rare longer bodies are found by their size and read completely.
const TEXT_CONDITION: &str =
    "error ILIKE ? OR encode(substring(body FOR 16384), 'escape') COLLATE \"C\" ILIKE ?
    OR (octet_length(body) > 16384 AND encode(body, 'escape') COLLATE \"C\" ILIKE ?)";

fn patterns(text: &str) -> Vec<String> {
    let mut patterns = vec![contains(text)];
    patterns.extend(json_forms(text).iter().map(|form| contains(&bytea_escaped(form))));
    patterns.dedup();
    patterns
}
