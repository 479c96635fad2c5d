//! Sums of counts: the minutes of one step, and all steps.

use std::collections::HashMap;

use jiff::Timestamp;
use tokio_postgres::Row;

use super::Counts;
use crate::{
    domain::{execution::Disposition, latency::Durations},
    store::{Result, StoreError, session::Session},
};

/// The counts of one step, while its rows are added.
#[derive(Default)]
pub(super) struct ActivityBucket {
    counts: Counts,
    durations: Durations,
    /// The same durations as counts by bucket: `merge` adds them to another step.
    buckets: Vec<(u16, u64)>,
}

impl ActivityBucket {
    fn add(&mut self, disposition: Disposition, bucket: Option<u16>, count: u64) {
        *match disposition {
            Disposition::Done => &mut self.counts.done,
            Disposition::Forbidden => &mut self.counts.forbidden,
            Disposition::Retrying => &mut self.counts.retrying,
            Disposition::DeadLettered => &mut self.counts.dead_lettered,
            Disposition::HandlerOff
            | Disposition::NotReached
            | Disposition::NoHandler
            | Disposition::Duplicate
            | Disposition::NotAnswered => &mut self.counts.skipped,
        } += count;
        if let Some(bucket) = bucket {
            self.durations.add(bucket, count);
            self.buckets.push((bucket, count));
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let (sum, add) = (&mut self.counts, &other.counts);
        sum.events += add.events;
        sum.done += add.done;
        sum.forbidden += add.forbidden;
        sum.retrying += add.retrying;
        sum.dead_lettered += add.dead_lettered;
        sum.skipped += add.skipped;
        other.buckets.iter().for_each(|(bucket, count)| self.durations.add(*bucket, *count));
    }

    pub(super) fn counts(mut self) -> Counts {
        let percentile = |fraction| self.durations.percentile(fraction);
        (self.counts.p50_ms, self.counts.p95_ms, self.counts.p99_ms) =
            (percentile(0.5), percentile(0.95), percentile(0.99));
        self.counts
    }
}

/// Reads the counts since `since`, by step.
pub(super) async fn counts_by_step(
    session: &mut Session,
    step: &str,
    since: Timestamp,
) -> Result<HashMap<Timestamp, ActivityBucket>> {
    let executions = "SELECT date_trunc($1, minute) AS at, disposition, bucket, sum(executions) AS count
        FROM execution_minutes WHERE minute >= $2 GROUP BY 1, 2, 3";
    let events = "SELECT date_trunc($1, minute) AS at, sum(events) AS count
        FROM event_minutes WHERE minute >= $2 GROUP BY 1";
    let executions = session.query(executions, &[&step, &since]).await?;
    let events = session.query(events, &[&step, &since]).await?;
    buckets_by_step(&executions, &events).map_err(|error| StoreError::Other(error.into()))
}

fn buckets_by_step(executions: &[Row], events: &[Row]) -> anyhow::Result<HashMap<Timestamp, ActivityBucket>> {
    let mut steps: HashMap<Timestamp, ActivityBucket> = HashMap::new();
    for row in executions {
        let disposition = row.try_get::<_, &str>("disposition")?.parse()?;
        let bucket = u16::try_from(row.try_get::<_, i16>("bucket")?).ok();
        let count = row.try_get::<_, i64>("count")?.try_into()?;
        steps.entry(row.try_get("at")?).or_default().add(disposition, bucket, count);
    }
    for row in events {
        let count: u64 = row.try_get::<_, i64>("count")?.try_into()?;
        steps.entry(row.try_get("at")?).or_default().counts.events += count;
    }
    Ok(steps)
}
