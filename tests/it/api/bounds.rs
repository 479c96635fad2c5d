//! What a viewer can make the console do at a time.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_postgres::{Client, NoTls};

use crate::support::{
    World,
    console::{Api, answer},
    eventually,
};

const LETTERS: usize = 200;
/// Beyond what the console holds at rest: four exports with two messages of a mebibyte each, in two forms.
const MEMORY_KIB: u64 = 48 * 1024;

/// Messages of a mebibyte, as the recorder keeps them.
async fn write_large_dead_letters(world: &World) {
    world
        .rows(
            "INSERT INTO dead_letters (id, event_id, run_id, event_name, object_id, reason, error, attempts, plan, died_at, body)
             SELECT gen_random_uuid(), 'e' || n, 'e' || n, 'clients.create', n, 'malformed', 'no event', 0, '{}',
                 now() - n * interval '1 s', convert_to(repeat('x', 1048576), 'UTF8')
             FROM generate_series(1, $1::bigint) n",
            &[&i64::try_from(LETTERS).unwrap()],
        )
        .await;
}

/// Asks for `path`, and reads no more of it than its first byte.
async fn begin(api: &Api, path: &str) -> TcpStream {
    let address = api.url.strip_prefix("http://").expect("a URL");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
        api.keys.viewer
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.read_u8().await.expect("it begins");
    stream
}

#[blocking_test]
async fn exports_that_nobody_reads_hold_little_and_leave_room() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    write_large_dead_letters(&world).await;

    let export = || async { answer(api.api("GET", "/dead-letters/export")).await };
    let at_rest = api.process.begin_peak_kib();
    let export_answer = export().await;
    let mut unread = Vec::new();
    for _ in 0..4 {
        unread.push(begin(&api, "/api/v1/dead-letters/export").await);
    }
    // Bytes, so the bodies are neither cut nor bent.
    let dead_letters: Vec<serde_json::Value> =
        export_answer.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let objects: Vec<&str> =
        dead_letters.iter().filter_map(|dead_letter| dead_letter["object_id"].as_str()).collect();
    let expected: Vec<String> = (1..=LETTERS).map(|n| n.to_string()).collect();
    assert_eq!(objects, expected, "newest first, each once");
    assert!(
        dead_letters
            .iter()
            .all(|dead_letter| dead_letter["body"].as_str().is_some_and(|body| body.len() == 1 << 20))
    );

    let fifth = export().await;
    assert_eq!(fifth.status, 503, "{}", fifth.text);
    assert!(fifth.text.contains("four exports of dead letters"), "{}", fifth.text);
    assert_eq!(fifth.header("retry-after"), "5");
    let grown = api.process.peak_kib().saturating_sub(at_rest);
    assert!(grown < MEMORY_KIB, "{grown} KiB more");
    // Everything else goes on, and one that goes away makes room.
    api.get("/dead-letters?limit=500").await;
    drop(unread.pop());
    eventually("there is room again", || async { export().await.status == 200 }).await;
    drop(unread);
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn large_messages_that_nobody_reads_are_few_at_a_time() {
    const READERS: usize = 24;
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    let large = "INSERT INTO dead_letters (id, event_id, run_id, event_name, object_id, reason, error, attempts, plan, died_at, body)
        SELECT gen_random_uuid(), 'e1', 'e1', 'clients.create', '1', 'malformed', 'no event', 0, '{}', now(),
            convert_to(repeat('x', 16 * 1048576), 'UTF8') RETURNING id::text";
    let id: String = world.rows(large, &[]).await[0].get(0);
    for path in [format!("/dead-letters/{id}/body"), format!("/api/v1/dead-letters/{id}")] {
        let at_rest = api.process.begin_peak_kib();
        let reading = (0..READERS).map(|_| async {
            // The ones that wait for their turn are told so; the others get a first byte.
            let mut answer = begin(&api, &path).await;
            let mut status = [0; 11];
            answer.read_exact(&mut status).await.expect("a status");
            (String::from_utf8_lossy(&status).contains("200"), answer)
        });
        let begun = futures_util::future::join_all(reading).await;
        assert_eq!(begun.iter().filter(|(is_begun, _)| *is_begun).count(), 4, "{path}");
        // Each is there as the database sends it, as it is kept and as it is sent.
        let grown = api.process.peak_kib().saturating_sub(at_rest);
        assert!(grown < 4 * 4 * 16 * 1024, "{path}: {grown} KiB more");
        drop(begun);
        eventually("there is room again", || async {
            answer(api.request("GET", &path).bearer_auth(&api.keys.viewer)).await.status == 200
        })
        .await;
    }
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn live_pages_leave_room_for_others() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    let mut live = Vec::new();
    for _ in 0..64 {
        live.push(begin(&api, "/executions/live").await);
    }
    let refused = answer(api.request("GET", "/executions/live").bearer_auth(&api.keys.viewer)).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    api.get("/handlers").await;
    drop(live);
    eventually("there is room again", || async {
        let connection = begin(&api, "/executions/live").await;
        let mut status = [0; 11];
        let mut connection = connection;
        connection.read_exact(&mut status).await.is_ok() && String::from_utf8_lossy(&status).contains("200")
    })
    .await;
    world.keep(api.process);
    world.end().await;
}

/// Keeps everybody from a table for as long as it lives.
async fn lock(world: &World, table: &str) -> Client {
    let (client, connection) =
        tokio_postgres::connect(&world.database_url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let lock = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
    client.batch_execute(&lock).await.expect("the lock");
    client
}

async fn waiting(world: &World) -> i64 {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    world.count(waiting).await
}

#[blocking_test]
async fn searches_through_text_keep_nobody_else_waiting() {
    let mut world = World::new().await;
    world.set("database.pool_size", "8");
    world.set("telemetry.listen", "127.0.0.1:0");
    let api = Api::start(&mut world).await;
    let monitoring = crate::monitoring::metrics_address(&api.process).await;
    for (table, path) in [
        ("executions", "/executions?data=anna"),
        ("executions", "/executions?error=anna"),
        ("dead_letters", "/dead-letters?text=anna"),
        ("dead_letters", "/dead-letters/summary?text=anna"),
    ] {
        // As if there were so much to read that no search ends.
        let lock = lock(&world, table).await;
        let searches: Vec<_> = (0..30).map(|_| tokio::spawn(answer(api.api("GET", path)))).collect();
        eventually("four searches", || async { waiting(&world).await == 4 }).await;

        let (cookie, _) = timeout(Duration::from_secs(5), api.sign_in("vic")).await.expect("in time");
        let ready = api.client.get(format!("{monitoring}/readyz")).send().await.expect("an answer");
        assert_eq!(ready.status(), 200, "{path}");
        let page = answer(api.request("GET", "/handlers").header("cookie", cookie)).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        assert_eq!(waiting(&world).await, 4, "{path}");

        // Whoever loses patience leaves nothing behind in the database.
        for search in searches {
            search.abort();
        }
        eventually("the server searches no more", || async { waiting(&world).await == 0 }).await;
        drop(lock);
        eventually("searches are answered", || async { answer(api.api("GET", path)).await.status == 200 })
            .await;
    }

    // Whoever waits is told to come again.
    let lock = lock(&world, "dead_letters").await;
    let searches: Vec<_> =
        (0..6).map(|_| tokio::spawn(answer(api.api("GET", "/dead-letters?text=anna")))).collect();
    let mut answers = Vec::new();
    for search in searches {
        answers.push(search.await.expect("an answer"));
    }
    let busy = answers.iter().find(|answer| answer.text.contains("too many text searches"));
    let busy = busy.unwrap_or_else(|| panic!("{answers:?}"));
    assert_eq!((busy.status, busy.header("retry-after")), (503, "5"));
    drop(lock);
    world.keep(api.process);
    world.end().await;
}
