//! Replay jobs: previewed in `plan`, created in `create`, run in `run` with items that `claim` locks.
//!
//! A job stores its items when it is created. A user confirmed exactly these items, and a resumed job continues with
//! them.

mod claim;
mod control;
mod create;
mod plan;
mod run;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use super::{Result, Store, StoreError, session::Session};
use crate::domain::replay::{JobState, ReplayLimits, Source};
pub use create::{NewReplay, Selection};
pub use plan::{PlanLine, PlannedHandler};
pub use run::{ClaimedItem, ReplayItem, ReplayRun, Settled};

/// A replay job.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Replay {
    pub id: i64,
    pub source: Source,
    pub asked: String,
    pub rate: u32,
    pub max_failures: u8,
    pub state: JobState,
    pub note: Option<String>,
    pub created_at: Timestamp,
    pub created_by: String,
    pub ended_at: Option<Timestamp>,
    #[serde(flatten)]
    pub counts: Counts,
}

/// How many items of a job are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = ReplayCounts)]
pub struct Counts {
    pub waiting: i64,
    pub replayed: i64,
    /// Not replayed, for example because no handler would have run. A dead letter stays open.
    pub refused: i64,
    /// Skipped: replayed or discarded meanwhile by somebody else, or gone.
    pub passed: i64,
}

impl Counts {
    pub const fn total(&self) -> i64 {
        self.waiting + self.replayed + self.refused + self.passed
    }
}

/// A reason why items were refused, and how many.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Refusal {
    pub why: String,
    pub count: i64,
}

const SELECT: &str =
    "SELECT r.id, source, asked, rate, max_failures, r.state, note, created_at, created_by, ended_at,
        count(i.*) FILTER (WHERE i.state = 'waiting') AS waiting,
        count(i.*) FILTER (WHERE i.state = 'replayed') AS replayed,
        count(i.*) FILTER (WHERE i.state = 'refused') AS refused,
        count(i.*) FILTER (WHERE i.state = 'passed') AS passed
    FROM replays r LEFT JOIN replay_items i ON i.replay_id = r.id";

impl Store {
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn replay(&self, id: i64) -> Result<Replay> {
        replay(&mut self.session().await?, id).await
    }

    /// Lists jobs that are not finished, newest first; at most 20.
    pub async fn unfinished_replays(&self, source: Source) -> Result<Vec<Replay>> {
        let sql = format!(
            "{SELECT} WHERE r.state <> 'finished' AND source = $1 GROUP BY r.id ORDER BY r.id DESC LIMIT 20"
        );
        self.session().await?.query(&sql, &[&source.as_str()]).await?.iter().map(read).collect()
    }

    /// Changes the rate and the failure limit of a job, from its next run on.
    pub async fn set_caution(&self, id: i64, caution: ReplayLimits) -> Result<()> {
        let rate = i32::try_from(caution.rate).unwrap_or(i32::MAX);
        let sql = "UPDATE replays SET rate = $2, max_failures = $3 WHERE id = $1";
        self.session().await?.execute(sql, &[&id, &rate, &i32::from(caution.max_failures)]).await.map(drop)
    }

    /// Lists why items of a job were refused, the most frequent reason first.
    pub async fn refusals(&self, id: i64) -> Result<Vec<Refusal>> {
        let sql = "SELECT coalesce(why, ''), count(*) FROM replay_items
                   WHERE replay_id = $1 AND state = 'refused' GROUP BY why ORDER BY 2 DESC, 1 LIMIT 20";
        let rows = self.session().await?.query(sql, &[&id]).await?;
        rows.iter().map(|row| Ok(Refusal { why: row.try_get(0)?, count: row.try_get(1)? })).collect()
    }
}

async fn replay(session: &mut Session, id: i64) -> Result<Replay> {
    let sql = format!("{SELECT} WHERE r.id = $1 GROUP BY r.id");
    let row = session.query_opt(&sql, &[&id]).await?;
    read(&row.ok_or_else(|| StoreError::NotFound(format!("replay {id}")))?)
}

fn read(row: &Row) -> Result<Replay> {
    let parsed = || -> anyhow::Result<Replay> {
        Ok(Replay {
            id: row.try_get("id")?,
            source: row.try_get::<_, &str>("source")?.parse()?,
            asked: row.try_get("asked")?,
            rate: row.try_get::<_, i32>("rate")?.try_into()?,
            max_failures: row.try_get::<_, i32>("max_failures")?.try_into()?,
            state: row.try_get::<_, &str>("state")?.parse()?,
            note: row.try_get("note")?,
            created_at: row.try_get("created_at")?,
            created_by: row.try_get("created_by")?,
            ended_at: row.try_get("ended_at")?,
            counts: Counts {
                waiting: row.try_get("waiting")?,
                replayed: row.try_get("replayed")?,
                refused: row.try_get("refused")?,
                passed: row.try_get("passed")?,
            },
        })
    };
    parsed().map_err(|e| StoreError::Other(e.into()))
}

#[cfg(test)]
mod tests;
