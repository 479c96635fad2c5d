//! Text in executions is found by trigrams once their day has ended.
//!
//! Such an index, kept up while rows are inserted, costs more than all the rest of it (the recorder's batch of 500 takes
//! four times as long); made once for a whole day that nothing is added to any more, it costs a few seconds a hundred
//! thousand executions, at a time of our choosing. It takes half as much room again as the executions. Without the
//! extension `pg_trgm`, or of the last day or two, text is searched by reading (see `search`).

use std::collections::BTreeSet;

use jiff::{ToSpan, civil::Date};

use super::partitions::{self, day_of};
use crate::store::{Result, Store, clock::moment, session::Session};

/// One process at a time makes such an index. Part of the protocol between versions.
const LOCK: i64 = 0x7472_6967_7261_6d73;

/// Results of a day come in late: most of them are there after this.
const LATE_HOURS: i64 = 1;

impl Store {
    /// Makes the index of the latest ended day that has none, and gives that day; none if there is nothing to do. Takes
    /// its time. Dropping it loses nothing: the server makes it to its end, or it is made again.
    pub async fn index_text_of_a_day(&self) -> Result<Option<Date>> {
        let mut session = self.session().await?;
        let today = day_of(moment(&mut session).await? - LATE_HOURS.hours());
        let indexed = indexed_days(&mut session).await?;
        let there = partitions::days(&mut session).await?;
        let next = there.into_iter().rev().find(|day| *day < today && !indexed.contains(day));
        let Some((day, partition)) = next.and_then(|day| Some((day, partitions::name_of(day)?))) else {
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
        // It waits for every transaction that began before.
        client.batch_execute("SET statement_timeout = 0; SET lock_timeout = '10min'").await?;
        // What was interrupted leaves an invalid index behind.
        client.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {partition}_text")).await?;
        let columns = ["error", "request", "response_body", "response_stdout", "response_stderr"]
            .map(|column| format!("{column} gin_trgm_ops"))
            .join(", ");
        let index =
            format!("CREATE INDEX CONCURRENTLY {partition}_text ON {partition} USING gin ({columns})");
        client.batch_execute(&index).await?;
        // The end of the connection does so too, but takes a moment: the next day's turn comes at once.
        client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
        Ok(Some(day))
    }
}

/// The days whose text is found by an index.
pub(super) async fn indexed_days(session: &mut Session) -> Result<BTreeSet<Date>> {
    let sql = "SELECT t.relname::text FROM pg_inherits p
        JOIN pg_class t ON t.oid = p.inhrelid
        JOIN pg_index i ON i.indrelid = t.oid AND i.indisvalid
        JOIN pg_class c ON c.oid = i.indexrelid AND c.relname = t.relname || '_text'
        WHERE p.inhparent = 'executions'::regclass";
    let rows = session.query(sql, &[]).await?;
    Ok(rows.iter().filter_map(|row| partitions::day_named(row.get(0))).collect())
}

async fn has_trigrams(session: &mut Session) -> Result<bool> {
    let sql = "SELECT FROM pg_opclass WHERE opcname = 'gin_trgm_ops' AND pg_opclass_is_visible(oid)";
    Ok(session.query_opt(sql, &[]).await?.is_some())
}
