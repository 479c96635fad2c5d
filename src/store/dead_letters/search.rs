//! Searching the dead letters, and closing them.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::row::{COLUMNS, DeadLetterRow, MESSAGE, StoredDeadLetter, dead_letter_row, stored};
use crate::{
    domain::{
        dead_letter::{Reason, State},
        handler::HandlerId,
    },
    store::{
        Cursor, Page, Result, Store, StoreError,
        sql::{Query, bytea_escaped, clean, contains, json_forms},
    },
};

/// Which dead letters are asked for; what is absent does not matter.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    /// The name it was published by; of an unrouted event it may be any text.
    pub event: Option<String>,
    pub event_id: Option<String>,
    pub handler: Option<HandlerId>,
    pub reason: Option<Reason>,
    pub object_id: Option<String>,
    /// In the body or the error; the case of ASCII letters does not matter.
    pub text: Option<String>,
    /// Died then or later.
    pub since: Option<Timestamp>,
    /// Died before then.
    pub until: Option<Timestamp>,
    pub state: Option<State>,
}

/// How many died for one reason at one handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SummaryLine {
    pub reason: Reason,
    pub handler_id: Option<HandlerId>,
    /// As the latest letter says.
    pub handler_name: Option<String>,
    pub count: i64,
}

impl Store {
    /// Newest first.
    ///
    /// # Errors
    /// [`StoreError::TooSlow`].
    pub async fn list_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<DeadLetterRow>> {
        let mut query = filter.query(&format!("SELECT {COLUMNS} FROM dead_letters"));
        if let Some(after) = after {
            query.and_place("(died_at, id) < (?at, ?id)", after.at, after.id);
        }
        query.end("ORDER BY died_at DESC, id DESC");
        query.limit(limit + 1);
        let rows = self.session().await?.search(&query).await?;
        let rows = rows.iter().map(dead_letter_row).collect::<Result<_>>()?;
        Ok(Page::of(rows, limit, |row: &DeadLetterRow| Cursor { at: row.letter.died_at, id: row.letter.id }))
    }

    /// Counts by reason and handler, the most first.
    pub async fn dead_letter_summary(&self, filter: &DeadLetterFilter) -> Result<Vec<SummaryLine>> {
        let mut query = filter.query(
            "SELECT reason, handler_id, (array_agg(handler_name ORDER BY died_at DESC))[1] AS handler_name,
                 count(*) FROM dead_letters",
        );
        query.end("GROUP BY reason, handler_id ORDER BY count(*) DESC, reason, handler_id");
        let line = |row: &Row| {
            Ok(SummaryLine {
                reason: row.try_get::<_, &str>("reason")?.parse()?,
                handler_id: row.try_get::<_, Option<i64>>("handler_id")?.map(HandlerId),
                handler_name: row.try_get("handler_name")?,
                count: row.try_get("count")?,
            })
        };
        let rows = self.session().await?.search(&query).await?;
        rows.iter().map(line).collect::<anyhow::Result<_>>().map_err(|e| StoreError::Other(e.into()))
    }

    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn dead_letter(&self, id: Uuid) -> Result<StoredDeadLetter> {
        let sql = format!("SELECT {COLUMNS}, {MESSAGE} FROM dead_letters WHERE id = $1");
        let row = self.session().await?.query_opt(&sql, &[&id]).await?;
        stored(&row.ok_or_else(|| not_found(id))?)
    }
}

fn not_found(id: Uuid) -> StoreError {
    StoreError::NotFound(format!("dead letter {id}"))
}

impl DeadLetterFilter {
    fn query(&self, head: &str) -> Query<'_> {
        let mut query = Query::new(head);
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
            let anywhere = "(error ILIKE ANY (?) OR encode(body, 'escape') COLLATE \"C\" ILIKE ANY (?))";
            let mut patterns = vec![contains(text)];
            patterns.extend(json_forms(text).iter().map(|form| contains(&bytea_escaped(form))));
            query.and(anywhere, patterns, Type::TEXT_ARRAY);
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
