-- What two weeks of the previous version (migrations V1 to V4) leave behind, in the tables of that version.

CREATE TABLE refinery_schema_history (
    version int4 PRIMARY KEY, name varchar(255), applied_on varchar(255), checksum varchar(255));

-- The checksums of that release. Should a migration that was released ever be changed, this is where it shows.
INSERT INTO refinery_schema_history VALUES
    (1, 'foundation', '2026-11-01T10:00:00.000000000Z', '14239879206754822176'),
    (2, 'inbox', '2026-11-01T10:00:00.100000000Z', '6030830824615014999'),
    (3, 'replays', '2026-11-01T10:00:00.200000000Z', '2663632387358917775'),
    (4, 'sealed_secrets', '2026-11-01T10:00:00.300000000Z', '17307240902396160340');

INSERT INTO event_types (group_title, title, name) VALUES ('Clients', 'suspend', 'clients.suspend');

-- The test gives the endpoint's address and the scripts' directory.
INSERT INTO handlers (name, event, task, status, priority, mode, on_failure, timeout_ms, retry, max_concurrency,
    signing_secret, version)
VALUES
    ('CRM', 'clients.create', '{"type": "http", "url": "http://ENDPOINT/crm"}', 'enabled', 1, 'notify', 'continue',
        NULL, '{}', NULL, NULL, 1),
    ('Softswitch', 'clients.create',
        '{"type": "http", "url": "http://ENDPOINT/switch", "headers": {"authorization": "Bearer x"}}', 'enabled', 2,
        'notify', 'halt', 5000, '{"max_attempts": 3, "initial_interval": "10s"}', 4, 'whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0', 3),
    ('Sync', 'clients.update', '{"type": "script", "path": "DIRECTORY/sync.sh", "args": ["--fast"]}', 'enabled', 100,
        'notify', 'continue', 60000, '{"jitter": 0.5, "multiplier": 2}', NULL, NULL, 1),
    ('Credit check', 'clients.packages.assign', '{"type": "http", "url": "http://ENDPOINT/credit"}', 'enabled', 10,
        'intercept', 'halt', NULL, '{}', NULL, NULL, 1),
    ('Old CRM', 'clients.create', '{"type": "http", "url": "http://ENDPOINT/old"}', 'disabled', 50, 'notify',
        'continue', NULL, '{}', NULL, NULL, 2),
    ('Fax', 'clients.delete', '{"type": "script", "path": "fax.sh"}', 'archived', 100, 'notify', 'continue', NULL,
        '{}', NULL, NULL, 2);
-- Before what they are said to have done.
UPDATE handlers SET created_at = now() - interval '1 y';

INSERT INTO handler_history (handler_id, changed_by, action, note, before, after)
SELECT id, 'ann', 'created', NULL, NULL, jsonb_build_object('name', name, 'event', event, 'task', task, 'signed', false)
FROM handlers;
INSERT INTO handler_history (handler_id, changed_by, action, note, before, after) VALUES
    (2, 'ann', 'secret_set', NULL, '{"name": "Softswitch"}', '{"name": "Softswitch"}'),
    (5, 'ben', 'disabled', 'answered 410 Gone', '{"name": "Old CRM"}', '{"name": "Old CRM"}'),
    (6, 'ben', 'archived', NULL, '{"name": "Fax"}', '{"name": "Fax"}'),
    (7, 'ben', 'deleted', NULL, '{"name": "Gone"}', NULL);

-- Five days of a thousand executions each: nine of ten done, the rest of every other kind.
DO $$
DECLARE
    day date;
BEGIN
    FOR n IN 0..4 LOOP
        day := (now() AT TIME ZONE 'UTC')::date - n;
        EXECUTE format('CREATE TABLE executions_%s PARTITION OF executions FOR VALUES FROM (%L) TO (%L)',
            to_char(day, 'YYYYMMDD'), day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
    END LOOP;
END
$$;

INSERT INTO executions (id, event_id, event_name, object_id, event_dt, run_id, handler_id, handler_name,
    handler_priority, handler_mode, handler_task_type, handler_task_target, attempt, max_attempts, status, disposition,
    error, request, response_http_status, response_body, response_truncated, modified, retry_at, started_at, duration_ms,
    worker_host, worker_pid, worker_version, trace_id)
SELECT gen_random_uuid(), 'e' || day || '-' || n, 'clients.create', n::text, started, 'e' || day || '-' || n, handler,
    CASE handler WHEN 1 THEN 'CRM' WHEN 2 THEN 'Softswitch' END, handler, CASE WHEN handler IS NOT NULL THEN 'notify' END,
    CASE WHEN handler IS NOT NULL THEN 'http' END, CASE WHEN handler IS NOT NULL THEN 'http://127.0.0.1:5000/api' END,
    CASE WHEN status = 'skipped' THEN 0 ELSE 1 END, CASE WHEN status = 'skipped' THEN 0 ELSE 8 END, status, disposition,
    CASE WHEN status = 'fail' THEN 'answered 503 Service Unavailable' END,
    format('{"event":{"dt":"2026-11-01T00:00:00+00:00","events_id":"clients.create","object_id":%s},"data":{"name":"Zoë %s\u0000"}}', n, n),
    CASE status WHEN 'success' THEN 200 WHEN 'fail' THEN 503 END, CASE WHEN status <> 'skipped' THEN 'answer ' || n END,
    CASE WHEN status <> 'skipped' THEN false END, false,
    CASE WHEN disposition = 'retrying' THEN started + interval '5 s' END, started, n % 300, 'worker-1', 4711, '0.1.0', NULL
FROM generate_series(0, 4) day, generate_series(1, 1000) n,
    LATERAL (SELECT ((now() AT TIME ZONE 'UTC')::date - day)::timestamp AT TIME ZONE 'UTC' + n * interval '1 ms' AS started) t,
    LATERAL (SELECT CASE n % 40 WHEN 1 THEN 'retrying' WHEN 2 THEN 'dead_lettered' WHEN 3 THEN 'no_handler'
        WHEN 4 THEN 'duplicate' ELSE 'done' END AS disposition) d,
    LATERAL (SELECT CASE disposition WHEN 'done' THEN 'success' WHEN 'retrying' THEN 'fail' WHEN 'dead_lettered' THEN 'fail'
        ELSE 'skipped' END AS status, CASE WHEN disposition NOT IN ('no_handler', 'duplicate') THEN 1 + n % 2 END AS handler) s;

-- Dead letters: five hundred in each state, of every reason.
INSERT INTO dead_letters (id, event_id, run_id, event_name, object_id, reason, error, handler_id, handler_name, attempts,
    plan, first_failed_at, died_at, worker_host, worker_pid, worker_version, body, content_type, state,
    state_changed_at, state_changed_by, state_note)
SELECT gen_random_uuid(), 'l' || n, 'l' || n, 'clients.create', n::text, reason,
    reason || ' for ' || n, CASE WHEN has THEN 1 END, CASE WHEN has THEN 'CRM' END, CASE WHEN has THEN 8 ELSE 0 END,
    CASE WHEN has THEN '{1}'::bigint[] ELSE '{}' END, now() - interval '2 d', now() - interval '1 d' + n * interval '1 s',
    'worker-1', 4711, '0.1.0',
    convert_to(CASE WHEN reason = 'malformed' THEN '{"event": ' ELSE format(
        '{"event":{"dt":"2026-11-01T00:00:00+00:00","events_id":"clients.create","object_id":%s},"data":{"number":%s}}', n, n) END, 'UTF8'),
    'application/json', state, CASE WHEN state <> 'open' THEN now() END, CASE WHEN state <> 'open' THEN 'ben' END,
    CASE state WHEN 'discarded' THEN 'the CRM has it' END
FROM generate_series(1, 1500) n,
    LATERAL (SELECT (ARRAY['open', 'replayed', 'discarded'])[1 + n % 3] AS state) s,
    LATERAL (SELECT CASE n % 50 WHEN 0 THEN 'malformed' WHEN 1 THEN 'crash_loop' WHEN 2 THEN 'expired' WHEN 3 THEN 'unrouted'
        WHEN 4 THEN 'permanent' ELSE 'exhausted' END AS reason) r,
    LATERAL (SELECT reason IN ('permanent', 'exhausted') AS has) h;

-- A replay that ended, and one that was stopped with twenty letters to go.
INSERT INTO replays (source, asked, rate, max_failures, state, created_by, ended_at) VALUES
    ('dead_letters', 'handler 1', 50, 50, 'finished', 'ben', now()),
    ('dead_letters', 'reason exhausted', 50, 50, 'stopped', 'ben', now());
INSERT INTO replay_items (replay_id, letter_id, state, settled_at)
SELECT 1, id, 'replayed', now() FROM dead_letters WHERE state = 'replayed';
INSERT INTO replay_items (replay_id, letter_id)
SELECT 2, id FROM dead_letters WHERE state = 'open' AND reason = 'exhausted' ORDER BY died_at LIMIT 20;

INSERT INTO inbox (event_id, event_name, claim)
SELECT 'e' || n, 'clients.create', gen_random_uuid() FROM generate_series(1, 1000) n;
