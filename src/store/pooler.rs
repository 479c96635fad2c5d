//! Whether a pooler stands between, and gives each transaction another connection.
//!
//! Notifications, advisory locks, prepared statements and settings belong to a connection. Behind such a pooler changes of
//! handlers would not be heard of, and our settings would reach other programs.

use std::future::poll_fn;

use tokio_postgres::Client;

use super::{Result, Store, StoreError};

/// A pooler with connections to spare may give the same one twice.
const ROUNDS: usize = 3;

impl Store {
    /// # Errors
    /// [`StoreError::Refused`] where a connection does not stay the same one.
    pub async fn refuse_transaction_pooler(&self) -> Result<()> {
        let (one, other) = (self.connection().await?, self.connection().await?);
        let pid = backend(&one).await?;
        for _ in 0..ROUNDS {
            other.batch_execute("BEGIN").await?;
            let (held, again) = (backend(&other).await?, backend(&one).await?);
            other.batch_execute("ROLLBACK").await?;
            if held == pid || again != pid {
                return Err(StoreError::Refused(
                    "the database is behind a pooler that gives each transaction another connection (pool_mode = transaction in \
                     PgBouncer): provisiond needs its connections for itself, as LISTEN, advisory locks and settings are of a \
                     connection. Let database.url lead to PostgreSQL itself, or set pool_mode = session for this database"
                        .into(),
                ));
            }
        }
        Ok(())
    }

    /// Ends when it is dropped.
    async fn connection(&self) -> Result<Client> {
        let (client, mut connection) = self.dedicated.dial().await?;
        tokio::spawn(
            async move { while let Some(Ok(_)) = poll_fn(|cx| connection.poll_message(cx)).await {} },
        );
        Ok(client)
    }
}

/// The process of PostgreSQL that answers.
async fn backend(client: &Client) -> Result<i32> {
    // Not prepared: that, too, is of a connection.
    let rows = client.simple_query("SELECT pg_backend_pid()").await?;
    let pid = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    pid.ok_or_else(|| StoreError::other("the database does not say which of its processes answers"))
}
