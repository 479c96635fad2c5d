//! Remembers which events began recently, to detect an event that was published twice.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use uuid::Uuid;

use super::{Result, Store, session::Params};

/// A delivery's claim to be the first one of its event.
#[derive(Clone, Debug)]
pub struct InboxClaim {
    pub event_id: String,
    pub event_name: String,
    /// Random, new for each delivery.
    pub id: Uuid,
    pub body_hash: Vec<u8>,
}

/// The result of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// No other delivery claimed the event.
    First,
    /// Another delivery claimed the event, with the same body or (in a row of an older version) an unknown body.
    Again,
    /// Another delivery has the same id and another body, so neither is a duplicate.
    WithOtherBody,
}

/// Rows that one statement deletes: a purge must not block claims for long.
const PURGE_ROWS: i64 = 5000;

impl Store {
    /// Writes `claims` and returns their results in the same order. Of several claims for one event within `window`,
    /// also in one batch, exactly one is the first.
    pub async fn claim(&self, claims: &[InboxClaim], window: Duration) -> Result<Vec<Arrived>> {
        let key = |claim: &InboxClaim| (claim.event_id.clone(), claim.event_name.clone());
        let mut seen = HashSet::new();
        // A statement may not touch a row twice. All statements lock rows in the same order: otherwise two workers
        // with the same events could deadlock.
        let mut first: Vec<&InboxClaim> = claims.iter().filter(|claim| seen.insert(key(claim))).collect();
        first.sort_by_key(|c| (&c.event_id, &c.event_name));
        let ids: Vec<&str> = first.iter().map(|c| c.event_id.as_str()).collect();
        let names: Vec<&str> = first.iter().map(|c| c.event_name.as_str()).collect();
        let claim_ids: Vec<Uuid> = first.iter().map(|c| c.id).collect();
        let hashes: Vec<&[u8]> = first.iter().map(|c| c.body_hash.as_slice()).collect();
        // A row that another delivery claimed is written unchanged: `RETURNING` returns only rows that are written,
        // in their latest version.
        let sql = "INSERT INTO inbox (event_id, event_name, claim, body_hash)
                SELECT * FROM UNNEST($1::text[], $2::text[], $3::uuid[], $4::bytea[])
            ON CONFLICT (event_id, event_name) DO UPDATE SET (claim, body_hash, claimed_at) = (
                SELECT CASE WHEN is_ours THEN excluded.claim ELSE inbox.claim END,
                    CASE WHEN is_ours THEN excluded.body_hash ELSE inbox.body_hash END,
                    CASE WHEN is_ours THEN now() ELSE inbox.claimed_at END
                FROM (SELECT inbox.claim = excluded.claim
                    OR inbox.claimed_at < now() - make_interval(secs => $5) AS is_ours) AS judged)
            RETURNING event_id, event_name, claim, body_hash";
        let params: Params<'_> = &[&ids, &names, &claim_ids, &hashes, &window.as_secs_f64()];
        let mut stored: HashMap<_, (Uuid, Option<Vec<u8>>)> = HashMap::new();
        for row in self.session().await?.query(sql, params).await? {
            let key: (String, String) = (row.try_get(0)?, row.try_get(1)?);
            stored.insert(key, (row.try_get(2)?, row.try_get(3)?));
        }
        let result_of = |claim: &InboxClaim| match stored.get(&key(claim)) {
            Some((id, _)) if *id == claim.id => Arrived::First,
            Some((_, Some(hash))) if *hash != claim.body_hash => Arrived::WithOtherBody,
            _ => Arrived::Again,
        };
        Ok(claims.iter().map(result_of).collect())
    }

    /// Deletes some claims that are older than `window`, and returns how many; 0 if none are left.
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

    fn claim(event_id: &str, body: &str) -> InboxClaim {
        let (event_name, body_hash) = ("clients.create".into(), body.into());
        InboxClaim { event_id: event_id.into(), event_name, id: Uuid::new_v4(), body_hash }
    }

    #[tokio::test]
    async fn one_claim_stands_within_the_window() {
        use Arrived::{Again, First, WithOtherBody};
        let database = Database::migrated().await;
        let store = database.store();
        let claim_all = |claims: &[&InboxClaim], window| {
            let claims: Vec<InboxClaim> = claims.iter().map(|claim| (*claim).clone()).collect();
            async move { store.claim(&claims, window).await.expect("claimed") }
        };
        let (first, second, other) = (claim("e1", "a"), claim("e1", "a"), claim("e2", "a"));
        let changed = claim("e1", "b");
        assert_eq!(
            claim_all(&[&first, &second, &other, &changed], DAY).await,
            [First, Again, First, WithOtherBody]
        );
        assert_eq!(claim_all(&[&second], DAY).await, [Again]);
        assert_eq!(claim_all(&[&changed], DAY).await, [WithOtherBody]);
        assert_eq!(claim_all(&[&first], DAY).await, [First], "asking again is no other claim");
        database.psql("UPDATE inbox SET body_hash = NULL").await;
        assert_eq!(
            claim_all(&[&changed], DAY).await,
            [Again],
            "of a row of an older version only the id is known"
        );
        assert_eq!(claim_all(&[&second], Duration::ZERO).await, [First], "older than the window: forgotten");
        assert_eq!(store.purge_inbox(Duration::ZERO).await.expect("purged"), 2);
    }
}
