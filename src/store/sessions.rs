//! Sessions of console users.

use std::time::Duration;

use super::{Result, Store};
use crate::domain::access::TokenHash;

/// The most sessions of one user, more than anybody needs. A further session ends the oldest one.
const MAX_SESSIONS: i64 = 50;

/// A session as it was stored. Whether its user still has access must be checked elsewhere.
#[derive(Debug)]
pub struct StoredSession {
    pub user: String,
    /// The hash of the credential that the user signed in with.
    pub credential: Vec<u8>,
}

impl Store {
    /// Begins a session that ends when it is not used for `lifetime`. Deletes expired sessions.
    pub async fn begin_session(
        &self,
        token: &TokenHash,
        user: &str,
        credential: &[u8],
        lifetime: Duration,
    ) -> Result<()> {
        let mut session = self.reserved_session().await?;
        let insert = "INSERT INTO console_sessions (token_hash, user_name, credential, expires_at)
                      VALUES ($1, $2, $3, now() + make_interval(secs => $4))";
        session.execute(insert, &[&token.bytes(), &user, &credential, &lifetime.as_secs_f64()]).await?;
        let delete = "DELETE FROM console_sessions WHERE expires_at < now() OR token_hash IN (
            SELECT token_hash FROM console_sessions WHERE user_name = $1 ORDER BY created_at DESC OFFSET $2)";
        session.execute(delete, &[&user, &MAX_SESSIONS]).await.map(drop)
    }

    /// Returns the session if it has not expired, and extends it to `lifetime` from now. The extension is written at
    /// most once in a tenth of that time, not at every request.
    pub async fn continue_session(
        &self,
        token: &TokenHash,
        lifetime: Duration,
    ) -> Result<Option<StoredSession>> {
        let sql = "WITH prolonged AS (
                UPDATE console_sessions SET expires_at = now() + make_interval(secs => $2::double precision)
                WHERE token_hash = $1 AND expires_at BETWEEN now() AND now() + make_interval(secs => $2::double precision * 0.9))
            SELECT user_name, credential FROM console_sessions WHERE token_hash = $1 AND expires_at > now()";
        let row =
            self.reserved_session().await?.query_opt(sql, &[&token.bytes(), &lifetime.as_secs_f64()]).await?;
        let read = |row: tokio_postgres::Row| {
            Ok(StoredSession { user: row.try_get("user_name")?, credential: row.try_get("credential")? })
        };
        row.map(read).transpose()
    }

    pub async fn end_session(&self, token: &TokenHash) -> Result<()> {
        let sql = "DELETE FROM console_sessions WHERE token_hash = $1";
        self.reserved_session().await?.execute(sql, &[&token.bytes()]).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::access::RandomToken, store::testing::Database};

    const LIFETIME: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn a_session_lasts_while_it_is_used() {
        let database = Database::migrated().await;
        let store = database.store();
        let token = RandomToken::generate().hash();
        assert!(store.continue_session(&token, LIFETIME).await.expect("asked").is_none());
        store.begin_session(&token, "ann", b"c", LIFETIME).await.expect("begun");
        database.psql("UPDATE console_sessions SET expires_at = now() + interval '1 minute'").await;
        let session = store.continue_session(&token, LIFETIME).await.expect("asked").expect("a session");
        assert_eq!((session.user.as_str(), session.credential.as_slice()), ("ann", &b"c"[..]));
        database.psql("UPDATE console_sessions SET expires_at = expires_at - interval '59 minutes'").await;
        assert!(store.continue_session(&token, LIFETIME).await.expect("asked").is_some(), "it was prolonged");
        database.psql("UPDATE console_sessions SET expires_at = now() - interval '1 second'").await;
        assert!(store.continue_session(&token, LIFETIME).await.expect("asked").is_none(), "it has ended");
    }

    #[tokio::test]
    async fn sessions_end_at_sign_out_and_beyond_the_limit() {
        let database = Database::migrated().await;
        let store = database.store();
        let tokens: Vec<TokenHash> = (0..52).map(|_| RandomToken::generate().hash()).collect();
        for token in &tokens {
            store.begin_session(token, "ann", b"c", LIFETIME).await.expect("begun");
        }
        assert!(store.continue_session(&tokens[0], LIFETIME).await.expect("asked").is_none(), "the oldest");
        store.end_session(&tokens[51]).await.expect("ended");
        assert!(store.continue_session(&tokens[51], LIFETIME).await.expect("asked").is_none());
        assert!(store.continue_session(&tokens[50], LIFETIME).await.expect("asked").is_some());
    }
}
