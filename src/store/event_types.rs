//! The catalogue of event types.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use super::{Result, Store, StoreError, error::visible, session::Session};
use crate::domain::event::{EventName, InvalidEventName};

/// A kind of event that handlers can be created for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct EventType {
    pub name: EventName,
    /// The heading above it in forms: `Clients Packages`.
    #[serde(rename = "group")]
    pub group_title: String,
    /// Its label below that heading: `renew`.
    pub title: String,
    /// The order in lists and forms.
    pub position: i64,
    /// When it was removed from the catalogue. Its queue may still hold events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<Timestamp>,
}

/// An uncommitted change of the catalogue. Before the commit, the caller declares or unbinds the queue. Dropping this
/// rolls the change back.
#[must_use = "dropping it rolls the change back"]
pub struct Pending {
    event_type: EventType,
    session: Session,
}

impl Pending {
    pub async fn commit(mut self) -> Result<EventType> {
        self.session.commit().await?;
        Ok(self.event_type)
    }
}

const COLUMNS: &str = "name, group_title, title, position, removed_at";

impl Store {
    /// Lists event types in the order of the catalogue.
    pub async fn list_event_types(&self, include_removed: bool) -> Result<Vec<EventType>> {
        let sql =
            format!("SELECT {COLUMNS} FROM event_types WHERE removed_at IS NULL OR $1 ORDER BY position");
        let rows = self.session().await?.query(&sql, &[&include_removed]).await?;
        rows.iter().map(event_type).collect()
    }

    /// Returns names of event types that executions or open dead letters have and the table `event_types` does not.
    /// They are missing because this database was restored to an earlier state.
    pub async fn forgotten_event_types(&self) -> Result<Vec<EventName>> {
        // Each step reads the next name from an index of the executions. Unrouted dead letters are left out: they
        // need no queue.
        let sql = "WITH RECURSIVE names (name) AS (
                (SELECT event_name FROM executions ORDER BY event_name LIMIT 1)
                UNION ALL
                SELECT (SELECT event_name FROM executions WHERE event_name > name ORDER BY event_name LIMIT 1)
                FROM names WHERE name IS NOT NULL)
            SELECT name FROM (
                SELECT name FROM names WHERE name IS NOT NULL
                UNION SELECT event_name FROM dead_letters WHERE state = 'open' AND reason <> 'unrouted') found
            WHERE name NOT IN (SELECT name FROM event_types) ORDER BY name LIMIT 100";
        let rows = self.session().await?.query(sql, &[]).await?;
        // A dead letter may have any text as its event name.
        Ok(rows.iter().filter_map(|row| row.get::<_, &str>(0).parse().ok()).collect())
    }

    /// Adds an event type, or restores a removed one.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it is in the catalogue already, or if a title is invalid.
    pub async fn add_event_type(&self, name: &EventName, group_title: &str, title: &str) -> Result<Pending> {
        visible("the group", group_title)?;
        visible("the title", title)?;
        let mut session = self.session().await?;
        session.begin().await?;
        let sql = format!(
            "INSERT INTO event_types (name, group_title, title) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET removed_at = NULL, group_title = $2, title = $3
             WHERE event_types.removed_at IS NOT NULL
             RETURNING {COLUMNS}"
        );
        let row = session.query_opt(&sql, &[&name.as_str(), &group_title, &title]).await;
        let Some(row) = row.map_err(StoreError::into_refusal)? else {
            return Err(StoreError::Refused(format!("{name} is in the catalogue already")));
        };
        Ok(Pending { event_type: event_type(&row)?, session })
    }

    /// Removes an event type from the catalogue.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Refused`] while handlers use it, also disabled or archived ones. The
    /// error names them.
    pub async fn remove_event_type(&self, name: &EventName) -> Result<Pending> {
        let mut session = self.session().await?;
        session.begin().await?;
        // With this lock, a concurrent change that gives a handler this event waits and then checks again.
        let known = "SELECT 1 FROM event_types WHERE name = $1 AND removed_at IS NULL FOR UPDATE";
        if session.query_opt(known, &[&name.as_str()]).await?.is_none() {
            return Err(StoreError::NotFound(format!("event type {name}")));
        }
        let users = "SELECT id, name, count(*) OVER () FROM handlers WHERE event = $1 ORDER BY id LIMIT 10";
        let users = session.query(users, &[&name.as_str()]).await?;
        if !users.is_empty() {
            return Err(StoreError::Refused(in_use(name, &users)));
        }
        let sql = format!("UPDATE event_types SET removed_at = now() WHERE name = $1 RETURNING {COLUMNS}");
        let row = session.query_opt(&sql, &[&name.as_str()]).await?;
        let row = row.ok_or_else(|| StoreError::NotFound(format!("event type {name}")))?;
        Ok(Pending { event_type: event_type(&row)?, session })
    }
}

fn in_use(name: &EventName, users: &[Row]) -> String {
    let all: i64 = users.first().map_or(0, |row| row.get(2));
    let mut named: Vec<String> =
        users.iter().map(|row| format!("{} ({})", row.get::<_, i64>(0), row.get::<_, &str>(1))).collect();
    let shown = i64::try_from(named.len()).unwrap_or(i64::MAX);
    if all > shown {
        named.push(format!("{} more", all - shown));
    }
    format!("{name} is used by handlers {}: move or delete them first", named.join(", "))
}

pub(super) fn event_type(row: &Row) -> Result<EventType> {
    let name: &str = row.try_get("name")?;
    Ok(EventType {
        name: name.parse().map_err(|e: InvalidEventName| StoreError::Other(e.into()))?,
        group_title: row.try_get("group_title")?,
        title: row.try_get("title")?,
        position: row.try_get("position")?,
        removed_at: row.try_get("removed_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{Database, handler_spec};

    fn name(text: &str) -> EventName {
        text.parse().expect("a name")
    }

    #[tokio::test]
    async fn the_catalogue_is_seeded_and_grows() {
        let database = Database::migrated().await;
        let store = database.store();
        let seeded = store.list_event_types(false).await.expect("a list");
        assert_eq!(seeded.len(), 15);
        assert_eq!(seeded[4].name.as_str(), "clients.custom_fields.update");
        assert_eq!(seeded[14].title, "close");

        let pending = store.add_event_type(&name("a.b"), "Mine", "b").await.expect("added");
        assert_eq!(store.list_event_types(false).await.expect("a list").len(), 15, "not committed");
        pending.commit().await.expect("committed");
        let all = store.list_event_types(false).await.expect("a list");
        assert_eq!(all.last().expect("one").name.as_str(), "a.b");

        let again = store.add_event_type(&name("a.b"), "Mine", "b").await.err().expect("refused");
        assert!(again.to_string().contains("already"), "{again}");
        let untitled = store.add_event_type(&name("a.c"), "", "c").await.err().expect("refused");
        assert!(matches!(untitled, StoreError::Refused(_)), "{untitled}");
    }

    #[tokio::test]
    async fn a_dropped_change_is_rolled_back() {
        let database = Database::migrated().await;
        let store = database.store();
        drop(store.add_event_type(&name("a.b"), "Mine", "b").await.expect("added"));
        store
            .add_event_type(&name("a.b"), "Mine", "b")
            .await
            .expect("free again")
            .commit()
            .await
            .expect("ok");
    }

    #[tokio::test]
    async fn a_removed_type_is_kept_for_its_queue() {
        let database = Database::migrated().await;
        let store = database.store();
        let removed = store.remove_event_type(&name("clients.archive")).await.expect("removed");
        removed.commit().await.expect("committed");
        assert_eq!(store.list_event_types(false).await.expect("a list").len(), 14);
        assert_eq!(store.list_event_types(true).await.expect("a list").len(), 15);
        let again = store.remove_event_type(&name("clients.archive")).await.err().expect("gone");
        assert!(matches!(again, StoreError::NotFound(_)));

        let spec = handler_spec("late", "clients.archive");
        let refused = store.create_handler(&spec, None, "me").await.expect_err("not in the catalogue");
        assert!(refused.to_string().contains("not in the catalogue"), "{refused}");
        let added =
            store.add_event_type(&name("clients.archive"), "Clients", "archive").await.expect("again");
        assert_eq!(added.commit().await.expect("committed").position, 4);
    }

    #[tokio::test]
    async fn a_type_in_use_is_not_removed() {
        let database = Database::migrated().await;
        let store = database.store();
        let handler =
            store.create_handler(&handler_spec("CRM", "clients.create"), None, "me").await.expect("created");
        let refused = store.remove_event_type(&name("clients.create")).await.err().expect("in use");
        assert!(refused.to_string().contains(&format!("{} (CRM)", handler.id)), "{refused}");
    }

    #[tokio::test]
    async fn a_handler_and_a_removal_at_once_end_in_one_of_both() {
        let database = Database::migrated().await;
        let store = database.store();
        let removal = store.remove_event_type(&name("clients.create")).await.expect("free");
        let spec = handler_spec("CRM", "clients.create");
        let creation = store.create_handler(&spec, None, "me");
        let commit = async {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            removal.commit().await
        };
        let (created, removed) = tokio::join!(creation, commit);
        removed.expect("removed");
        assert!(matches!(created, Err(StoreError::Refused(_))), "{created:?}");
    }
}
