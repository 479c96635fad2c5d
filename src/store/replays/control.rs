//! Stops and resumes a job from outside of its run.

use super::{Replay, replay, run::LOCK};
use crate::store::{Result, Store, session::Session};

impl Store {
    /// Whether a process runs this job now. The row of a job whose process was killed still says `running`.
    pub async fn is_replay_running(&self, id: i64) -> Result<bool> {
        has_runner(&mut self.session().await?, id).await
    }

    /// Asks the process that runs the job to stop. If there is none, because it was killed, marks the job as stopped.
    pub async fn stop_replay(&self, id: i64, by: &str) -> Result<Replay> {
        let mut session = self.session().await?;
        replay(&mut session, id).await?;
        let request_stop = "UPDATE replays SET stop_asked_by = $2 WHERE id = $1 AND state = 'running'";
        session.execute(request_stop, &[&id, &by]).await?;
        if !has_runner(&mut session, id).await? {
            let mark_stopped =
                "UPDATE replays SET state = 'stopped', ended_at = now(), note = 'stopped by ' || $2::text
                       WHERE id = $1 AND state = 'running'";
            session.execute(mark_stopped, &[&id, &by]).await?;
        }
        replay(&mut session, id).await
    }

    /// Marks a stopped job as running, so that it does not look stopped while it waits for its turn to run.
    pub async fn resume_replay(&self, id: i64) -> Result<()> {
        let sql = "UPDATE replays SET state = 'running', ended_at = NULL, note = NULL, stop_asked_by = NULL
                   WHERE id = $1 AND state = 'stopped'";
        self.session().await?.execute(sql, &[&id]).await.map(drop)
    }

    /// Lists jobs, newest first; with `before`, only those with smaller ids.
    pub async fn list_replays(&self, limit: usize, before: Option<i64>) -> Result<Vec<Replay>> {
        let (limit, before) = (i64::try_from(limit).unwrap_or(i64::MAX), before.unwrap_or(i64::MAX));
        // Select the newest jobs first, and only then count their items, which may be millions.
        let sql = format!(
            "{} WHERE r.id IN (SELECT id FROM replays WHERE id < $1 ORDER BY id DESC LIMIT $2)
             GROUP BY r.id ORDER BY r.id DESC",
            super::SELECT
        );
        self.session().await?.query(&sql, &[&before, &limit]).await?.iter().map(super::read).collect()
    }
}

/// Whether a process runs the job: it holds the advisory lock on it.
async fn has_runner(session: &mut Session, id: i64) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_locks l
        WHERE l.locktype = 'advisory' AND l.classid::bigint = $1 AND l.objid::bigint = $2 AND l.granted
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    let row = session.query_opt(sql, &[&i64::from(LOCK), &id]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
}
