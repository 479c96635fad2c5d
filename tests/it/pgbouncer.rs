//! A pooler between provisiond and PostgreSQL.

use std::{
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::support::{Endpoint, Process, World, eventually, free_port};

/// `PgBouncer` with nothing but what it needs; dropped, it ends.
struct Pooler {
    _process: Process,
    _dir: tempfile::TempDir,
    port: u16,
}

impl Pooler {
    /// None where there is no `PgBouncer`.
    async fn start(world: &World, mode: &str) -> Option<Self> {
        let Some(program) = std::env::var("PROVISIOND_TEST_PGBOUNCER").ok().filter(|path| !path.is_empty())
        else {
            println!("skipped: there is no PgBouncer");
            return None;
        };
        let server = url::Url::parse(&world.admin_url).expect("a url");
        let (host, at) = (server.host_str().expect("a host"), server.port().unwrap_or(5432));
        let port = free_port();
        let dir = tempfile::tempdir().expect("a directory");
        // It refuses to run as root.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("readable by all");
        let [settings, users] = ["pgbouncer.ini", "users"].map(|name| dir.path().join(name));
        std::fs::write(&users, "\"postgres\" \"\"\n").expect("written");
        let text = format!(
            "[databases]\n* = host={host} port={at}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = {mode}\n",
            users.display()
        );
        std::fs::write(&settings, text).expect("written");
        let log = dir.path().join("log");
        let written = std::fs::File::create(&log).expect("a log");
        let mut command = Command::new(program);
        command.arg(&settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(written);
        if nix::unistd::Uid::effective().is_root() {
            std::os::unix::process::CommandExt::uid(&mut command, 65534);
        }
        let process = Process::new(command.spawn().expect("PgBouncer"), log);
        eventually("PgBouncer listens", || async {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        Some(Self { _process: process, _dir: dir, port })
    }

    fn redirect(&self, url: &str) -> String {
        let mut redirected = url::Url::parse(url).expect("a url");
        redirected.set_port(Some(self.port)).expect("a port");
        redirected.set_host(Some("127.0.0.1")).expect("a host");
        redirected.into()
    }
}

#[blocking_test]
async fn through_a_pooler_of_sessions_everything_works() {
    let mut world = World::new().await;
    let Some(pooler) = Pooler::start(&world, "session").await else { return world.abandon().await };
    let direct = world.variable("PROVISIOND_DATABASE__URL");
    world.set("database.url", &pooler.redirect(&direct));
    world.serve().await;
    world.run(&["check"]).assert_done();
    // A worker that runs hears of a new handler at once, not when it next looks by itself.
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    tokio::time::timeout(Duration::from_secs(20), async {
        for object in 0.. {
            world.publish("clients.create", None, object, &json!({})).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            if endpoint.count() > 0 {
                break;
            }
        }
    })
    .await
    .expect("the worker heard of the handler");
    let settings = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'provisiond' AND datname = current_database()";
    assert!(world.count(settings).await > 0, "it is PostgreSQL that answers");
    world.set("database.url", &direct);
    world.end().await;
    drop(pooler);
}

#[blocking_test]
async fn a_pooler_of_transactions_is_refused_with_a_sentence() {
    let mut world = World::new().await;
    let Some(pooler) = Pooler::start(&world, "transaction").await else { return world.abandon().await };
    let direct = world.variable("PROVISIOND_DATABASE__URL");
    world.set("database.url", &pooler.redirect(&direct));
    let checked = world.run(&["check"]);
    assert!(checked.stdout().contains("pool_mode = session"), "{}", checked.stdout());
    for roles in ["worker", "recorder", "console"] {
        let mut refused = world.spawn(&["--roles", roles]);
        assert!(!refused.ended(Duration::from_secs(30)).await.success(), "{roles}");
        assert!(refused.log().contains("pool_mode = session"), "{}", refused.log());
    }
    world.set("database.url", &direct);
    world.end().await;
    drop(pooler);
}
