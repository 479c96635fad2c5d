use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::ExposeSecret;

use super::*;
use crate::{
    domain::{
        handler::HandlerSpec,
        seal::{SealingKey, Seals},
    },
    store::{
        RegisteredHandler,
        testing::{Database, handler_spec, with_keys},
    },
};

fn key(byte: u8) -> SealingKey {
    BASE64_STANDARD.encode([byte; 32]).parse().expect("a key")
}

fn seals(current: u8, previous: &[u8]) -> Seals {
    Seals::new(Some(key(current)), previous.iter().copied().map(key).collect())
}

fn spec() -> HandlerSpec {
    let mut spec = handler_spec("CRM", "clients.create");
    spec.task = serde_json::from_str(
        r#"{"type":"http","url":"http://a/","headers":{"authorization":"Bearer hunter2","x-tenant":"acme"}}"#,
    )
    .expect("a task");
    spec
}

/// Everything that the database stores about handlers, as somebody with a copy of it reads it.
async fn stored_text(database: &Database) -> String {
    let sql = "SELECT (SELECT string_agg(h::text, ' ') FROM handlers h)
        || coalesce((SELECT string_agg(h::text, ' ') FROM handler_history h), '')";
    database.ask(sql).await
}

async fn load_handler(store: &Store) -> RegisteredHandler {
    store.load_registry().await.expect("loaded").handlers.pop().expect("a handler")
}

fn secrets_of(handler: &RegisteredHandler) -> (Vec<&str>, &str) {
    let Task::Http { headers, .. } = &handler.handler.spec.task else { panic!("it posts") };
    let header = headers.get(&"authorization".parse().expect("a name")).expect("there");
    (handler.secrets.iter().map(ExposeSecret::expose_secret).collect(), header.as_str())
}

#[tokio::test]
async fn with_a_key_nothing_secret_is_at_rest() {
    let database = Database::migrated().await;
    let store = with_keys(database.store(), seals(1, &[]));
    let id = store.create_handler(&spec(), Some(&"whsec_b2xk".into()), "me").await.expect("created").id;
    store.rotate_secret(id, None, &"whsec_bmV3".into(), Duration::from_mins(1), "me").await.expect("rotated");
    let rename = |spec| HandlerSpec { name: "CRM 2".parse().expect("a name"), ..spec };
    // A process without a key changes the name: the secrets stay as they are.
    database.store().update_handler(id, None, rename, "me", None).await.expect("updated");

    let stored = stored_text(&database).await;
    assert!(["whsec_", "hunter2", "acme"].iter().all(|secret| !stored.contains(secret)), "{stored}");
    let handler = load_handler(&store).await;
    assert_eq!(secrets_of(&handler), (vec!["whsec_bmV3", "whsec_b2xk"], "Bearer hunter2"));
    assert!(handler.unusable.is_none() && handler.handler.signed);

    for (keys, why) in [(Seals::default(), "set secrets.key"), (seals(2, &[3]), "with another key")] {
        let other = load_handler(&with_keys(&store, keys.clone())).await;
        assert!(other.unusable.expect("unusable").contains(why));
        assert!(other.secrets.is_empty());
        let found = with_keys(&store, keys).find_secrets().await.expect("looked");
        assert_eq!((found.current, found.stale, found.unreadable.len()), (0, 0, 1));
    }
}

#[tokio::test]
async fn a_secret_copied_to_another_handler_cannot_be_decrypted() {
    let database = Database::migrated().await;
    let store = with_keys(database.store(), seals(1, &[]));
    store.create_handler(&spec(), Some(&"whsec_b2xk".into()), "me").await.expect("created");
    store.create_handler(&spec(), None, "me").await.expect("created");
    database.psql("UPDATE handlers b SET task = a.task FROM handlers a WHERE a.id = 1 AND b.id = 2").await;
    assert!(load_handler(&store).await.unusable.expect("unusable").contains("its header authorization"));
}

#[tokio::test]
async fn migrating_encrypts_plain_secrets_and_changes_the_key() {
    let database = Database::migrated().await;
    let clear = database.store();
    let id = clear.create_handler(&spec(), Some(&"whsec_b2xk".into()), "me").await.expect("created").id;
    clear.create_handler(&handler_spec("plain", "clients.update"), None, "me").await.expect("created");
    clear.rotate_secret(id, None, &"whsec_bmV3".into(), Duration::from_mins(1), "me").await.expect("rotated");
    assert_eq!(
        clear.find_secrets().await.expect("looked"),
        SecretsFound { current: 1, ..Default::default() }
    );
    let before = clear.handler(id).await.expect("there");

    // Encrypt, change the key, and decrypt again.
    for (keys, in_clear) in
        [(seals(1, &[]), false), (seals(2, &[1]), false), (Seals::new(None, vec![key(2)]), true)]
    {
        let store = with_keys(clear, keys);
        assert_eq!(store.find_secrets().await.expect("looked").stale, 1);
        let resealed = store.reseal_secrets().await.expect("written");
        assert_eq!(resealed, Resealed { handlers: 1, unreadable: Vec::new() });
        assert_eq!(store.reseal_secrets().await.expect("nothing to do").handlers, 0);
        assert_eq!(store.find_secrets().await.expect("looked").current, 1);
        let stored = stored_text(&database).await;
        assert_eq!(stored.contains("hunter2") && stored.contains("whsec_b2xk"), in_clear, "{stored}");
        let registry = store.load_registry().await.expect("loaded");
        let handler = registry.handlers.iter().find(|h| h.handler.id == id).expect("there");
        assert_eq!(secrets_of(handler), (vec!["whsec_bmV3", "whsec_b2xk"], "Bearer hunter2"));
        assert_eq!(handler.handler.version, before.version, "that is no change of the handler");
    }
}

#[tokio::test]
async fn migrating_keeps_unreadable_secrets() {
    let database = Database::migrated().await;
    let store = with_keys(database.store(), seals(1, &[]));
    let lost = store.create_handler(&spec(), Some(&"whsec_b2xk".into()), "me").await.expect("created").id;
    let clear = database.store().create_handler(&spec(), None, "me").await.expect("created").id;
    let other = with_keys(&store, seals(2, &[]));
    let resealed = other.reseal_secrets().await.expect("written");
    assert_eq!(resealed, Resealed { handlers: 1, unreadable: vec![lost] });
    let registry = with_keys(&store, seals(1, &[2])).load_registry().await.expect("loaded");
    assert!(registry.handlers.iter().all(|h| h.unusable.is_none()), "both keys open both");
    assert!(registry.handlers.iter().any(|h| h.handler.id == clear));
}
