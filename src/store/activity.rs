//! Activity in numbers: events, executions by disposition, durations, and which handlers fail.
//!
//! The numbers come from count tables (`V6__statistics.sql`), not from the executions: a busy hour has millions of
//! executions, and the console reads the numbers every few seconds. The recorder updates the counts in the statement
//! that inserts a batch, and counts only rows that are new, so a result that is delivered twice counts once. A minute
//! has about forty rows however many executions it had; an hour of a handler has one row.

mod bucket;

use std::collections::HashMap;

use jiff::{Timestamp, TimestampRound, ToSpan, Unit};
use serde::Serialize;
use tokio_postgres::Row;

use super::{Result, Store, StoreError, handlers::last_name};
use crate::domain::handler::{HandlerId, Status};
use bucket::{ActivityBucket, counts_by_step};

/// The time range of an activity report, and its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// The last hour, by minute.
    Hour,
    /// The last day, by hour.
    Day,
}

/// Counts of events and executions over a time range, in steps.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Activity {
    /// Start of the first point.
    pub since: Timestamp,
    pub step_seconds: u32,
    /// Oldest first, without gaps. The last point is not complete yet.
    pub points: Vec<ActivityPoint>,
    /// The sum of all points.
    pub total: Counts,
}

/// The counts of one step.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ActivityPoint {
    pub at: Timestamp,
    #[serde(flatten)]
    pub counts: Counts,
}

/// Numbers of events and executions, and how long successful executions took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = ActivityCounts)]
pub struct Counts {
    /// Events that workers took from their queues, without retries and redeliveries.
    pub events: u64,
    /// Executions with the disposition `done`.
    pub done: u64,
    /// Executions with the disposition `forbidden`.
    pub forbidden: u64,
    /// Executions with the disposition `retrying`.
    pub retrying: u64,
    /// Executions with the disposition `dead_lettered`.
    pub dead_lettered: u64,
    /// Executions with the status `skipped`, such as `no_handler` or `duplicate`.
    pub skipped: u64,
    /// Milliseconds within which half of the successful executions ended, accurate to about a sixth.
    pub p50_ms: Option<f64>,
    /// Milliseconds within which 95 % of the successful executions ended.
    pub p95_ms: Option<f64>,
    /// Milliseconds within which 99 % of the successful executions ended.
    pub p99_ms: Option<f64>,
}

/// How many attempts a handler made, and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct HandlerCounts {
    pub attempts: u64,
    pub failures: u64,
}

/// A handler with failed attempts.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct FailingHandler {
    pub handler_id: HandlerId,
    /// The current name, or the last name of a deleted handler. `null` if no name is known.
    pub handler_name: Option<String>,
    /// `null` if the handler was deleted.
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

    /// The step's name in `date_trunc`, its length in seconds, and the number of steps.
    const fn steps(self) -> (&'static str, u32, u32) {
        match self {
            Self::Hour => ("minute", 60, 60),
            Self::Day => ("hour", 3600, 24),
        }
    }
}

/// The start of the hour, 24 hours ago. The hourly counts that are summed begin there, so a search of executions from
/// this time on finds the same executions.
pub fn a_day_ago() -> Timestamp {
    (truncated(Timestamp::now(), Unit::Hour)) - 24.hours()
}

fn truncated(time: Timestamp, unit: Unit) -> Timestamp {
    let down = TimestampRound::new().smallest(unit).mode(jiff::RoundMode::Trunc);
    time.round(down).unwrap_or(time)
}

impl Store {
    /// Reads the activity of the last hour or day.
    pub async fn activity(&self, period: Period) -> Result<Activity> {
        let (step, step_seconds, count) = period.steps();
        let last = truncated(Timestamp::now(), period.unit());
        let start_of = |n: u32| last - (i64::from(count - 1 - n) * i64::from(step_seconds)).seconds();
        let since = start_of(0);
        let mut session = self.session().await?;
        let mut steps = counts_by_step(&mut session, step, since).await?;
        let mut total = ActivityBucket::default();
        let points = (0..count).map(|n| {
            let bucket = steps.remove(&start_of(n)).unwrap_or_default();
            total.merge(&bucket);
            ActivityPoint { at: start_of(n), counts: bucket.counts() }
        });
        let points = points.collect();
        Ok(Activity { since, step_seconds, points, total: total.counts() })
    }

    /// Returns the handlers with the most failures since [`a_day_ago`], at most `limit`.
    pub async fn failing_handlers(&self, limit: usize) -> Result<Vec<FailingHandler>> {
        // Attempts are added up for these handlers only.
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

    /// Returns the counts of these handlers since [`a_day_ago`], without handlers that made no attempt.
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

    /// Deletes counts that are older than 25 hours; nothing reads them.
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
