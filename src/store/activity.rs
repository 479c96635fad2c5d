//! What is going on, in numbers: how many events and executions, how they ended, how long they took, which handlers fail.
//!
//! Read from counts that are kept beside the executions (`V6__statistics.sql`) and not from these: a busy hour has
//! millions of them, and an overview asks every few seconds. The recorder adds a batch to the counts in the statement
//! that inserts it, and only what that really inserted: a result that is delivered twice is counted once. A minute is
//! some forty rows however much happened in it, a handler's hour is one.

mod tally;

use std::collections::HashMap;

use jiff::{Timestamp, TimestampRound, ToSpan, Unit};
use serde::Serialize;
use tokio_postgres::Row;

use super::{Result, Store, StoreError, handlers::last_name};
use crate::domain::handler::{HandlerId, Status};
use tally::{ActivityBucket, counted};

/// How far back, and in which steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// The last hour, minute by minute.
    Hour,
    /// The last day, hour by hour.
    Day,
}

/// What went on.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Activity {
    /// When the first point begins.
    pub since: Timestamp,
    pub step_seconds: u32,
    /// Oldest first, without gaps. The last one is still going on.
    pub points: Vec<ActivityPoint>,
    /// All points together.
    pub total: Counts,
}

/// What went on in one step.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ActivityPoint {
    pub at: Timestamp,
    #[serde(flatten)]
    pub counts: Counts,
}

/// How much there was, and how long it took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = ActivityCounts)]
pub struct Counts {
    /// That workers took from their queues: not retries, and not what was delivered again.
    pub events: u64,
    /// Executions, by what became of them.
    pub done: u64,
    pub forbidden: u64,
    pub retrying: u64,
    pub dead_lettered: u64,
    /// No handler, switched off, not reached, published twice.
    pub skipped: u64,
    /// How long what succeeded took: half of it, 95 and 99 of a hundred were faster. Right within a sixth.
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

/// How a handler did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct HandlerCounts {
    pub attempts: u64,
    pub failures: u64,
}

/// A handler that failed.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct FailingHandler {
    pub handler_id: HandlerId,
    /// Of a deleted handler the last one; absent where nothing is known of it any more.
    pub handler_name: Option<String>,
    /// Absent where it was deleted since.
    pub status: Option<Status>,
    #[serde(flatten)]
    pub counts: HandlerCounts,
}

impl Period {
    const fn unit(self) -> Unit {
        match self {
            Self::Hour => Unit::Minute,
            Self::Day => Unit::Hour,
        }
    }

    /// As `date_trunc` calls it; also its length in seconds, and how many there are.
    const fn steps(self) -> (&'static str, u32, u32) {
        match self {
            Self::Hour => ("minute", 60, 60),
            Self::Day => ("hour", 3600, 24),
        }
    }
}

/// What is counted by the hour since 24 hours ago begins with this hour: a search of the executions from then on finds
/// the same.
pub fn a_day_ago() -> Timestamp {
    (truncated(Timestamp::now(), Unit::Hour)) - 24.hours()
}

fn truncated(at: Timestamp, unit: Unit) -> Timestamp {
    let down = TimestampRound::new().smallest(unit).mode(jiff::RoundMode::Trunc);
    at.round(down).unwrap_or(at)
}

impl Store {
    /// What went on in the last hour or day.
    pub async fn activity(&self, period: Period) -> Result<Activity> {
        let (step, step_seconds, count) = period.steps();
        let last = truncated(Timestamp::now(), period.unit());
        let at = |n: u32| last - (i64::from(count - 1 - n) * i64::from(step_seconds)).seconds();
        let since = at(0);
        let mut session = self.session().await?;
        let mut steps = counted(&mut session, step, since).await?;
        let mut total = ActivityBucket::default();
        let points = (0..count).map(|n| {
            let tally = steps.remove(&at(n)).unwrap_or_default();
            total.merge(&tally);
            ActivityPoint { at: at(n), counts: tally.counts() }
        });
        let points = points.collect();
        Ok(Activity { since, step_seconds, points, total: total.counts() })
    }

    /// The handlers that failed most often since [`a_day_ago`], at most `limit`.
    pub async fn failing_handlers(&self, limit: usize) -> Result<Vec<FailingHandler>> {
        // Attempts are added up for those few alone.
        let sql = concat!(
            "SELECT f.handler_id, f.failures, a.attempts, h.status, coalesce(h.name, ",
            last_name!("f.handler_id"),
            ") AS name FROM (
                SELECT handler_id, sum(failures) AS failures FROM handler_hours
                LEFT JOIN handlers ON id = handler_id
                WHERE hour >= $1 AND failures > 0
                    -- A handler before it may have had the number, in a database that was restored since.
                    AND hour > coalesce(created_at, '-infinity') - interval '1 hour'
                GROUP BY handler_id ORDER BY failures DESC, handler_id LIMIT $2) f
            CROSS JOIN LATERAL (
                SELECT sum(attempts) AS attempts FROM handler_hours
                LEFT JOIN handlers ON id = handler_id
                WHERE handler_id = f.handler_id AND hour >= $1
                    AND hour > coalesce(created_at, '-infinity') - interval '1 hour') a
            LEFT JOIN handlers h ON h.id = f.handler_id
            ORDER BY f.failures DESC, f.handler_id"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.session().await?.query(sql, &[&a_day_ago(), &limit]).await?;
        let failing = rows.iter().map(|row| {
            Ok(FailingHandler {
                handler_id: HandlerId(row.try_get("handler_id")?),
                handler_name: row.try_get("name")?,
                status: row.try_get::<_, Option<&str>>("status")?.map(str::parse).transpose()?,
                counts: handler_counts(row)?,
            })
        });
        failing.collect::<anyhow::Result<_>>().map_err(|error| StoreError::Other(error.into()))
    }

    /// How these handlers did since [`a_day_ago`]; those that made no attempt are left out.
    pub async fn handler_counts(&self, handlers: &[HandlerId]) -> Result<HashMap<HandlerId, HandlerCounts>> {
        let sql = "SELECT handler_id, sum(attempts) AS attempts, sum(failures) AS failures
            FROM handler_hours LEFT JOIN handlers ON id = handler_id
            WHERE handler_id = ANY ($1) AND hour >= $2
                AND hour > coalesce(created_at, '-infinity') - interval '1 hour'
            GROUP BY handler_id";
        let ids: Vec<i64> = handlers.iter().map(|id| id.0).collect();
        let rows = self.session().await?.query(sql, &[&ids, &a_day_ago()]).await?;
        let counts = rows.iter().map(|row| Ok((HandlerId(row.try_get("handler_id")?), handler_counts(row)?)));
        counts.collect::<anyhow::Result<_>>().map_err(|error| StoreError::Other(error.into()))
    }

    /// Deletes counts of before yesterday's hour: nobody asks for them.
    pub async fn forget_counts(&self) -> Result<()> {
        let mut session = self.session().await?;
        for sql in [
            "DELETE FROM event_minutes WHERE minute < now() - interval '25 hours'",
            "DELETE FROM execution_minutes WHERE minute < now() - interval '25 hours'",
            "DELETE FROM handler_hours WHERE hour < now() - interval '25 hours'",
        ] {
            session.execute(sql, &[]).await?;
        }
        Ok(())
    }
}

fn handler_counts(row: &Row) -> anyhow::Result<HandlerCounts> {
    let count = |column| anyhow::Ok(u64::try_from(row.try_get::<_, i64>(column)?)?);
    Ok(HandlerCounts { attempts: count("attempts")?, failures: count("failures")? })
}

#[cfg(test)]
mod tests;
