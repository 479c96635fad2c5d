//! The response times of the console's pages with ten million executions, compared with empty tables.

use std::time::Instant;

use crate::{
    Bench,
    support::{
        World,
        console::{Api, answer},
    },
    table::Table,
};

const EXECUTIONS: u64 = 10_000_000;
const DAYS: u64 = 90;
const HANDLERS: u64 = 10_000;
const LETTERS: u64 = 1_000_000;
/// How far back a text search goes by default.
const DAYS_OF_TEXT: i64 = 30;
const TIMES: usize = 20;

/// Rare text is in one of a million executions, and in one of 100,000 dead letters.
const PAGES: [(&str, &str); 19] = [
    ("overview", "/"),
    ("overview, last day", "/?period=day"),
    ("handlers", "/handlers"),
    ("handlers by text", "/handlers?text=bench+777"),
    ("executions", "/executions"),
    ("… failed", "/executions?status=fail"),
    ("… of a handler", "/executions?handler=4711"),
    ("… failed, of a handler and its event", "/executions?event=clients.update&handler=4711&status=fail"),
    ("… of a handler and an event of others", "/executions?event=clients.delete&handler=4711"),
    ("… of an object", "/executions?object_id=123456"),
    ("… of an event's id", "/executions?event_id=event-1234567"),
    ("… 60 days ago", "/executions?until=60d"),
    ("… text that is common", "/executions?data=ordinary"),
    ("… text that is rare", "/executions?data=seldom"),
    ("… text that is nowhere", "/executions?data=nowhere+at+all"),
    ("dead letters", "/dead-letters"),
    ("… of a handler", "/dead-letters?handler=4711"),
    ("… text that is rare", "/dead-letters?text=seldom"),
    ("… of any state, text that is nowhere", "/dead-letters?state=any&text=nowhere+at+all"),
];

/// Makes one partition for each day.
const PARTITIONS: &str = "DO $$
DECLARE
    day date;
BEGIN
    FOR n IN 0..DAYS LOOP
        day := (now() AT TIME ZONE 'UTC')::date - n;
        EXECUTE format('CREATE TABLE IF NOT EXISTS executions_%s PARTITION OF executions FOR VALUES FROM (%L) TO (%L)',
            to_char(day, 'YYYYMMDD'), day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
    END LOOP;
END
$$";

/// One in twenty fails. The executions of one handler are about two hours apart.
const FILL_EXECUTIONS: &str = r#"
INSERT INTO executions (id, event_id, event_name, object_id, event_dt, run_id, handler_id, handler_name,
    handler_priority, handler_mode, handler_task_type, handler_task_target, attempt, max_attempts, status, disposition,
    error, request, response_http_status, response_body, response_truncated, modified, retry_at, started_at, duration_ms,
    worker_host, worker_pid, worker_version)
SELECT gen_random_uuid(), 'event-' || n, 'clients.update', (n % 1000000)::text, started, 'event-' || n, handler,
    'bench ' || handler, 100, 'notify', 'http', 'http://127.0.0.1:5000/api', 1, 8,
    CASE WHEN failed THEN 'fail' ELSE 'success' END, CASE WHEN failed THEN 'retrying' ELSE 'done' END,
    CASE WHEN failed THEN 'answered 503 Service Unavailable' END,
    format('{"event":{"dt":"2026-01-01T00:00:00+00:00","events_id":"clients.update","object_id":%s},"data":{"name":"%s","note":"%s","more":"%s"}}',
        n % 1000000, md5(n::text), CASE WHEN n % 1000000 = 7 THEN 'seldom' ELSE 'ordinary' END, repeat(md5((n % 1000)::text), 5)),
    CASE WHEN failed THEN 503 ELSE 200 END, 'answer ' || n, false, false,
    CASE WHEN failed THEN started + interval '5 s' END, started, n % 300, 'worker-1', 4711, '0.1.0'
FROM generate_series(FROM_NUMBER, TO_NUMBER) n,
    LATERAL (SELECT now() - n * (DAYS * interval '1 day' / COUNT) AS started,
        1 + (n::bigint * 7919) % HANDLERS AS handler, (n * 31) % 20 = 3 AS failed) t"#;

const FILL_LETTERS: &str = r#"
INSERT INTO dead_letters (id, event_id, run_id, event_name, object_id, reason, error, handler_id, handler_name, attempts,
    plan, first_failed_at, died_at, worker_host, worker_pid, worker_version, body, content_type, state, state_changed_at, state_changed_by)
SELECT gen_random_uuid(), 'letter-' || n, 'letter-' || n, 'clients.update', n::text, 'exhausted', 'answered 503 Service Unavailable',
    handler, 'bench ' || handler, 8, ARRAY[handler], died - interval '1 d', died, 'worker-1', 4711, '0.1.0',
    convert_to(format('{"event":{"dt":"2026-01-01T00:00:00+00:00","events_id":"clients.update","object_id":%s},"data":{"note":"%s"}}',
        n, CASE WHEN n % 100000 = 7 THEN 'seldom' ELSE 'ordinary' END), 'UTF8'), 'application/json', state,
    CASE WHEN state <> 'open' THEN now() END, CASE WHEN state <> 'open' THEN 'ben' END
FROM generate_series(1, LETTERS) n,
    LATERAL (SELECT now() - n * interval '7 s' AS died, 1 + (n::bigint * 7919) % HANDLERS AS handler,
        CASE WHEN n % 10 < 3 THEN 'open' WHEN n % 10 < 9 THEN 'replayed' ELSE 'discarded' END AS state) t"#;

/// The counts of the worst day: every handler ran and failed in every hour, and every minute has every
/// duration.
const FILL_COUNTS: &str = "
INSERT INTO handler_hours
SELECT handler, date_trunc('hour', now()) - hour * interval '1 h', 10, 3
FROM generate_series(1, HANDLERS) handler, generate_series(0, 23) hour;
INSERT INTO execution_minutes
SELECT date_trunc('minute', now()) - minute * interval '1 min', disposition, bucket, 100
FROM generate_series(0, 1439) minute, (VALUES ('done'), ('retrying'), ('dead_lettered')) d (disposition), generate_series(0, 30) bucket;
INSERT INTO event_minutes
SELECT date_trunc('minute', now()) - minute * interval '1 min', name, 100 FROM generate_series(0, 1439) minute, event_types";

async fn fill(world: &World, executions: u64, dead_letters: u64) {
    let with_counts = |sql: &str| {
        sql.replace("DAYS", &DAYS.to_string())
            .replace("COUNT", &executions.to_string())
            .replace("HANDLERS", &HANDLERS.to_string())
            .replace("LETTERS", &dead_letters.to_string())
    };
    let run = async |sql: String| {
        let (client, connection) =
            tokio_postgres::connect(&world.database_url, tokio_postgres::NoTls).await.expect("postgres");
        tokio::spawn(connection);
        client.batch_execute(&sql).await.expect("filled");
    };
    run("CREATE EXTENSION IF NOT EXISTS pg_trgm".to_owned()).await;
    run(with_counts(PARTITIONS)).await;
    run(with_counts("INSERT INTO handlers (name, event, task)
        SELECT 'bench ' || n, 'clients.update', jsonb_build_object('type', 'http', 'url', 'http://127.0.0.1:9/') FROM generate_series(1, HANDLERS) n"))
    .await;
    run(with_counts(FILL_COUNTS)).await;
    let part = |from: u64, to: u64| {
        with_counts(FILL_EXECUTIONS)
            .replace("FROM_NUMBER", &from.to_string())
            .replace("TO_NUMBER", &to.to_string())
    };
    let middle = executions / 2;
    tokio::join!(run(part(1, middle)), run(part(middle + 1, executions)));
    run(with_counts(FILL_LETTERS)).await;
    run("ANALYZE".to_owned()).await;
    run("CHECKPOINT".to_owned()).await;
}

/// Waits until the recorder has indexed the text of as many days as a search covers.
async fn index_text(world: &mut World) {
    world.set("recorder.index_text", "true");
    let mut recorder = world.recorder().await;
    let indexed = "SELECT count(*) FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
        WHERE i.indisvalid AND c.relname ~ '^executions_[0-9]+_text$'";
    while world.count(indexed).await < DAYS_OF_TEXT {
        assert!(!recorder.has_ended(), "{}", recorder.log());
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    recorder.terminate().await;
}

/// Milliseconds for every page: the first request, the median of the next requests, and the most of those.
async fn measure_pages(api: &Api, cookie: &str) -> Vec<[f64; 3]> {
    let mut all = Vec::new();
    for (name, path) in PAGES {
        let mut times = Vec::new();
        for _ in 0..=TIMES {
            let begun = Instant::now();
            let page = answer(api.request("GET", path).header("cookie", cookie)).await;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
            assert_eq!(page.status, 200, "{name}: {}", page.text);
        }
        let first = times.remove(0);
        times.sort_by(f64::total_cmp);
        all.push([first, times[TIMES / 2], times[TIMES - 1]]);
    }
    all
}

pub async fn measure(bench: &Bench) -> Table {
    let (executions, dead_letters) = (bench.scaled(EXECUTIONS), bench.scaled(LETTERS));
    let mut world = World::new().await;
    world.set("telemetry.log", "info");
    let api = Api::start(&mut world).await;
    let (cookie, _) = api.sign_in("ann").await;
    let empty = measure_pages(&api, &cookie).await;
    fill(&world, executions, dead_letters).await;
    index_text(&mut world).await;
    let full = measure_pages(&api, &cookie).await;
    assert!(api.end().await.success(), "the console ended badly");
    world.abandon().await;

    let title = format!(
        "Console: {executions} executions over {DAYS} days, {dead_letters} dead letters, {HANDLERS} handlers"
    );
    let head = ["page", "ms", "most of 20", "first look", "with nothing in the tables"];
    let mut table = Table::new(title, &head);
    for ((name, _), (full, empty)) in PAGES.iter().zip(full.iter().zip(&empty)) {
        let [first, middle, most] = full.map(|ms| format!("{ms:.0}"));
        table.row(vec![(*name).to_owned(), middle, most, first, format!("{:.1}", empty[1])]);
    }
    table
}
