//! A separate database for each test, dropped at the test's end.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio_postgres::{Config, NoTls};

use super::{Store, StoreSettings};
use crate::domain::seal::Seals;

pub(crate) struct Database {
    store: Store,
    name: String,
}

impl Database {
    /// Creates a database with the schema.
    pub(crate) async fn migrated() -> Self {
        let database = Self::empty().await;
        database.store.migrate().await.expect("migrated");
        database
    }

    pub(crate) async fn empty() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("provisiond_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        as_admin(format!("CREATE DATABASE {name}")).await;
        Self { store: connect(&format!("{}/{name}", server())), name }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Runs SQL directly, as somebody with `psql` would.
    pub(crate) async fn psql(&self, sql: &str) {
        self.store.session().await.expect("a session").batch(sql).await.expect(sql);
    }

    /// Returns the first column of the first row, which must be text.
    pub(crate) async fn ask(&self, sql: &str) -> String {
        let mut session = self.store.session().await.expect("a session");
        session.query_opt(sql, &[]).await.expect(sql).expect("a row").get(0)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(as_admin(sql));
        });
        dropped.join().expect("dropped");
    }
}

pub(super) fn connect(url: &str) -> Store {
    let settings = StoreSettings {
        url: url.to_owned(),
        pool_size: 4,
        connect_timeout: Duration::from_secs(5),
        ca_file: None,
        seals: Seals::default(),
    };
    Store::connect(&settings).expect("settings")
}

fn admin() -> String {
    std::env::var("DATABASE_URL").unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".into())
}

/// The URL of the server, without a database.
pub(super) fn server() -> String {
    let url = admin();
    url.rsplit_once('/').expect("a url with a database").0.to_owned()
}

async fn as_admin(sql: String) {
    let config: Config = admin().parse().expect("DATABASE_URL");
    let (client, connection) = config.connect(NoTls).await.expect("PostgreSQL");
    let driver = tokio::spawn(connection);
    client.batch_execute(&sql).await.expect(&sql);
    drop(client);
    driver.await.expect("driven").expect("closed");
}

pub(super) fn handler_spec(name: &str, event: &str) -> crate::domain::handler::HandlerSpec {
    serde_json::from_value(serde_json::json!({
        "name": name, "event": event, "task": {"type": "http", "url": "http://127.0.0.1:5000/api"},
    }))
    .expect("a spec")
}

/// The same database, for a process with these keys.
pub(super) fn with_keys(store: &Store, seals: Seals) -> Store {
    Store { seals: std::sync::Arc::new(seals), ..store.clone() }
}
