//! The roles of `deploy/postgres/`: each process has its own, and an event goes all its ways.

use serde_json::json;

use super::text;
use crate::support::{Endpoint, Reply, World, console::Api, eventually, query};

const ROLES: [&str; 5] = ["worker", "recorder", "console", "owner", "records"];

/// A world whose database was set up as `deploy/postgres/` says. Roles are the whole server's: they are called by the database.
struct Least {
    world: World,
    prefix: String,
}

impl Least {
    async fn set_up() -> Self {
        let mut world = World::without_database().await;
        world.create_database().await;
        let prefix = format!("{}_", world.database());
        execute(&world.database_url, &named(&prefix, "deploy/postgres/roles.sql")).await;
        let owner = url_of(&world.database_url, &prefix, "owner");
        world.set("database.url", &owner);
        world.run(&["migrate"]).assert_done();
        // Twice: it is run after each migration.
        for _ in 0..2 {
            execute(&owner, &named(&prefix, "deploy/postgres/grants.sql")).await;
        }
        world.set("database.migrate", "false");
        Self { world, prefix }
    }

    fn url(&self, role: &str) -> String {
        url_of(&self.world.database_url, &self.prefix, role)
    }

    /// What is started from now on has this role.
    fn become_role(&mut self, role: &str) {
        let url = self.url(role);
        self.world.set("database.url", &url);
    }

    async fn end(self) {
        let admin_url = self.world.admin_url.clone();
        self.world.end().await;
        for role in ROLES {
            query(&admin_url, &format!("DROP ROLE {}{role}", self.prefix), &[]).await;
        }
    }
}

fn named(prefix: &str, sql: &str) -> String {
    text(sql).replace("provisiond_", prefix)
}

/// The test's database, as this role.
fn url_of(admin: &str, prefix: &str, role: &str) -> String {
    let (scheme, rest) = admin.split_once("://").expect("a url");
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    format!("{scheme}://{prefix}{role}@{rest}")
}

async fn execute(url: &str, sql: &str) {
    attempt(url, sql).await.unwrap_or_else(|error| panic!("{error:?}"));
}

async fn attempt(url: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("postgres");
    let driving = tokio::spawn(connection);
    let done = client.batch_execute(sql).await;
    drop(client);
    let _ = driving.await;
    done
}

/// A day of executions that has ended; the recorder's role may make one.
async fn make_day(least: &Least, days_ago: i32) -> String {
    let sql = "SELECT to_char(now() AT TIME ZONE 'UTC' - $1 * interval '1 day', 'YYYYMMDD'),
        to_char(now() AT TIME ZONE 'UTC' - ($1 - 1) * interval '1 day', 'YYYYMMDD')";
    let days = least.world.rows(sql, &[&f64::from(days_ago)]).await;
    let (day, next): (&str, &str) = (days[0].get(0), days[0].get(1));
    let ddl = format!(
        "CREATE TABLE executions_{day} (LIKE executions INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
         ALTER TABLE executions ATTACH PARTITION executions_{day}
             FOR VALUES FROM ('{day} 00:00:00+00') TO ('{next} 00:00:00+00')"
    );
    execute(&least.url("recorder"), &ddl).await;
    format!("executions_{day}")
}

async fn exists(world: &World, relation: &str) -> bool {
    world.count(&format!("SELECT count(*) FROM pg_class WHERE relname = '{relation}'")).await == 1
}

/// A replay of what was given up, and of an execution.
async fn what_failed_is_replayed(world: &World, id: i64, healthy: &Endpoint) {
    world.wait_for_dead_letters(1).await;
    world.json(&["handlers", "update", &id.to_string(), "--http", &healthy.url("/"), "--status", "enabled"]);
    eventually("the letter is replayed", || async {
        let replay = world.run(&["dead-letters", "replay", "--handler", &id.to_string(), "--yes"]);
        replay.output.status.success()
    })
    .await;
    world.wait_for_executions(4, &[]).await;
    world.run(&["executions", "replay", "--disposition", "done", "--yes"]).assert_done();
    eventually("two executions more", || async { world.executions(&[]).len() >= 6 }).await;
    world.run(&["status"]).assert_done();
    world.run(&["check"]).assert_done();
    world.run(&["events", "remove", "clients.suspend"]).assert_done();
}

#[blocking_test]
async fn each_role_does_its_work_with_the_rights_it_has() {
    let mut least = Least::set_up().await;
    // Yesterday is only indexed an hour after its end: what comes in late is waited for.
    let (ended, old) = (make_day(&least, 2).await, make_day(&least, 200).await);
    let healthy = Endpoint::ok().await;
    let gone = Endpoint::start(|_, _| Reply::status(410)).await;
    least.become_role("worker");
    least.world.set("worker.deduplicate", "1h");
    let worker = least.world.worker().await;
    least.become_role("recorder");
    let recorder = least.world.recorder().await;
    least.become_role("console");
    let mut api = Api::start(&mut least.world).await;
    let world = &least.world;

    // The console creates and changes, the command line too; the worker takes it up.
    api.handler("CRM", &healthy.url("/")).await;
    let id = world.handler("gone", "clients.create", &["--http", &gone.url("/")]);
    world.json(&["handlers", "update", &id.to_string(), "--priority", "5"]);
    world.json(&["handlers", "rotate-secret", &id.to_string()]);
    world.run(&["events", "add", "clients.suspend"]).assert_done();
    api.sign_in("ann").await;
    for _ in 0..2 {
        world.publish("clients.create", Some("e1"), 1, &json!({})).await;
    }
    // Two handlers, and the same event again.
    world.wait_for_executions(3, &[]).await;
    assert_eq!(world.executions(&["--disposition", "duplicate"]).len(), 1);
    eventually("410 disables the handler", || async {
        world.json(&["handlers", "show", &id.to_string()])["status"] == "disabled"
    })
    .await;

    what_failed_is_replayed(world, id, &healthy).await;
    api.get("/stats").await;

    // The recorder keeps house. It deletes nothing before the database's clock has gone for ten minutes.
    let drop = format!(
        "BEGIN; LOCK TABLE ONLY executions, ONLY {old} IN ACCESS EXCLUSIVE MODE;
         SELECT FROM {old} WHERE recorded_at >= now() LIMIT 1; DROP TABLE {old}; COMMIT"
    );
    execute(&least.url("recorder"), &drop).await;
    assert!(!exists(world, &old).await);
    eventually("the text of a day is indexed", || async { exists(world, &format!("{ended}_text")).await })
        .await;
    for process in [&worker, &recorder, &api.process] {
        assert!(!process.log().contains("permission denied"), "{}", process.log());
    }
    assert!(api.process.terminate().await.success());
    least.world.keep(worker);
    least.world.keep(recorder);
    least.become_role("owner");
    least.end().await;
}

#[blocking_test]
async fn no_role_may_do_what_is_not_its_work() {
    let mut least = Least::set_up().await;
    for (role, sql) in [
        ("worker", "INSERT INTO handlers (name, event, task) VALUES ('x', 'clients.create', '{}')"),
        ("worker", "DELETE FROM handlers"),
        ("worker", "UPDATE handlers SET signing_secret = NULL"),
        ("worker", "DELETE FROM executions"),
        ("worker", "SELECT * FROM console_sessions"),
        ("worker", "SELECT * FROM dead_letters"),
        ("worker", "CREATE TABLE mine (id int)"),
        ("recorder", "SELECT signing_secret FROM handlers"),
        ("recorder", "UPDATE handlers SET status = 'disabled'"),
        ("recorder", "SELECT * FROM console_sessions"),
        ("recorder", "UPDATE dead_letters SET state = 'replayed'"),
        ("recorder", "DROP TABLE handlers"),
        ("console", "DELETE FROM executions"),
        ("console", "INSERT INTO dead_letters (id) VALUES (NULL)"),
        ("console", "DELETE FROM dead_letters"),
        ("console", "UPDATE dead_letters SET body = ''"),
        ("console", "UPDATE handler_history SET changed_by = 'x'"),
        ("console", "DROP TABLE handlers"),
        ("console", "CREATE TABLE mine (id int)"),
    ] {
        let error = attempt(&least.url(role), sql).await.expect_err(sql);
        let code = error.code().expect("the server's answer").code();
        assert_eq!(code, "42501", "{role}: {sql}: {error:?}");
    }
    least.become_role("owner");
    least.end().await;
}
