//! Which events were begun lately, so that one published twice is known.

use std::{collections::HashSet, time::Duration};

use uuid::Uuid;

use super::{Result, Store};

/// One delivery's word that it is the first of its event.
#[derive(Clone, Debug)]
pub struct Claim {
    pub event_id: String,
    pub event_name: String,
    /// Random, made for this delivery.
    pub id: Uuid,
}

/// Rows that are deleted in one statement: a purge must not hold up those who claim.
const PURGE_ROWS: i64 = 5000;

impl Store {
    /// Writes `claims`, and gives those that stand: nobody else claimed the same event within `window`.
    /// Of two in the same batch one stands.
    pub async fn claim(&self, claims: &[Claim], window: Duration) -> Result<HashSet<Uuid>> {
        let mut seen = HashSet::new();
        // A statement may not touch a row twice; and all take their locks in one order, or two workers
        // that were sent the same events would wait for each other.
        let mut first: Vec<&Claim> =
            claims.iter().filter(|c| seen.insert((&c.event_id, &c.event_name))).collect();
        first.sort_by_key(|c| (&c.event_id, &c.event_name));
        let ids: Vec<&str> = first.iter().map(|c| c.event_id.as_str()).collect();
        let names: Vec<&str> = first.iter().map(|c| c.event_name.as_str()).collect();
        let ours: Vec<Uuid> = first.iter().map(|c| c.id).collect();
        let sql = "INSERT INTO inbox (event_id, event_name, claim)
                SELECT * FROM UNNEST($1::text[], $2::text[], $3::uuid[])
            ON CONFLICT (event_id, event_name) DO UPDATE SET claim = excluded.claim, claimed_at = now()
                WHERE inbox.claim = excluded.claim OR inbox.claimed_at < now() - make_interval(secs => $4)
            RETURNING claim";
        let rows = self.session().await?.query(sql, &[&ids, &names, &ours, &window.as_secs_f64()]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Deletes some claims that are older than `window`. Gives their number; 0 when none are left.
    pub async fn purge_inbox(&self, window: Duration) -> Result<u64> {
        let sql = "DELETE FROM inbox WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM inbox WHERE claimed_at < now() - make_interval(secs => $1) LIMIT $2))";
        self.session().await?.execute(sql, &[&window.as_secs_f64(), &PURGE_ROWS]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Database;

    const DAY: Duration = Duration::from_hours(24);

    fn claim(event_id: &str) -> Claim {
        Claim { event_id: event_id.into(), event_name: "clients.create".into(), id: Uuid::new_v4() }
    }

    #[tokio::test]
    async fn one_claim_stands_within_the_window() {
        let database = Database::migrated().await;
        let store = database.store();
        let claim_all =
            |claims: Vec<Claim>, window| async move { store.claim(&claims, window).await.expect("claimed") };
        let (first, second, other) = (claim("e1"), claim("e1"), claim("e2"));
        let three = vec![first.clone(), second.clone(), other.clone()];
        assert_eq!(claim_all(three, DAY).await, HashSet::from([first.id, other.id]));
        assert_eq!(claim_all(vec![second.clone()], DAY).await, HashSet::new());
        let own = claim_all(vec![first.clone()], DAY).await;
        assert_eq!(own, HashSet::from([first.id]), "asking again is no other claim");
        let later = claim_all(vec![second.clone()], Duration::ZERO).await;
        assert_eq!(later, HashSet::from([second.id]), "what is older than the window is forgotten");
        assert_eq!(store.purge_inbox(Duration::ZERO).await.expect("purged"), 2);
    }
}
