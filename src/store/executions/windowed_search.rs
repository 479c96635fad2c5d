//! Searches text in executions, newest first, in windows of time that grow while they are cheap, for about two
//! seconds.
//!
//! Days that have ended have a text index (`text_index`): a search crosses a month of them in some hundred
//! milliseconds. Newer days, and all days without this index, are read at some hundred thousand executions a second.
//! If the time is over, the result says where to continue.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use jiff::{Timestamp, ToSpan, civil::Date};

use super::{
    filter::{ExecutionFilter, TextBy},
    partitions::{day_of, start_of},
    row::ExecutionRow,
    text_index::indexed_days,
};
use crate::store::{Cursor, Result, StoreError, session::Session};

/// The time of a search after which no new window begins. A window usually takes half a second.
const TIME_BUDGET: Duration = Duration::from_millis(1500);
/// The timeout of one window: it limits the cost of a window that is too large.
const SET_WINDOW_TIMEOUT: &str = "SET LOCAL statement_timeout = '2s'";
const MIN_WINDOW: Duration = Duration::from_secs(1);
const FIRST_WINDOW: Duration = Duration::from_mins(10);
/// The largest windows, for days that are read and for days with an index.
const MAX_SCANNED_WINDOW: Duration = Duration::from_hours(24);
const MAX_INDEXED_WINDOW: Duration = Duration::from_hours(10 * 24);

/// Returns the rows found and, if the time was over first, how far back the search came.
pub(super) async fn search_in_windows(
    session: &mut Session,
    filter: &ExecutionFilter,
    limit: usize,
    after: Option<Cursor>,
) -> Result<(Vec<ExecutionRow>, Option<Timestamp>)> {
    let started = Instant::now();
    let Some((oldest, newest)) = extent(session).await? else { return Ok((Vec::new(), None)) };
    let indexed = indexed_days(session).await?;
    let oldest = filter.since.map_or(oldest, |since| since.max(oldest));
    let just_after_newest = just_after(newest);
    let mut until = filter.until.map_or(just_after_newest, |until| until.min(just_after_newest));
    if let Some(after) = after {
        until = until.min(just_after(after.at));
    }
    let (begun_at, mut rows) = (until, Vec::new());
    let (mut scan_window, mut index_window) = (FIRST_WINDOW, FIRST_WINDOW);
    while until > oldest && rows.len() < limit {
        // Each page searches at least one window, even a slow one. Otherwise the next page would begin at the same
        // place.
        if started.elapsed() > TIME_BUDGET && until < begun_at {
            return Ok((rows, Some(until)));
        }
        let text_by =
            if indexed.contains(&day_of(just_before(until))) { TextBy::Index } else { TextBy::Reading };
        let window = if text_by == TextBy::Index { &mut index_window } else { &mut scan_window };
        let since = window_start(until, *window, &indexed);
        let since = since.max(oldest);
        let part = ExecutionFilter { since: Some(since), until: Some(until), ..filter.clone() };
        let window_started = Instant::now();
        match search_window(session, &part, text_by, limit - rows.len(), after).await {
            Ok(part) => rows.extend(part),
            // The window had grown in quiet times and reached a busy time.
            Err(StoreError::TooSlow) if *window > MIN_WINDOW => {
                *window = (*window / 8).max(MIN_WINDOW);
                continue;
            }
            Err(error) => return Err(error),
        }
        let left = TIME_BUDGET.saturating_sub(started.elapsed());
        *window = next_window(*window, window_started.elapsed(), left, text_by);
        until = since;
    }
    Ok((rows, None))
}

async fn search_window(
    session: &mut Session,
    filter: &ExecutionFilter,
    text_by: TextBy,
    limit: usize,
    after: Option<Cursor>,
) -> Result<Vec<ExecutionRow>> {
    session.begin().await?;
    session.batch(SET_WINDOW_TIMEOUT).await?;
    let result = filter.search(session, text_by, limit, after).await;
    match &result {
        Ok(_) => session.commit().await?,
        Err(_) => session.rollback().await?,
    }
    result
}

/// Returns the start of the window that ends at `until`. All days of one window are searched in the same way.
fn window_start(until: Timestamp, window: Duration, indexed: &BTreeSet<Date>) -> Timestamp {
    let wanted = until.saturating_sub(window).unwrap_or(Timestamp::MIN);
    let mut day = day_of(just_before(until));
    let is_indexed = indexed.contains(&day);
    while start_of(day) > wanted && indexed.contains(&day.saturating_sub(1.day())) == is_indexed {
        day = day.saturating_sub(1.day());
    }
    wanted.max(start_of(day))
}

/// Sizes the next window to take about half a second: short enough to stop in time, long enough to cross quiet
/// months.
fn next_window(window: Duration, took: Duration, left: Duration, text_by: TextBy) -> Duration {
    let largest = if text_by == TextBy::Index { MAX_INDEXED_WINDOW } else { MAX_SCANNED_WINDOW };
    let next = match took.as_millis() {
        0..100 => window.saturating_mul(4),
        100..300 => window.saturating_mul(2),
        300..600 => window,
        _ => window / 2,
    };
    // After a slow window, the next one must fit into the time that is left.
    let fits =
        if took.as_millis() < 20 { next } else { next.min(window.mul_f64(left.div_duration_f64(took))) };
    fits.clamp(MIN_WINDOW, largest)
}

/// Returns when the oldest and the newest execution started.
async fn extent(session: &mut Session) -> Result<Option<(Timestamp, Timestamp)>> {
    let row = session.query_opt("SELECT min(started_at), max(started_at) FROM executions", &[]).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Option::zip(row.try_get(0)?, row.try_get(1)?))
}

fn just_after(at: Timestamp) -> Timestamp {
    at.saturating_add(1.microsecond()).unwrap_or(at)
}

fn just_before(at: Timestamp) -> Timestamp {
    at.saturating_sub(1.microsecond()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_while_they_are_cheap() {
        let next = |ms, left| {
            let (took, left) = (Duration::from_millis(ms), Duration::from_millis(left));
            next_window(Duration::from_mins(10), took, left, TextBy::Reading).as_secs() / 60
        };
        assert_eq!((next(5, 1500), next(200, 1500), next(500, 1500), next(900, 1500)), (40, 20, 10, 5));
        assert_eq!(next(200, 100), 5, "it ends in time");
    }

    #[test]
    fn a_window_lies_in_days_of_one_kind() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let indexed: BTreeSet<Date> = (1..=20).map(|n| Date::constant(2026, 3, n)).collect();
        let hours = |n| Duration::from_hours(n);
        let since = window_start(at("2026-03-21T12:00:00Z"), hours(100), &indexed);
        assert_eq!(since, at("2026-03-21T00:00:00Z"), "the day before is indexed");
        let since = window_start(since, hours(48), &indexed);
        assert_eq!(since, at("2026-03-19T00:00:00Z"), "over days that all are");
        assert_eq!(window_start(at("2026-03-01T00:00:01Z"), hours(48), &indexed), at("2026-03-01T00:00:00Z"));
        assert_eq!(window_start(at("2026-03-01T00:00:00Z"), hours(48), &indexed), at("2026-02-27T00:00:00Z"));
        assert_eq!(window_start(at("2026-03-10T12:00:00Z"), hours(1), &indexed), at("2026-03-10T11:00:00Z"));
    }
}
