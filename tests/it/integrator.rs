//! The integrator's plainest programs: a Flask app, a script, and a publisher in Python.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::support::{World, eventually, free_port};

const EVENTS: usize = 1000;
const EXECUTIONS: i64 = 3000;

const APP: &str = r#"
import json, sys
from flask import Flask, request

app = Flask(__name__)
calls = open(sys.argv[2], "a", buffering=1)

@app.route("/api", methods=["GET", "POST"])
def api():
    event = json.loads(request.data)
    calls.write("%s %s\n" % (event["event"]["object_id"], request.args["n"]))
    return json.dumps(event)

app.run(port=int(sys.argv[1]))
"#;

const PUBLISHER: &str = r#"
import json, os, pika
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.confirm_delivery()
for n in range(int(os.environ["EVENTS"])):
    event = {"event": {"dt": "2026-01-01T00:00:00+00:00", "events_id": "clients.create", "object_id": n}, "data": {"id": n}}
    channel.basic_publish(os.environ["EXCHANGE"], "clients.create", json.dumps(event),
        pika.BasicProperties(message_id="e%d" % n, delivery_mode=2, content_type="application/json"))
connection.close()
"#;

const SCRIPT: &str = r#"
import json, os, sys
event = json.load(sys.stdin)
with open(os.path.join(os.path.dirname(os.path.realpath(__file__)), "calls"), "a") as calls:
    calls.write("%s 2\n" % event["event"]["object_id"])
"#;

/// The Python of `script/test`, which has Flask and pika.
pub(crate) fn python() -> String {
    std::env::var("PROVISIOND_TEST_PYTHON")
        .expect("PROVISIOND_TEST_PYTHON names a python3 with flask and pika: ./script/test sets it")
}

#[blocking_test]
async fn three_handlers_are_called_in_order_for_a_thousand_events_each_once() {
    let mut world = World::new().await;
    let calls = world.dir.path().join("calls");
    std::fs::write(world.dir.path().join("app.py"), APP).unwrap();
    world.script("sync.py", &format!("#!{}\n{SCRIPT}", python()));
    let port = free_port();
    let app = Command::new(python())
        .args(["app.py", &port.to_string(), calls.to_str().unwrap()])
        .current_dir(world.dir.path())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(world.dir.path().join("flask.log")).unwrap())
        .spawn()
        .unwrap();
    let app = crate::support::Process::new(app, world.dir.path().join("flask.log"));
    world.keep_other(app);
    eventually("Flask answers", || async { std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() }).await;

    let target = |n: u8| format!("127.0.0.1:{port}/api?n={n}");
    world.handler(
        "third",
        "clients.create",
        &["--http", &target(3), "--priority", "3", "--on-failure", "halt"],
    );
    world.handler("first", "clients.create", &["--http", &target(1), "--priority", "1"]);
    world.handler("second", "clients.create", &["--script", "sync.py", "--priority", "2"]);
    world.serve().await;
    let published = Command::new(python())
        .args(["-c", PUBLISHER])
        .env("AMQP_URL", &world.amqp_url)
        .env("EXCHANGE", world.broker.name("events"))
        .env("EVENTS", EVENTS.to_string())
        .status()
        .unwrap();
    assert!(published.success());

    let within = tokio::time::timeout(Duration::from_mins(4), async {
        while world.count("SELECT count(*) FROM executions").await < EXECUTIONS {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    within.await.expect("all are executed");
    let executions: Vec<Value> = world.executions(&[]);
    assert_eq!(executions.len(), 3 * EVENTS);
    assert!(executions.iter().all(|e| e["status"] == "success" && e["attempt"] == 1));

    // What the handlers themselves saw: each event, in the order 1, 2, 3, each once.
    let mut seen: Vec<Vec<u8>> = vec![Vec::new(); EVENTS];
    for line in std::fs::read_to_string(&calls).unwrap().lines() {
        let (object, handler) = line.split_once(' ').unwrap();
        seen[object.parse::<usize>().unwrap()].push(handler.parse().unwrap());
    }
    for (event, order) in seen.iter().enumerate() {
        assert_eq!(order, &[1, 2, 3], "event {event}");
    }
    world.end().await;
}
