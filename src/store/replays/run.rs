//! Runs a job item by item. Each item has its own transaction, which is committed after the broker confirmed the
//! copy.
//!
//! A run uses one connection. It holds an advisory lock on the job and a row lock on the claimed dead letter. The
//! server releases both when the process ends for any reason, so no claim can be left behind.

use std::collections::VecDeque;

use bytes::Bytes;
use uuid::Uuid;

use super::{Replay, replay};
use crate::{
    domain::{
        event::EventName,
        handler::{HandlerId, HandlerVersions},
        replay::{JobState, Source},
        trace::Trace,
    },
    store::{Result, Store, StoreError, session::Session},
};

/// The first key of the advisory lock; the second key is the job's id. All versions must use the same number.
pub(super) const LOCK: i32 = 0x7265_706c;
const READ_AHEAD: i64 = 500;

/// A job that this process runs.
pub struct ReplayRun {
    pub(super) session: Session,
    pub job: Replay,
    ahead: VecDeque<Ahead>,
    pub(super) position: i64,
}

struct Ahead {
    position: i64,
    dead_letter: Option<Uuid>,
    execution: Option<Uuid>,
    share: Option<String>,
    edited: Option<Vec<u8>>,
}

/// The next item, locked until it is settled.
pub enum ClaimedItem {
    Replay(Box<ReplayItem>),
    /// Skip it: somebody else was faster, or it is gone. The text says who or why.
    Pass(String),
    /// It must not be replayed. The text says why.
    Refuse(String),
}

/// An item to replay.
#[derive(Debug)]
pub struct ReplayItem {
    /// Identifies this replay: the id of the dead letter, or the ids of the job and the execution.
    pub key: String,
    pub event_name: String,
    pub event_id: Option<String>,
    pub body: Bytes,
    pub content_type: Option<String>,
    /// The body was edited and is not the original one.
    pub edited: bool,
    /// Empty: the event is planned again.
    pub plan: Vec<HandlerId>,
    /// When the handlers of `plan` were created, as far as known.
    pub plan_created: Vec<i64>,
    /// The enabled handlers of `plan` or, if that is empty, of the event.
    pub enabled: HandlerVersions,
    /// Handlers of `plan` that are gone, and whose ids other handlers have now.
    pub replaced: Vec<HandlerId>,
    pub trace: Trace,
}

/// The result of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The broker confirmed the copy. The text is a note for the dead letter.
    Replayed(Option<String>),
    Refused(String),
    Passed(String),
}

impl Store {
    /// Starts to run a job.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Refused`] if another process runs the job, or if it is finished.
    pub async fn run_replay(&self, id: i64) -> Result<ReplayRun> {
        let mut session = self.session().await?;
        // The lock outlives transactions, so the connection must not return to the pool.
        session.take_over()?;
        let key = i32::try_from(id).unwrap_or(i32::MAX);
        let row = session.query_opt("SELECT pg_try_advisory_lock($1, $2)", &[&LOCK, &key]).await?;
        if !row.is_some_and(|row| row.get(0)) {
            return Err(StoreError::Refused(format!("replay {id} is running already, in another process")));
        }
        let job = replay(&mut session, id).await?;
        if job.state == JobState::Finished {
            return Err(StoreError::Refused(format!("replay {id} is finished")));
        }
        let sql = "UPDATE replays SET state = 'running', ended_at = NULL, note = NULL, stop_asked_by = NULL WHERE id = $1";
        session.execute(sql, &[&id]).await?;
        Ok(ReplayRun { session, job, ahead: VecDeque::new(), position: 0 })
    }
}

impl ReplayRun {
    /// Returns who asked this job to stop since this run began.
    pub async fn stop_asked_by(&mut self) -> Result<Option<String>> {
        let sql = "SELECT stop_asked_by FROM replays WHERE id = $1";
        let row = self.session.query_opt(sql, &[&self.job.id]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
    }

    /// Returns the names of the events that still wait in this job.
    pub async fn events(&mut self) -> Result<Vec<EventName>> {
        let sql = match self.job.source {
            Source::DeadLetters => {
                "SELECT DISTINCT d.event_name FROM replay_items i JOIN dead_letters d ON d.id = i.letter_id
                 WHERE i.replay_id = $1 AND i.state = 'waiting'"
            }
            Source::Executions => {
                "SELECT DISTINCT e.event_name FROM replay_items i
                 JOIN executions e ON e.id = i.execution_id AND e.started_at = i.execution_started_at
                 WHERE i.replay_id = $1 AND i.state = 'waiting'"
            }
        };
        let rows = self.session.query(sql, &[&self.job.id]).await?;
        Ok(rows.iter().filter_map(|row| row.get::<_, &str>(0).parse().ok()).collect())
    }

    /// Locks the next item; `None` if all are settled. Settle or release it before the next call.
    pub async fn next(&mut self) -> Result<Option<ClaimedItem>> {
        if self.ahead.is_empty() {
            self.read_ahead().await?;
        }
        let Some(item) = self.ahead.pop_front() else { return Ok(None) };
        self.position = item.position;
        self.session.begin().await?;
        let claim = match (item.dead_letter, item.execution) {
            (Some(dead_letter), _) => self.claim_dead_letter(dead_letter, item.edited).await?,
            (None, Some(execution)) => {
                self.claim_execution(execution, item.share.as_deref().unwrap_or_default()).await?
            }
            (None, None) => ClaimedItem::Pass("it names no dead letter and no execution".to_owned()),
        };
        Ok(Some(claim))
    }

    async fn read_ahead(&mut self) -> Result<()> {
        let sql = "SELECT position, letter_id, execution_id, share, body FROM replay_items
                   WHERE replay_id = $1 AND position > $2 AND state = 'waiting' ORDER BY position LIMIT $3";
        for row in self.session.query(sql, &[&self.job.id, &self.position, &READ_AHEAD]).await? {
            self.ahead.push_back(Ahead {
                position: row.try_get(0)?,
                dead_letter: row.try_get(1)?,
                execution: row.try_get(2)?,
                share: row.try_get(3)?,
                edited: row.try_get(4)?,
            });
        }
        Ok(())
    }

    /// Settles the claimed item and, if it was replayed, its dead letter.
    pub async fn settle(&mut self, settled: &Settled) -> Result<()> {
        let (state, why) = match settled {
            Settled::Replayed(note) => ("replayed", note.as_deref()),
            Settled::Refused(why) => ("refused", Some(why.as_str())),
            Settled::Passed(why) => ("passed", Some(why.as_str())),
        };
        let sql = "WITH item AS (
                UPDATE replay_items SET state = $3, why = $4, settled_at = clock_timestamp()
                WHERE replay_id = $1 AND position = $2 RETURNING letter_id)
            UPDATE dead_letters SET state = 'replayed', state_changed_at = clock_timestamp(),
                state_changed_by = $5, state_note = 'replay ' || $1::bigint || coalesce(': ' || $4, '')
            WHERE $3 = 'replayed' AND id = (SELECT letter_id FROM item)";
        let by = self.job.created_by.clone();
        self.session.execute(sql, &[&self.job.id, &self.position, &state, &why, &by]).await?;
        self.session.batch("COMMIT").await
    }

    /// Unlocks the claimed item without settling it.
    pub async fn release(&mut self) -> Result<()> {
        self.session.batch("ROLLBACK").await
    }

    /// Ends the run. The job is then finished, or stopped and can be resumed.
    pub async fn end(mut self, state: JobState, note: Option<&str>) -> Result<Replay> {
        let sql = "UPDATE replays SET state = $2, note = $3, ended_at = now() WHERE id = $1";
        self.session.execute(sql, &[&self.job.id, &state.as_str(), &note]).await?;
        replay(&mut self.session, self.job.id).await
    }
}
