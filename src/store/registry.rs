//! What a worker keeps in memory: the catalogue, and the handlers with their secrets.

use secrecy::SecretString;
use tokio_postgres::Row;

use super::{
    EventType, Result, Store,
    event_types::event_type,
    handlers::{self, COLUMNS},
};
use crate::domain::{
    event::EventName,
    handler::{Handler, HandlerId, Priority},
    seal::Seals,
};

/// All that workers need to plan and run events, from one snapshot of the database.
pub struct Registry {
    /// Also removed event types: their queues may still hold events.
    pub event_types: Vec<EventType>,
    /// Handlers of every status, because skipped handlers are recorded by name. By event, priority and id, which is
    /// the order in which they run.
    pub handlers: Vec<RegisteredHandler>,
    /// Handlers that somebody wrote into the table in an invalid form.
    pub unreadable: Vec<Unreadable>,
}

/// A handler with its signing secrets.
pub struct RegisteredHandler {
    pub handler: Handler,
    /// The signing secrets that are valid now, newest first. Empty if requests are not signed.
    pub secrets: Vec<SecretString>,
    /// Why this process cannot call the handler: its secrets cannot be decrypted here.
    pub unusable: Option<String>,
}

/// A handler that is left out because its row is not valid. The other handlers still run.
#[derive(Debug)]
pub struct Unreadable {
    pub id: HandlerId,
    pub why: String,
}

impl Store {
    /// Reads the event types and all handlers, in one snapshot.
    pub async fn load_registry(&self) -> Result<Registry> {
        let mut session = self.session().await?;
        session.begin().await?;
        session.batch("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let types =
            "SELECT name, group_title, title, position, removed_at FROM event_types ORDER BY position";
        let types = session.query(types, &[]).await?;
        let mut registry = Registry {
            event_types: types.iter().map(event_type).collect::<Result<_>>()?,
            handlers: Vec::new(),
            unreadable: Vec::new(),
        };
        session.each(&with_secrets(), &[], |row| registry.add(row, &self.seals)).await?;
        session.commit().await?;
        // Sorting a hundred thousand handlers takes a few milliseconds here; the server would sort them on disk.
        registry.handlers.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
        Ok(registry)
    }

    /// Reads one handler with its signing secrets.
    ///
    /// # Errors
    /// [`super::StoreError::NotFound`].
    pub async fn registered_handler(&self, id: HandlerId) -> Result<RegisteredHandler> {
        let sql = format!("{} WHERE id = $1", with_secrets());
        let row = self.session().await?.query_opt(&sql, &[&id.0]).await?;
        registered_handler(&row.ok_or_else(|| handlers::not_found(id))?, &self.seals)
    }
}

fn with_secrets() -> String {
    format!(
        "SELECT {COLUMNS}, signing_secret,
             CASE WHEN previous_secret_until > now() THEN previous_signing_secret END AS previous_secret
         FROM handlers"
    )
}

impl Registry {
    fn add(&mut self, row: &Row, seals: &Seals) -> Result<()> {
        match registered_handler(row, seals) {
            Ok(handler) => self.handlers.push(handler),
            Err(error) => {
                let why = std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string);
                self.unreadable.push(Unreadable { id: HandlerId(row.try_get("id")?), why });
            }
        }
        Ok(())
    }
}

fn order(handler: &RegisteredHandler) -> (&EventName, Priority, HandlerId) {
    let handler = &handler.handler;
    (&handler.spec.event, handler.spec.priority, handler.id)
}

fn registered_handler(row: &Row, seals: &Seals) -> Result<RegisteredHandler> {
    let newest: Option<String> = row.try_get("signing_secret")?;
    let previous: Option<String> = row.try_get("previous_secret")?;
    let stored = newest.into_iter().chain(previous).collect();
    let mut handler = handlers::handler(row)?;
    let opened = handlers::open(seals, handler.id, &mut handler.spec.task, stored);
    let (secrets, unusable) = opened.map_or_else(|why| (Vec::new(), Some(why)), |secrets| (secrets, None));
    Ok(RegisteredHandler { handler, secrets, unusable })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use secrecy::ExposeSecret;

    use super::*;
    use crate::{
        domain::handler::Status,
        store::testing::{Database, handler_spec},
    };

    #[tokio::test]
    async fn handlers_come_in_order_with_their_valid_secrets() {
        let database = Database::migrated().await;
        let store = database.store();
        let mut first = handler_spec("first", "clients.create");
        first.priority = 1.try_into().expect("a priority");
        let secret = SecretString::from("whsec_b2xk");
        let second = handler_spec("second", "clients.create");
        let second = store.create_handler(&second, Some(&secret), "me").await.expect("created");
        store.create_handler(&first, None, "me").await.expect("created");
        let off =
            store.create_handler(&handler_spec("off", "clients.create"), None, "me").await.expect("created");
        store.set_handler_status(off.id, None, Status::Disabled, "me", None).await.expect("disabled");
        let new = SecretString::from("whsec_bmV3");
        store.rotate_secret(second.id, None, &new, Duration::from_mins(1), "me").await.expect("rotated");

        let registry = store.load_registry().await.expect("loaded");
        assert_eq!(registry.event_types.len(), 15);
        let names: Vec<&str> = registry.handlers.iter().map(|h| h.handler.spec.name.as_str()).collect();
        assert_eq!(names, ["first", "second", "off"]);
        let secrets = |h: &RegisteredHandler| -> Vec<String> {
            h.secrets.iter().map(|s| s.expose_secret().to_owned()).collect()
        };
        assert_eq!(secrets(&registry.handlers[1]), ["whsec_bmV3", "whsec_b2xk"]);
        assert!(registry.handlers[1].handler.signed && registry.handlers[0].secrets.is_empty());

        database.psql("UPDATE handlers SET previous_secret_until = now() WHERE id = 1").await;
        let registry = store.load_registry().await.expect("loaded");
        assert_eq!(secrets(&registry.handlers[1]), ["whsec_bmV3"]);
    }

    #[tokio::test]
    async fn one_senseless_row_does_not_stop_the_others() {
        let database = Database::migrated().await;
        let store = database.store();
        store.create_handler(&handler_spec("good", "clients.create"), None, "me").await.expect("created");
        let bad =
            store.create_handler(&handler_spec("bad", "clients.create"), None, "me").await.expect("created");
        database
            .psql("UPDATE handlers SET task = task || '{\"headers\":{\"te\":\"x\"}}' WHERE name = 'bad'")
            .await;
        let registry = store.load_registry().await.expect("loaded");
        assert_eq!(registry.handlers.len(), 1);
        assert_eq!(registry.unreadable[0].id, bad.id);
        assert!(registry.unreadable[0].why.contains("header te"), "{:?}", registry.unreadable);
    }

    #[tokio::test]
    async fn a_hundred_thousand_handlers_load_fast() {
        let database = Database::migrated().await;
        database
            .psql(
                "INSERT INTO handlers (name, event, task, priority, signing_secret)
                 SELECT 'handler ' || n, t.name,
                     jsonb_build_object('type', 'http', 'url', 'http://10.0.0.1:5000/api/' || n,
                         'headers', jsonb_build_object('authorization', 'Bearer ' || md5(n::text))),
                     1 + n % 200, 'whsec_' || md5(n::text)
                 FROM generate_series(1, 100000) n
                 JOIN event_types t ON t.position = 1 + n % 15",
            )
            .await;
        let started = Instant::now();
        let registry = database.store().load_registry().await.expect("loaded");
        println!("100,000 handlers in {:?}", started.elapsed());
        assert_eq!(registry.handlers.len(), 100_000);
    }
}
