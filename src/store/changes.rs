//! A dedicated connection that listens for changes of handlers and event types.
//!
//! A notification only says that something changed; the reader then reads the current state. Notifications that were
//! sent while nobody listened are lost, so the reader reads everything again after a lost connection.

use std::{future::poll_fn, time::Duration};

use tokio::{sync::mpsc, task::AbortHandle, time::Instant};
use tokio_postgres::{AsyncMessage, Client};

use super::{Result, Store, StoreError};

/// The channel that the triggers in `migrations/` notify.
const CHANNEL: &str = "provisiond_handlers";

/// How often to check a listening connection: it is idle for hours, and only a query shows whether it is alive.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Notifications about changes of handlers and event types, since listening began.
pub struct Changes {
    client: Client,
    /// Holds at most one notification: many changes at once cause one read.
    notifications: mpsc::Receiver<()>,
    driver: AbortHandle,
    next_ping: Instant,
}

impl Store {
    /// Starts to listen. Earlier changes are not reported, so read the current state after this call, not before it.
    pub async fn listen(&self) -> Result<Changes> {
        let (client, mut connection) = self.dedicated.dial().await?;
        let (sender, notifications) = mpsc::channel(1);
        let driver = tokio::spawn(async move {
            while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                match message {
                    Ok(AsyncMessage::Notification(_)) => {
                        // The channel is full: a notification is pending already.
                        let _ = sender.try_send(());
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "lost the LISTEN connection");
                        break;
                    }
                }
            }
        });
        let next_ping = Instant::now() + PING_INTERVAL;
        let changes = Changes { client, notifications, driver: driver.abort_handle(), next_ping };
        changes.run(&format!("LISTEN {CHANNEL}")).await?;
        Ok(changes)
    }
}

impl Changes {
    /// Waits for the next change, or several. The future may be dropped and called again; no notification is lost.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the connection is lost: listen again.
    pub async fn changed(&mut self) -> Result<()> {
        loop {
            tokio::select! {
                notification = self.notifications.recv() => {
                    return notification.ok_or_else(|| StoreError::unavailable("the LISTEN connection is lost"));
                }
                () = tokio::time::sleep_until(self.next_ping) => {
                    self.run("SELECT 1").await?;
                    self.next_ping = Instant::now() + PING_INTERVAL;
                }
            }
        }
    }

    async fn run(&self, sql: &str) -> Result<()> {
        match tokio::time::timeout(PING_TIMEOUT, self.client.batch_execute(sql)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(StoreError::unavailable("the LISTEN connection does not answer")),
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{Database, handler_spec};

    async fn is_notified(changes: &mut Changes) -> bool {
        tokio::time::timeout(Duration::from_millis(500), changes.changed()).await.is_ok_and(|r| r.is_ok())
    }

    #[tokio::test]
    async fn changes_of_handlers_and_types_are_reported() {
        let database = Database::migrated().await;
        let store = database.store();
        let mut changes = store.listen().await.expect("listening");
        assert!(!is_notified(&mut changes).await, "nothing happened");

        let handler =
            store.create_handler(&handler_spec("a", "clients.create"), None, "me").await.expect("created");
        store.delete_handler(handler.id, None, "me", None).await.expect("deleted");
        assert!(is_notified(&mut changes).await, "of handlers");
        // Two transactions cause one or two notifications.
        let _ = is_notified(&mut changes).await;

        let name = "a.b".parse().expect("a name");
        let pending = store.add_event_type(&name, "Mine", "b").await.expect("added");
        assert!(!is_notified(&mut changes).await, "not committed");
        pending.commit().await.expect("committed");
        assert!(is_notified(&mut changes).await, "of event types");
    }

    #[tokio::test]
    async fn a_lost_connection_is_reported() {
        let database = Database::migrated().await;
        let mut changes = database.store().listen().await.expect("listening");
        database
            .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()")
            .await;
        let lost = tokio::time::timeout(Duration::from_secs(2), changes.changed()).await.expect("told");
        assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    }
}
