//! Searches and counts dead letters, and reads one.

use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    filter::DeadLetterFilter,
    row::{COLUMNS, DeadLetterRow, MESSAGE, StoredDeadLetter, dead_letter_row, stored},
};
use crate::{
    domain::{dead_letter::Reason, handler::HandlerId},
    store::{Cursor, Page, Result, Store, StoreError, sql::Query},
};

/// The count of a text search stops here.
const MAX_COUNTED: usize = 10_000;
/// Dead letters that one part of an export has at most.
const EXPORT_BATCH: usize = 200;

/// The number of dead letters, by reason and handler.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Summary {
    pub total: i64,
    /// `true` if counting stopped at its limit, so there may be more.
    pub cut: bool,
    pub lines: Vec<SummaryLine>,
}

/// The number of dead letters with one reason and one handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SummaryLine {
    pub reason: Reason,
    pub handler_id: Option<HandlerId>,
    /// The handler's name in its latest dead letter.
    pub handler_name: Option<String>,
    pub count: i64,
}

impl Store {
    /// Returns a page of dead letters, newest first.
    ///
    /// # Errors
    /// [`StoreError::TooSlow`], [`StoreError::TooManySearches`].
    pub async fn list_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<DeadLetterRow>> {
        let query = page_query(&format!("SELECT {COLUMNS}"), filter, limit + 1, after);
        let rows = self.session_to_search(query.reads_text()).await?.search(&query).await?;
        let rows = rows.iter().map(dead_letter_row).collect::<Result<_>>()?;
        Ok(Page::of(rows, limit, DeadLetterRow::cursor))
    }

    /// Returns the next part of an export with bodies, newest first; empty at the end. The bodies of a part have at
    /// most 1 MiB plus one more body, which bounds the memory.
    pub async fn export_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        after: Option<Cursor>,
    ) -> Result<Vec<StoredDeadLetter>> {
        // The length of a body is known without reading the body, so bodies of a later part are not read now.
        let select = format!(
            "SELECT * FROM (
                 SELECT *, coalesce(sum(octet_length(body)) OVER (
                     ORDER BY died_at DESC, id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before
                 FROM (SELECT {COLUMNS}, {MESSAGE}"
        );
        let mut query = page_query(&select, filter, EXPORT_BATCH, after);
        query.end(") AS part) AS counted WHERE bytes_before < 1048576 ORDER BY died_at DESC, id DESC");
        let rows = self.session_to_search(query.reads_text()).await?.search(&query).await?;
        rows.iter().map(stored).collect()
    }

    /// Counts dead letters by reason and handler, the most first. Counting stops after `max_count`. For a text search
    /// it always stops at `MAX_COUNTED`, because every match must be read.
    pub async fn dead_letter_summary(
        &self,
        filter: &DeadLetterFilter,
        max_count: Option<usize>,
    ) -> Result<Summary> {
        let max_count = if filter.text.is_some() { Some(MAX_COUNTED) } else { max_count };
        // First count with an index only. Then look up each handler's name, in an order that only the handler index
        // has: with the index on `died_at`, the search for a rare handler would take long.
        let mut query = filter.query("WITH found AS (SELECT reason, handler_id FROM dead_letters");
        if let Some(max_count) = max_count {
            query.limit(max_count);
        }
        query.end(
            "), counted AS (SELECT reason, handler_id, count(*) AS count FROM found GROUP BY reason, handler_id)
             SELECT c.*, CASE WHEN c.handler_id IS NOT NULL THEN (
                 SELECT d.handler_name FROM dead_letters d WHERE d.handler_id = c.handler_id
                 ORDER BY d.handler_id DESC, d.died_at DESC LIMIT 1) END AS handler_name
             FROM counted c ORDER BY c.count DESC, c.reason, c.handler_id",
        );
        let line = |row: &Row| {
            Ok(SummaryLine {
                reason: row.try_get::<_, &str>("reason")?.parse()?,
                handler_id: row.try_get::<_, Option<i64>>("handler_id")?.map(HandlerId),
                handler_name: row.try_get("handler_name")?,
                count: row.try_get("count")?,
            })
        };
        let rows = self.session_to_search(query.reads_text()).await?.search(&query).await?;
        let lines: anyhow::Result<Vec<SummaryLine>> = rows.iter().map(line).collect();
        let lines = lines.map_err(|e| StoreError::Other(e.into()))?;
        let total: i64 = lines.iter().map(|line| line.count).sum();
        let cut =
            max_count.is_some_and(|max_count| usize::try_from(total).is_ok_and(|total| total >= max_count));
        Ok(Summary { total, cut, lines })
    }

    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn dead_letter(&self, id: Uuid) -> Result<StoredDeadLetter> {
        let sql = format!("SELECT {COLUMNS}, {MESSAGE} FROM dead_letters WHERE id = $1");
        let row = self.session().await?.query_opt(&sql, &[&id]).await?;
        stored(&row.ok_or_else(|| not_found(id))?)
    }
}

fn page_query<'a>(
    select: &str,
    filter: &'a DeadLetterFilter,
    limit: usize,
    after: Option<Cursor>,
) -> Query<'a> {
    let mut query = filter.query(&format!("{select} FROM dead_letters"));
    if let Some(after) = after {
        query.and_cursor("(died_at, id) < (?at, ?id)", after.at, after.id);
    }
    query.end("ORDER BY died_at DESC, id DESC");
    query.limit(limit);
    query
}

pub(in crate::store) fn not_found(id: Uuid) -> StoreError {
    StoreError::NotFound(format!("dead letter {id}"))
}
