//! Runs that may crash a worker: how often each one began without ending.

use super::{Result, RunKey, Store};

/// The age at which a row is deleted: the run was settled by a process that could not record it, or its queue is
/// gone.
const RETENTION: &str = "7 days";

impl Store {
    /// Records that `run` begins. Returns how often it began before without ending.
    pub async fn begin_suspect(&self, (event, run): &RunKey) -> Result<u32> {
        let sql = "INSERT INTO suspects (event_id, run_id, begun) VALUES ($1, $2, 1)
            ON CONFLICT (event_id, run_id) DO UPDATE SET begun = suspects.begun + 1, begun_at = now()
            RETURNING begun - 1";
        let row = self.session().await?.query_opt(sql, &[&event.as_str(), &run.as_str()]).await?;
        let before = row.map(|row| row.try_get::<_, i32>(0)).transpose()?;
        Ok(before.and_then(|before| before.try_into().ok()).unwrap_or(0))
    }

    /// Records that `run` has ended, with or without success. Also deletes old rows.
    pub async fn end_suspect(&self, (event, run): &RunKey) -> Result<()> {
        let sql = format!(
            "DELETE FROM suspects WHERE (event_id, run_id) = ($1, $2) OR begun_at < now() - interval '{RETENTION}'"
        );
        self.session().await?.execute(&sql, &[&event.as_str(), &run.as_str()]).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{domain::event::EventId, store::testing::Database};

    #[tokio::test]
    async fn runs_are_counted_until_they_end() {
        let database = Database::migrated().await;
        let store = database.store();
        let key = |id: &str| {
            let id = EventId::from_message_id(id);
            (id.clone(), id.into())
        };
        let (one, other) = (key("e1"), key("e2"));
        for before in 0..3 {
            assert_eq!(store.begin_suspect(&one).await.expect("written"), before);
        }
        assert_eq!(store.begin_suspect(&other).await.expect("written"), 0);
        store.end_suspect(&one).await.expect("deleted");
        assert_eq!(store.begin_suspect(&one).await.expect("written"), 0, "it ended");
        assert_eq!(store.begin_suspect(&other).await.expect("written"), 1, "the other one did not");
        database.psql("UPDATE suspects SET begun_at = now() - interval '8 days' WHERE event_id = 'e2'").await;
        store.end_suspect(&one).await.expect("deleted");
        assert_eq!(store.begin_suspect(&other).await.expect("written"), 0, "it is forgotten");
    }
}
