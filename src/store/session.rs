//! A connection that is borrowed from the pool.
//!
//! A connection that returned to the pool in the middle of a statement or a transaction (its user was cancelled or
//! timed out) would leave the rest to its next user. A session closes such a connection instead, and the server rolls
//! back.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use deadpool_postgres::Object;
use futures_util::TryStreamExt;
use tokio::{runtime::Handle, sync::OwnedSemaphorePermit};
use tokio_postgres::{Client, Row, error::SqlState, types::ToSql};

use super::{
    Result, Store, StoreError,
    pool::{Dialer, STATEMENT_TIMEOUT},
    sql::Query,
};

/// How long a session waits for an answer. The server's own timeout has passed by then.
const ANSWER_TIMEOUT: Duration = STATEMENT_TIMEOUT.saturating_add(Duration::from_secs(2));
/// How long a text search waits for its permit.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

pub(super) struct Session {
    /// Absent only while it is dropped.
    client: Option<Object>,
    /// A statement was sent and is not answered yet.
    busy: bool,
    /// A transaction is open, or settings were changed.
    unclean: bool,
    /// The permit and the dialer of a search; absent for other work.
    searching: Option<Searching>,
}

/// If the user of a search goes away, the statement is cancelled at the server before the permit is released.
/// Otherwise a user who repeats a search without waiting could have any number of them running.
struct Searching {
    _permit: Option<OwnedSemaphorePermit>,
    dialer: Arc<Dialer>,
}

impl Store {
    pub(super) async fn session(&self) -> Result<Session> {
        Ok(Session::new(self.pool.get().await?))
    }

    /// Returns a session that is free even if searches and pages use up the pool. Only for work of milliseconds.
    pub(super) async fn reserved_session(&self) -> Result<Session> {
        Ok(Session::new(self.reserved.get().await?))
    }

    /// Returns a session for a person's search. A text search first waits for a permit, without a connection.
    ///
    /// # Errors
    /// [`StoreError::TooManySearches`].
    pub(super) async fn session_to_search(&self, reads_text: bool) -> Result<Session> {
        let permit = if reads_text {
            let permit = Arc::clone(&self.text_searches).acquire_owned();
            let permit = tokio::time::timeout(PERMIT_TIMEOUT, permit).await;
            Some(permit.map_err(|_| StoreError::TooManySearches)?.map_err(|_| no_connection())?)
        } else {
            None
        };
        let mut session = self.session().await?;
        session.searching = Some(Searching { _permit: permit, dialer: Arc::clone(&self.dedicated) });
        Ok(session)
    }
}

impl Session {
    const fn new(client: Object) -> Self {
        Self { client: Some(client), busy: false, unclean: false, searching: None }
    }

    /// Runs a statement that each connection prepares once.
    pub(super) async fn query(&mut self, sql: &str, params: Params<'_>) -> Result<Vec<Row>> {
        let client = self.client.as_ref().ok_or_else(no_connection)?;
        with_timeout(&mut self.busy, async {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, params).await
        })
        .await
    }

    pub(super) async fn query_opt(&mut self, sql: &str, params: Params<'_>) -> Result<Option<Row>> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    /// Passes each row to `handle_row` when it arrives, so that many rows are not in memory at the same time.
    pub(super) async fn each(
        &mut self,
        sql: &str,
        params: Params<'_>,
        mut handle_row: impl FnMut(&Row) -> Result<()>,
    ) -> Result<()> {
        let client = self.client.as_ref().ok_or_else(no_connection)?;
        with_timeout(&mut self.busy, async {
            let statement = client.prepare_cached(sql).await?;
            let mut rows = pin!(client.query_raw(&statement, params.iter().copied()).await?);
            while let Some(row) = rows.try_next().await? {
                if let Err(error) = handle_row(&row) {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        })
        .await?
    }

    /// Runs a statement and returns the number of rows written.
    pub(super) async fn execute(&mut self, sql: &str, params: Params<'_>) -> Result<u64> {
        let client = self.client.as_ref().ok_or_else(no_connection)?;
        with_timeout(&mut self.busy, async {
            let statement = client.prepare_cached(sql).await?;
            client.execute(&statement, params).await
        })
        .await
    }

    /// Runs a search. It is planned for its own values each time, because the best index depends on them.
    pub(super) async fn search(&mut self, query: &Query<'_>) -> Result<Vec<Row>> {
        let client = self.client.as_ref().ok_or_else(no_connection)?;
        let result = with_timeout(&mut self.busy, client.query_typed(query.sql(), &query.params())).await;
        result.map_err(|error| match error.sql_state() {
            Some("57014") => StoreError::TooSlow,
            _ => error,
        })
    }

    /// Runs statements without parameters: settings and DDL.
    pub(super) async fn batch(&mut self, sql: &str) -> Result<()> {
        let client = self.client.as_ref().ok_or_else(no_connection)?;
        with_timeout(&mut self.busy, client.batch_execute(sql)).await
    }

    pub(super) async fn begin(&mut self) -> Result<()> {
        self.unclean = true;
        self.batch("BEGIN").await
    }

    pub(super) async fn commit(&mut self) -> Result<()> {
        self.batch("COMMIT").await?;
        self.unclean = false;
        Ok(())
    }

    pub(super) async fn rollback(&mut self) -> Result<()> {
        self.batch("ROLLBACK").await?;
        self.unclean = false;
        Ok(())
    }

    /// Returns the connection for work that manages its own transactions and settings. The connection does not return
    /// to the pool.
    pub(super) fn take_over(&mut self) -> Result<&mut Client> {
        self.unclean = true;
        let client = self.client.as_mut().ok_or_else(no_connection)?;
        Ok(client)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(client) = self.client.take_if(|_| self.busy || self.unclean) else { return };
        match (self.searching.take(), Handle::try_current()) {
            (Some(searching), Ok(runtime)) if self.busy => {
                runtime.spawn(async move {
                    // The permit must live until the statement is cancelled.
                    let Searching { _permit, dialer } = searching;
                    dialer.cancel(client.cancel_token()).await;
                    drop(Object::take(client));
                });
            }
            _ => drop(Object::take(client)),
        }
    }
}

async fn with_timeout<T>(
    busy: &mut bool,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T> {
    *busy = true;
    let result = tokio::time::timeout(ANSWER_TIMEOUT, work)
        .await
        .map_err(|_| StoreError::unavailable(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())))?;
    *busy = false;
    result.map_err(|error| {
        // A session keeps this setting: a connection that was opened while the database was read-only could never
        // write. It is closed, like one in the middle of a statement.
        *busy = error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION);
        error.into()
    })
}

fn no_connection() -> StoreError {
    StoreError::other("the connection was already returned to the pool")
}
