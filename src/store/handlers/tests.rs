use std::time::Duration;

use secrecy::SecretString;

use super::*;
use crate::{
    domain::handler::{Mode, OnFailure},
    store::testing::{Database, handler_spec},
};

fn full_spec() -> HandlerSpec {
    serde_json::from_value(serde_json::json!({
        "name": "Sync — CRM", "event": "clients.update",
        "task": {"type": "script", "path": "sync.py", "args": ["--id", "ü\n"]},
        "status": "disabled", "priority": 1, "mode": "intercept", "on_failure": "halt", "timeout": "1m 30s",
        "retry": {"max_attempts": 3, "initial_interval": "10s", "jitter": 0.1}, "max_concurrency": u32::MAX,
    }))
    .expect("a spec")
}

#[tokio::test]
async fn a_created_handler_is_read_back() {
    let database = Database::migrated().await;
    let store = database.store();
    let secret = SecretString::from("whsec_b2xk");
    let created = store.create_handler(&full_spec(), Some(&secret), "me").await.expect("created");
    assert_eq!((created.version, created.signed), (1, true));
    let read = store.handler(created.id).await.expect("there");
    assert_eq!(read.spec, full_spec());
    assert_eq!(read.created_at, created.created_at);
    assert!(matches!(store.handler(HandlerId(999)).await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn a_stale_update_is_refused() {
    let database = Database::migrated().await;
    let store = database.store();
    let id = store.create_handler(&handler_spec("a", "clients.create"), None, "me").await.expect("ok").id;
    let rename = |name: &'static str| move |spec| HandlerSpec { name: name.parse().expect("a name"), ..spec };
    let second = store.update_handler(id, Some(1), rename("b"), "me", None).await.expect("updated");
    assert_eq!((second.version, second.spec.name.as_str()), (2, "b"));
    assert!(second.updated_at > second.created_at);
    let stale = store.update_handler(id, Some(1), rename("c"), "you", None).await;
    assert!(matches!(stale, Err(StoreError::Conflict { version: 2 })), "{stale:?}");
    assert!(matches!(store.delete_handler(id, Some(1), "you", None).await, Err(StoreError::Conflict { .. })));
    let same = store.update_handler(id, None, rename("b"), "me", None).await.expect("nothing to do");
    assert_eq!(same.version, 2);
    // Two concurrent updates without a version run one after the other.
    let (a, b) = tokio::join!(
        store.update_handler(id, None, rename("c"), "me", None),
        store.update_handler(id, None, |spec| HandlerSpec { mode: Mode::Intercept, ..spec }, "me", None),
    );
    assert_eq!(a.expect("one").version.max(b.expect("other").version), 4);
    let now = store.handler(id).await.expect("there").spec;
    assert_eq!((now.name.as_str(), now.mode, now.on_failure), ("c", Mode::Intercept, OnFailure::Continue));
}

#[tokio::test]
async fn every_change_is_remembered_without_secrets() {
    let database = Database::migrated().await;
    let store = database.store();
    let id = store.create_handler(&handler_spec("a", "clients.create"), None, "ann").await.expect("ok").id;
    store.set_handler_status(id, None, Status::Disabled, "worker", Some("410 Gone")).await.expect("disabled");
    let both = |spec| HandlerSpec { status: Status::Enabled, priority: 5.try_into().expect("fine"), ..spec };
    store.update_handler(id, None, both, "bob", None).await.expect("updated");
    for secret in ["whsec_b2xk", "whsec_bmV3"] {
        let signed =
            store.rotate_secret(id, None, &secret.into(), Duration::from_mins(1), "bob").await.expect("set");
        assert!(signed.signed);
    }
    store.remove_secret(id, None, "bob").await.expect("removed");
    store.delete_handler(id, None, "ann", Some("not needed")).await.expect("deleted");

    let history = store.handler_history(id).await.expect("a history");
    let changes: Vec<_> = history.iter().rev().map(|e| (e.action, e.changed_by.as_str())).collect();
    assert_eq!(
        changes,
        [
            (Action::Created, "ann"),
            (Action::Disabled, "worker"),
            (Action::Updated, "bob"),
            (Action::SecretSet, "bob"),
            (Action::SecretSet, "bob"),
            (Action::SecretRemoved, "bob"),
            (Action::Deleted, "ann"),
        ]
    );
    let disabled = &history[5];
    assert_eq!(disabled.note.as_deref(), Some("410 Gone"));
    let side = |side: &Option<serde_json::Value>, key: &str| side.as_ref().expect("a side")[key].clone();
    assert_eq!(
        (side(&disabled.before, "status"), side(&disabled.after, "status")),
        ("enabled".into(), "disabled".into())
    );
    assert_eq!(
        (side(&history[1].before, "signed"), side(&history[1].after, "signed")),
        (true.into(), false.into())
    );
    assert!(!database.ask("SELECT string_agg(h::text, '') FROM handler_history h").await.contains("whsec"));
}

#[tokio::test]
async fn a_broken_rule_is_a_sentence() {
    let database = Database::migrated().await;
    let store = database.store();
    let unknown = store.create_handler(&handler_spec("a", "clients.unknown"), None, "me").await;
    assert_eq!(
        unknown.expect_err("refused").to_string(),
        "clients.unknown is not in the catalogue: add it first"
    );
    let no_secret = SecretString::from("letmein");
    let refused = store.create_handler(&handler_spec("a", "clients.create"), Some(&no_secret), "me").await;
    assert_eq!(refused.expect_err("refused").to_string(), "a signing secret must begin with whsec_");
    let mut nul = full_spec();
    nul.task = serde_json::from_str(r#"{"type":"script","path":"a","args":["\u0000"]}"#).expect("a task");
    let refused = store.create_handler(&nul, None, "me").await.expect_err("refused");
    assert_eq!(refused.to_string(), "a NUL character cannot be stored");
    assert!(store.list_handlers(&HandlerFilter::default(), 10).await.expect("a list").is_empty());
}

#[tokio::test]
async fn the_database_holds_the_rules_itself() {
    let database = Database::migrated().await;
    for (constraint, change) in [
        ("handlers_name", "name = ''"),
        ("handlers_name", "name = repeat('ä', 201)"),
        ("handlers_event", "event = 'no.such'"),
        ("handlers_task", "task = '{\"type\":\"http\"}'"),
        ("handlers_task", "task = '{\"type\":\"http\",\"url\":\"ftp://a/\"}'"),
        ("handlers_task", "task = '{\"type\":\"script\",\"path\":\"\"}'"),
        ("handlers_task", "task = '{\"type\":\"carrier pigeon\"}'"),
        ("handlers_task", "task = '[]'"),
        ("handlers_status", "status = 'on'"),
        ("handlers_priority", "priority = 0"),
        ("handlers_mode", "mode = 'x'"),
        ("handlers_on_failure", "on_failure = 'x'"),
        ("handlers_timeout", "timeout_ms = 600001"),
        ("handlers_retry", "retry = '[]'"),
        ("handlers_max_concurrency", "max_concurrency = 0"),
        ("handlers_previous_secret", "previous_signing_secret = 'whsec_x'"),
    ] {
        let mut session = database.store().session().await.expect("a session");
        session.begin().await.expect("begun");
        let good = "INSERT INTO handlers (name, event, task) VALUES ('a', 'clients.create', '{\"type\":\"http\",\"url\":\"http://a/\"}')";
        session.batch(good).await.expect("good");
        let refused = session.batch(&format!("UPDATE handlers SET {change}")).await;
        let Err(StoreError::BadData(error)) = refused else { panic!("{change}: {refused:?}") };
        assert_eq!(error.constraint.as_deref(), Some(constraint), "{change}");
    }
}

#[tokio::test]
async fn every_filter_finds_its_own() {
    let database = Database::migrated().await;
    let store = database.store();
    store.create_handler(&handler_spec("CRM 100%", "clients.create"), None, "me").await.expect("created");
    store.create_handler(&full_spec(), None, "me").await.expect("created");
    let mut old = handler_spec("old", "clients.update");
    old.status = Status::Archived;
    store.create_handler(&old, None, "me").await.expect("created");

    let any = HandlerFilter::default;
    let text = |text: &str| HandlerFilter { text: Some(text.into()), ..any() };
    for (filter, expected) in [
        (any(), vec![1, 2]),
        (HandlerFilter { status: Some(Status::Archived), ..any() }, vec![3]),
        (HandlerFilter { status: Some(Status::Enabled), ..any() }, vec![1]),
        (HandlerFilter { event: Some("clients.update".parse().expect("a name")), ..any() }, vec![2]),
        (HandlerFilter { task_type: Some(TaskType::Script), ..any() }, vec![2]),
        (HandlerFilter { after: Some(HandlerId(1)), ..any() }, vec![2]),
        (text("crm"), vec![1, 2]),
        (text("100%"), vec![1]),
        (text("5000/api"), vec![1]),
        (text("--id"), vec![2]),
        (text("script"), vec![]),
    ] {
        let list = store.list_handlers(&filter, 10).await.expect("a list");
        assert_eq!(list.iter().map(|h| h.id.0).collect::<Vec<_>>(), expected, "{filter:?}");
    }
    assert_eq!(store.list_handlers(&any(), 1).await.expect("a list").len(), 1);
}
