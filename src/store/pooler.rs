//! Detects a connection pooler that gives each transaction another connection.
//!
//! Notifications, advisory locks, prepared statements and settings belong to a connection. Behind such a pooler,
//! provisiond would miss changes of handlers, and its settings would reach other programs.

use std::future::poll_fn;

use tokio_postgres::Client;

use super::{Result, Store, StoreError};

/// How often the check is repeated: a pooler with spare connections may give the same one twice.
const ROUNDS: usize = 3;

impl Store {
    /// Fails if the database is behind a pooler in transaction mode.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if a connection changes between transactions.
    pub async fn refuse_transaction_pooler(&self) -> Result<()> {
        let (one, other) = (self.connection().await?, self.connection().await?);
        let pid = backend(&one).await?;
        for _ in 0..ROUNDS {
            other.batch_execute("BEGIN").await?;
            let (other_pid, pid_again) = (backend(&other).await?, backend(&one).await?);
            other.batch_execute("ROLLBACK").await?;
            if other_pid == pid || pid_again != pid {
                return Err(StoreError::Refused(
                    "the database is behind a pooler that gives each transaction another connection \
                     (pool_mode = transaction in PgBouncer): provisiond needs connections of its own, \
                     because LISTEN, advisory locks and settings belong to a connection. Point database.url \
                     directly to PostgreSQL, or set pool_mode = session for this database"
                        .into(),
                ));
            }
        }
        Ok(())
    }

    /// Opens a connection that closes when it is dropped.
    async fn connection(&self) -> Result<Client> {
        let (client, mut connection) = self.dedicated.dial().await?;
        tokio::spawn(
            async move { while let Some(Ok(_)) = poll_fn(|cx| connection.poll_message(cx)).await {} },
        );
        Ok(client)
    }
}

/// Returns the id of the server process behind a connection.
async fn backend(client: &Client) -> Result<i32> {
    // Not prepared: prepared statements belong to a connection too.
    let rows = client.simple_query("SELECT pg_backend_pid()").await?;
    let pid = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    pid.ok_or_else(|| StoreError::other("the database returned no id of its server process"))
}
