//! Discards dead letters, and deletes closed ones after their retention.

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::filter::DeadLetterFilter;
use crate::{
    domain::dead_letter::State,
    store::{Result, Store, sql::Query},
};

/// Rows that one statement changes. The limit keeps the statement far below its timeout.
const BATCH_SIZE: usize = 5000;

/// Which dead letters are discarded.
#[derive(Clone, Copy, Debug)]
pub enum Closing<'a> {
    These(&'a [Uuid]),
    By(&'a DeadLetterFilter),
}

impl Store {
    /// Discards open dead letters and returns how many. Waits for a dead letter that is being replayed, and skips it
    /// if the replay closes it.
    pub async fn discard_dead_letters(&self, which: Closing<'_>, note: &str, by: &str) -> Result<u64> {
        let open;
        let mut query = match which {
            Closing::These(ids) => {
                let mut query = Query::new("SELECT id FROM dead_letters");
                query.and("id = ANY (?)", ids, Type::UUID_ARRAY);
                query.and_that("state = 'open'");
                query
            }
            Closing::By(filter) => {
                open = DeadLetterFilter { state: Some(State::Open), ..filter.clone() };
                open.query("SELECT id FROM dead_letters")
            }
        };
        query.limit(BATCH_SIZE);
        let mut session = self.session_to_search(query.reads_text()).await?;
        let mut discarded = 0;
        loop {
            let ids: Vec<Uuid> = session.search(&query).await?.iter().map(|row| row.get(0)).collect();
            if ids.is_empty() {
                return Ok(discarded);
            }
            let sql = "UPDATE dead_letters SET state = 'discarded', state_changed_at = now(),
                           state_changed_by = $2, state_note = $3
                       WHERE id = ANY ($1) AND state = 'open'";
            discarded += session.execute(sql, &[&ids, &by, &note]).await?;
        }
    }

    /// Deletes dead letters that were closed more than `days` days ago, and returns how many. Also deletes replay
    /// jobs that ended that long ago; a job without an end counts from its creation. An open dead letter is never
    /// deleted.
    pub async fn forget_closed_dead_letters(&self, days: u16) -> Result<u64> {
        let (days, batch_size) = (i32::from(days), i64::try_from(BATCH_SIZE).unwrap_or(i64::MAX));
        let mut session = self.session().await?;
        let mut deleted = 0;
        loop {
            let sql = "DELETE FROM dead_letters WHERE state <> 'open' AND id IN (
                           SELECT id FROM dead_letters
                           WHERE state <> 'open' AND state_changed_at < now() - make_interval(days => $1) LIMIT $2)";
            let count = session.execute(sql, &[&days, &batch_size]).await?;
            deleted += count;
            if count == 0 {
                break;
            }
        }
        // A job that runs, or was resumed and waits for its turn, has no end. Nor has one whose process was killed: it is
        // an operator's to stop or to resume.
        let sql = "DELETE FROM replays WHERE ended_at < now() - make_interval(days => $1)";
        session.execute(sql, &[&days]).await?;
        Ok(deleted)
    }
}
