//! Searches the Execution Logs, newest first, with filters and keyset pages.

use jiff::{Timestamp, ToSpan};
use uuid::Uuid;

use super::{
    filter::{ExecutionFilter, TextBy},
    row::{BODIES, COLUMNS, ExecutionRow, execution, execution_row},
    windowed_search::search_in_windows,
};
use crate::{
    domain::execution::Execution,
    store::{Cursor, Page, Result, Store, StoreError},
};

/// A tail shows rows that were recorded at least a second ago. Rows become visible in the order of their commits;
/// without the delay, a tail could skip a batch that is being committed.
const TAIL_DELAY: &str = "recorded_at <= now() - interval '1 second'";

impl Store {
    /// Returns a page of executions, newest first. A text search ends after about two seconds, with what it found and
    /// a cursor to continue.
    ///
    /// # Errors
    /// [`StoreError::TooSlow`], [`StoreError::TooManySearches`].
    pub async fn list_executions(
        &self,
        filter: &ExecutionFilter,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<ExecutionRow>> {
        let reads_text = filter.data.is_some() || filter.error.is_some();
        let mut session = self.session_to_search(reads_text).await?;
        let (rows, searched_to) = if reads_text {
            search_in_windows(&mut session, filter, limit + 1, after).await?
        } else {
            (filter.search(&mut session, TextBy::Reading, limit + 1, after).await?, None)
        };
        let mut page = Page::of(rows, limit, ExecutionRow::cursor);
        // All rows that started at exactly this time were searched: no id is below nil.
        page.next = page.next.or(searched_to.map(|at| Cursor { at, id: Uuid::nil() }));
        Ok(page)
    }

    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn execution(&self, id: Uuid) -> Result<Execution> {
        let sql = format!("SELECT {COLUMNS}, {BODIES} FROM executions WHERE id = $1");
        let row = self.session().await?.query_opt(&sql, &[&id]).await?;
        execution(&row.ok_or_else(|| StoreError::NotFound(format!("execution {id}")))?)
    }

    /// Returns executions that were recorded after `after` (`recorded_at` and `id` of the last one seen), in that
    /// order. Without `after`, returns the last `limit`. Rows appear about a second late, and only if they started
    /// within the last two days. `since` and `until` are ignored.
    pub async fn tail_executions(
        &self,
        filter: &ExecutionFilter,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Vec<ExecutionRow>> {
        let recent = (Timestamp::now() - 48.hours()).into();
        let filter = ExecutionFilter { since: recent, until: None, ..filter.clone() };
        let mut query = filter.query(TextBy::Reading);
        query.and_that(TAIL_DELAY);
        if let Some(after) = after {
            query.and_cursor("recorded_at >= ?at AND (recorded_at, id) > (?at, ?id)", after.at, after.id);
            query.end("ORDER BY recorded_at, id");
        } else {
            query.end("ORDER BY recorded_at DESC, id DESC");
        }
        query.limit(limit);
        let rows = self.session_to_search(query.reads_text()).await?.search(&query).await?;
        let mut rows: Vec<ExecutionRow> = rows.iter().map(execution_row).collect::<Result<_>>()?;
        if after.is_none() {
            rows.reverse();
        }
        Ok(rows)
    }
}
