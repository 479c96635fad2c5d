//! The trigram index for text searches of executions, created for each day after it has ended.
//!
//! Maintaining this index during inserts costs more than the inserts themselves: the recorder's batch of 500 takes
//! four times as long. Creating it for a whole day that gets no more rows costs a few seconds for a hundred thousand
//! executions, at a time of our choice. The index takes half as much space as the executions. Without the extension
//! `pg_trgm`, and for the last day or two, a search reads the text (see `windowed_search`).

use std::collections::BTreeSet;

use jiff::{ToSpan, civil::Date};

use super::partitions::{self, day_of};
use crate::store::{Result, Store, clock::current_time, session::Session};

/// Advisory lock: one process at a time creates a text index. All versions must use the same number.
const LOCK: i64 = 0x7472_6967_7261_6d73;

/// How long to wait after the end of a day: most of its late results are stored by then.
const LATE_HOURS: i64 = 1;

impl Store {
    /// Creates the index of the latest ended day without one, and returns that day. `None` if there is no such day,
    /// `pg_trgm` is missing, or another process is creating an index. This takes long. Dropping the future is safe:
    /// either the server completes the index, or a later call creates it again.
    pub async fn index_text_of_a_day(&self) -> Result<Option<Date>> {
        let mut session = self.session().await?;
        let today = day_of(current_time(&mut session).await? - LATE_HOURS.hours());
        let indexed = indexed_days(&mut session).await?;
        let existing = partitions::days(&mut session).await?;
        let next = existing.into_iter().rev().find(|day| *day < today && !indexed.contains(day));
        let Some((day, partition)) = next.and_then(|day| Some((day, partitions::partition_name(day)?)))
        else {
            return Ok(None);
        };
        if !has_trigrams(&mut session).await? {
            return Ok(None);
        }
        let client = session.take_over()?;
        let locked = client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await?;
        if !locked.try_get::<_, bool>(0)? {
            return Ok(None);
        }
        // `CONCURRENTLY` waits for every transaction that began before.
        client.batch_execute("SET statement_timeout = 0; SET lock_timeout = '10min'").await?;
        // An interrupted creation leaves an invalid index behind.
        client.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {partition}_text")).await?;
        let columns = ["error", "request", "response_body", "response_stdout", "response_stderr"]
            .map(|column| format!("{column} gin_trgm_ops"))
            .join(", ");
        let index =
            format!("CREATE INDEX CONCURRENTLY {partition}_text ON {partition} USING gin ({columns})");
        client.batch_execute(&index).await?;
        // Closing the connection also releases the lock, but later: the call for the next day follows at once.
        client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
        Ok(Some(day))
    }
}

/// Returns the days that have a valid text index.
pub(super) async fn indexed_days(session: &mut Session) -> Result<BTreeSet<Date>> {
    let sql = "SELECT t.relname::text FROM pg_inherits p
        JOIN pg_class t ON t.oid = p.inhrelid
        JOIN pg_index i ON i.indrelid = t.oid AND i.indisvalid
        JOIN pg_class c ON c.oid = i.indexrelid AND c.relname = t.relname || '_text'
        WHERE p.inhparent = 'executions'::regclass";
    let rows = session.query(sql, &[]).await?;
    Ok(rows.iter().filter_map(|row| partitions::partition_day(row.get(0))).collect())
}

async fn has_trigrams(session: &mut Session) -> Result<bool> {
    let sql = "SELECT FROM pg_opclass WHERE opcname = 'gin_trgm_ops' AND pg_opclass_is_visible(oid)";
    Ok(session.query_opt(sql, &[]).await?.is_some())
}
