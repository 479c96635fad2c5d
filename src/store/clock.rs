//! The database's clock, by which old records are deleted.

use std::time::Instant;

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::{Result, Store, StoreError, session::Session};
use crate::domain::clock::{ClockAhead, ClockJump};

/// SQLSTATE codes: the table or the column does not exist.
const UNDEFINED_CODES: [&str; 2] = ["42P01", "42703"];

impl Store {
    /// Returns the current time by the database's clock.
    pub async fn moment(&self) -> Result<Timestamp> {
        current_time(&mut self.session().await?).await
    }

    /// Returns how far this host's clock is ahead of the database's clock.
    pub async fn clock_ahead(&self) -> Result<ClockAhead> {
        let mut session = self.session().await?;
        let (sent_at, started) = (Timestamp::now(), Instant::now());
        let database_time = current_time(&mut session).await?;
        let host_time = sent_at.saturating_add(started.elapsed() / 2).unwrap_or(sent_at);
        Ok(ClockAhead(host_time.duration_since(database_time)))
    }
}

/// Records the current time. If the clock went back by more than an hour or forward by more than a day since the last
/// record, this is a jump. Recorders record the time at least once an hour.
const WATCH: &str = "UPDATE installation SET
        clock_before_jump = CASE WHEN jumped THEN clock_seen ELSE clock_before_jump END,
        clock_after_jump = CASE WHEN jumped THEN now ELSE clock_after_jump END,
        clock_seen = now
    FROM (SELECT clock_timestamp() AS now,
            coalesce(clock_timestamp() NOT BETWEEN clock_seen - interval '1 hour' AND clock_seen + interval '1 day', false)
                AS jumped
        FROM installation) AS look";

impl Store {
    /// Records the database's current time, and returns the last jump of its clock while nothing may be deleted.
    pub async fn watch_clock(&self) -> Result<Option<ClockJump>> {
        self.session().await?.execute(WATCH, &[]).await?;
        self.clock_jump().await
    }

    /// Returns the last jump of the database's clock while nothing may be deleted because of it. `None` also if the
    /// tables are of an older version.
    pub async fn clock_jump(&self) -> Result<Option<ClockJump>> {
        let jump = "SELECT clock_before_jump, clock_after_jump, clock_timestamp() FROM installation
            WHERE clock_after_jump IS NOT NULL";
        let row = match self.session().await?.query_opt(jump, &[]).await {
            Err(error) if error.sql_state().is_some_and(|state| UNDEFINED_CODES.contains(&state)) => {
                return Ok(None);
            }
            row => row?,
        };
        let Some(row) = row else { return Ok(None) };
        let (jump, now) = (ClockJump { before: row.try_get(0)?, after: row.try_get(1)? }, row.try_get(2)?);
        Ok(Some(jump).filter(|jump| !jump.is_over(now)))
    }
}

/// Returns the current UTC day by the database's clock.
pub(super) async fn today(session: &mut Session) -> Result<Date> {
    Ok(current_time(session).await?.to_zoned(TimeZone::UTC).date())
}

pub(super) async fn current_time(session: &mut Session) -> Result<Timestamp> {
    let row = session.query_opt("SELECT clock_timestamp()", &[]).await?;
    let row = row.ok_or_else(|| StoreError::other("the database returned no time"))?;
    Ok(row.try_get(0)?)
}
