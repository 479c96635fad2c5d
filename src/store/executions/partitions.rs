//! The table `executions` has one partition for each UTC day.
//!
//! A partition is created as a separate table and then attached: `CREATE TABLE … PARTITION OF` would lock the whole
//! table against readers and writers. Dropping a partition needs that lock for a moment. It gives up after a second
//! if a long search uses the table, because all other queries would queue behind the waiting lock.

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};

use crate::store::{Result, SqlError, Store, StoreError, clock::today, session::Session};

/// Advisory lock: one process at a time creates or drops partitions. All versions must use the same number.
const LOCK: i64 = 0x7061_7274_6974_696f;

/// The result of dropping old partitions.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DroppedPartitions {
    pub dropped: Vec<Date>,
    /// Partitions in use, which are dropped next time.
    pub busy: Vec<Date>,
}

impl Store {
    /// Creates the partitions of today and of the next `ahead` days.
    pub async fn ensure_partitions(&self, ahead: u16) -> Result<()> {
        let mut session = self.session().await?;
        let today = today(&mut session).await?;
        let existing = days(&mut session).await?;
        for n in 0..=i64::from(ahead) {
            let day = today.saturating_add(n.days());
            if !existing.contains(&day) {
                create(&mut session, day).await?;
            }
        }
        Ok(())
    }

    /// Drops partitions of days that ended more than `days_kept` days ago, unless one of their rows was recorded
    /// since then, by the database's clock. Tables that somebody attached under other names stay.
    pub async fn drop_partitions_older_than(&self, days_kept: u16) -> Result<DroppedPartitions> {
        let mut session = self.session().await?;
        let oldest = today(&mut session).await?.saturating_sub(i64::from(days_kept).days());
        let mut result = DroppedPartitions::default();
        for day in days(&mut session).await?.into_iter().filter(|day| *day < oldest) {
            match drop_day(&mut session, day, oldest).await? {
                Drop::Dropped => result.dropped.push(day),
                Drop::Busy => result.busy.push(day),
                // A worker whose clock is behind wrote into it recently.
                Drop::Recent => {}
            }
        }
        Ok(result)
    }
}

/// Returns the start of a UTC day.
pub(super) fn start_of(day: Date) -> Timestamp {
    day.to_zoned(TimeZone::UTC).map_or(Timestamp::MIN, |start| start.timestamp())
}

/// Returns the UTC day of `time`.
pub(super) fn day_of(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

/// Whether PostgreSQL found no partition for a row. The SQLSTATE is that of any violated CHECK, but those name their
/// constraint. The message cannot be used because it is translated.
pub(super) fn is_missing(error: &SqlError) -> bool {
    error.code == "23514" && error.constraint.is_none()
}

/// Creates the partition of `day` unless it exists.
pub(super) async fn create(session: &mut Session, day: Date) -> Result<()> {
    let (Some(name), Ok(next)) = (partition_name(day), day.tomorrow()) else {
        return Err(StoreError::BadData(SqlError {
            code: "22008".into(),
            message: format!("an execution of {day} cannot be stored: the year must be 1970 to 9998"),
            constraint: None,
        }));
    };
    session.begin().await?;
    session.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    if !days(session).await?.contains(&day) {
        // Safe to format into SQL: every part comes from a date.
        let ddl = format!(
            "CREATE TABLE IF NOT EXISTS {name}
                 (LIKE executions INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE);
             ALTER TABLE executions ATTACH PARTITION {name}
                 FOR VALUES FROM ('{day} 00:00:00+00') TO ('{next} 00:00:00+00')"
        );
        session.batch(&ddl).await?;
    }
    session.commit().await
}

enum Drop {
    Dropped,
    Busy,
    Recent,
}

async fn drop_day(session: &mut Session, day: Date, oldest: Date) -> Result<Drop> {
    let Some(name) = partition_name(day) else { return Ok(Drop::Recent) };
    session.begin().await?;
    session.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    if !days(session).await?.contains(&day) {
        // Another process dropped it first.
        return session.rollback().await.map(|()| Drop::Recent);
    }
    match session.batch(&format!("SET LOCAL lock_timeout = '1s'; {}", lock(&name))).await {
        Ok(()) => {}
        Err(error) if error.sql_state() == Some("55P03") => {
            return session.rollback().await.map(|()| Drop::Busy);
        }
        Err(error) => return Err(error),
    }
    let sql = format!("SELECT FROM {name} WHERE recorded_at >= $1 LIMIT 1");
    if session.query_opt(&sql, &[&start_of(oldest)]).await?.is_some() {
        return session.rollback().await.map(|()| Drop::Recent);
    }
    session.batch(&format!("DROP TABLE {name}")).await?;
    session.commit().await.map(|()| Drop::Dropped)
}

/// Locks out rows that are being recorded. Inserts lock the tables in the same order.
fn lock(partition: &str) -> String {
    format!("LOCK TABLE ONLY executions, ONLY {partition} IN ACCESS EXCLUSIVE MODE")
}

/// Returns the days that have a partition of provisiond, oldest first.
pub(super) async fn days(session: &mut Session) -> Result<Vec<Date>> {
    let sql = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = 'executions'::regclass ORDER BY c.relname";
    let rows = session.query(sql, &[]).await?;
    Ok(rows.iter().filter_map(|row| partition_day(row.get(0))).collect())
}

pub(super) fn partition_name(day: Date) -> Option<String> {
    let is_supported = (1970..=9998).contains(&day.year());
    is_supported.then(|| format!("executions_{:04}{:02}{:02}", day.year(), day.month(), day.day()))
}

pub(super) fn partition_day(name: &str) -> Option<Date> {
    let digits = name.strip_prefix("executions_").filter(|d| d.len() == 8)?;
    let part = |range| digits.get(range).and_then(|d: &str| d.parse::<i16>().ok());
    let (month, day) = (i8::try_from(part(4..6)?).ok()?, i8::try_from(part(6..8)?).ok()?);
    Date::new(part(0..4)?, month, day).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Database;

    #[test]
    fn a_partition_is_named_by_its_day() {
        let day = Date::constant(2026, 1, 9);
        assert_eq!(partition_name(day).as_deref(), Some("executions_20260109"));
        assert_eq!(partition_day("executions_20260109"), Some(day));
        for other in ["executions_", "executions_2026010", "executions_20261301", "executions_old", "x"] {
            assert_eq!(partition_day(other), None, "{other}");
        }
        assert_eq!(partition_name(Date::constant(-1, 1, 1)), None);
    }

    #[tokio::test]
    async fn partitions_are_made_ahead_and_old_ones_dropped() {
        let database = Database::migrated().await;
        let store = database.store();
        let (a, b) = tokio::join!(store.ensure_partitions(2), store.ensure_partitions(2));
        a.and(b).expect("made, by two at once");
        store.ensure_partitions(2).await.expect("there");
        let mut session = store.session().await.expect("a session");
        let today = day_of(Timestamp::now());
        let old = today.saturating_sub(91.days());
        create(&mut session, old).await.expect("made");
        let kept = today.saturating_sub(90.days());
        create(&mut session, kept).await.expect("made");
        database
            .psql("CREATE TABLE executions_mine PARTITION OF executions FOR VALUES FROM ('2001-01-01') TO ('2001-01-02')")
            .await;
        assert_eq!(days(&mut session).await.expect("days").len(), 5);

        let mut reader = store.session().await.expect("a session");
        reader.begin().await.expect("begun");
        reader.query("SELECT count(*) FROM executions", &[]).await.expect("read");
        let busy = store.drop_partitions_older_than(90).await.expect("tried");
        assert_eq!((busy.dropped, busy.busy), (vec![], vec![old]));
        reader.commit().await.expect("committed");
        let done = store.drop_partitions_older_than(90).await.expect("dropped");
        assert_eq!((done.dropped, done.busy), (vec![old], vec![]));
        let first = days(&mut session).await.expect("days").into_iter().next();
        assert_eq!(first, Some(kept));
    }

    #[tokio::test]
    async fn a_partition_with_recent_rows_is_kept() {
        let database = Database::migrated().await;
        let store = database.store();
        let mut session = store.session().await.expect("a session");
        let old = today(&mut session).await.expect("today").saturating_sub(100.days());
        create(&mut session, old).await.expect("made");
        database
            .psql(&format!(
                "INSERT INTO executions (id, event_id, event_name, object_id, event_dt, run_id, attempt, max_attempts, status,
                    disposition, request, modified, started_at, duration_ms, worker_host, worker_pid, worker_version)
                VALUES (gen_random_uuid(), 'e', 'e', '1', now(), 'e', 0, 0, 'skipped', 'no_handler', '{{}}', false,
                    '{old} 12:00:00+00', 0, 'h', 1, '1')"
            ))
            .await;
        let dropped = store.drop_partitions_older_than(90).await.expect("looked at");
        assert_eq!(dropped, DroppedPartitions::default(), "a worker whose clock is behind wrote it just now");
        database.psql("UPDATE executions SET recorded_at = now() - interval '91 days'").await;
        let dropped = store.drop_partitions_older_than(90).await.expect("dropped");
        assert_eq!(dropped.dropped, [old]);
    }
}
