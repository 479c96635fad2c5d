//! Searching the Execution Logs: newest first, by filters, in keyset pages.

use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan};
use uuid::Uuid;

use super::{
    filter::ExecutionFilter,
    row::{BODIES, COLUMNS, ExecutionRow, execution, execution_row},
};
use crate::{
    domain::execution::Execution,
    store::{Cursor, Page, Result, Store, StoreError, session::Session},
};

/// A tail shows what was recorded this long ago or longer: rows become visible in the order of their
/// commits, and a batch that is being committed now must not be passed over.
const TAIL_DELAY: &str = "recorded_at <= now() - interval '1 second'";

/// A search through text looks back over a window of time, then over the next, until this is used up.
const BUDGET: Duration = Duration::from_secs(5);
const FIRST_WINDOW: Duration = Duration::from_mins(10);
const LARGEST_WINDOW: Duration = Duration::from_hours(24);

impl Store {
    /// Newest first. A search through text looks back for some seconds, and then gives what it found
    /// and where to go on.
    ///
    /// # Errors
    /// [`StoreError::TooSlow`].
    pub async fn list_executions(
        &self,
        filter: &ExecutionFilter,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<ExecutionRow>> {
        let mut session = self.session().await?;
        let (rows, searched_to) = if filter.data.is_some() || filter.error.is_some() {
            look_back(&mut session, filter, limit + 1, after).await?
        } else {
            (search(&mut session, filter, limit + 1, after).await?, None)
        };
        let mut page = Page::of(rows, limit, ExecutionRow::cursor);
        // What started exactly then was looked at: no id is below nil.
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

    /// What was recorded after `after` (the `recorded_at` and `id` of the last one seen), in that
    /// order; of a tail that begins, the last `limit`. About a second late, and only what started
    /// within the last two days. `since` and `until` do not matter.
    pub async fn tail_executions(
        &self,
        filter: &ExecutionFilter,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Vec<ExecutionRow>> {
        let recent = (Timestamp::now() - 48.hours()).into();
        let filter = ExecutionFilter { since: recent, until: None, ..filter.clone() };
        let mut query = filter.query();
        query.and_that(TAIL_DELAY);
        if let Some(after) = after {
            query.and_place("recorded_at >= ?at AND (recorded_at, id) > (?at, ?id)", after.at, after.id);
            query.end("ORDER BY recorded_at, id");
        } else {
            query.end("ORDER BY recorded_at DESC, id DESC");
        }
        query.limit(limit);
        let rows = self.session().await?.search(&query).await?;
        let mut rows: Vec<ExecutionRow> = rows.iter().map(execution_row).collect::<Result<_>>()?;
        if after.is_none() {
            rows.reverse();
        }
        Ok(rows)
    }
}

async fn search(
    session: &mut Session,
    filter: &ExecutionFilter,
    limit: usize,
    after: Option<Cursor>,
) -> Result<Vec<ExecutionRow>> {
    let mut query = filter.query();
    if let Some(after) = after {
        // The first condition says nothing new, but picks partitions; a comparison of rows does not.
        query.and_place("started_at <= ?at AND (started_at, id) < (?at, ?id)", after.at, after.id);
    }
    query.end("ORDER BY started_at DESC, id DESC");
    query.limit(limit);
    session.search(&query).await?.iter().map(execution_row).collect()
}

/// No index helps to find text in bodies (one that did would cost the recorder more than all the
/// rest). So time is searched in windows that grow while they are cheap. Also gives how far back it
/// came, if the budget ended before time did.
async fn look_back(
    session: &mut Session,
    filter: &ExecutionFilter,
    limit: usize,
    after: Option<Cursor>,
) -> Result<(Vec<ExecutionRow>, Option<Timestamp>)> {
    let Some((oldest, newest)) = extent(session).await? else { return Ok((Vec::new(), None)) };
    let oldest = filter.since.map_or(oldest, |since| since.max(oldest));
    let just_after_newest = newest.saturating_add(1.microsecond()).unwrap_or(newest);
    let mut until = filter.until.map_or(just_after_newest, |until| until.min(just_after_newest));
    if let Some(after) = after {
        until = until.min(after.at.saturating_add(1.microsecond()).unwrap_or(after.at));
    }
    let (started, mut window, mut found) = (Instant::now(), FIRST_WINDOW, Vec::new());
    while until > oldest && found.len() < limit {
        if started.elapsed() > BUDGET {
            return Ok((found, Some(until)));
        }
        let since = until.saturating_sub(window).unwrap_or(oldest).max(oldest);
        let part = ExecutionFilter { since: Some(since), until: Some(until), ..filter.clone() };
        let asked = Instant::now();
        match search(session, &part, limit - found.len(), after).await {
            Ok(part) => found.extend(part),
            // The window had grown over quiet times and met a busy one: the next page begins small again.
            Err(StoreError::TooSlow) if window > FIRST_WINDOW => return Ok((found, Some(until))),
            Err(error) => return Err(error),
        }
        window = next_window(window, asked.elapsed());
        until = since;
    }
    Ok((found, None))
}

/// About half a second a window: small enough to stop in time, large enough to cross quiet months.
fn next_window(window: Duration, took: Duration) -> Duration {
    match took.as_millis() {
        0..100 => window.saturating_mul(4).min(LARGEST_WINDOW),
        100..400 => window.saturating_mul(2).min(LARGEST_WINDOW),
        400..1000 => window,
        _ => (window / 2).max(Duration::from_secs(10)),
    }
}

/// When the oldest and the newest execution started.
async fn extent(session: &mut Session) -> Result<Option<(Timestamp, Timestamp)>> {
    let row = session.query_opt("SELECT min(started_at), max(started_at) FROM executions", &[]).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Option::zip(row.try_get(0)?, row.try_get(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_while_they_are_cheap() {
        let minutes = |ms| next_window(Duration::from_mins(10), Duration::from_millis(ms)).as_secs() / 60;
        assert_eq!((minutes(5), minutes(200), minutes(500), minutes(3000)), (40, 20, 10, 5));
    }
}
