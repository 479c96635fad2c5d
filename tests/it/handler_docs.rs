//! The examples of `docs/handlers.md`, run as they are printed there.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Output, Stdio},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};

use crate::support::{Endpoint, Process, World, envelope, eventually};

/// A fenced block: what stands behind the fence (a language, and of a program the name of its file), and its lines.
struct Block {
    info: String,
    code: String,
}

fn blocks() -> Vec<Block> {
    let text = include_str!("../../docs/handlers.md");
    let fenced = text.split("\n```").skip(1).step_by(2);
    let block = |fenced: &str| {
        let (info, code) = fenced.split_once('\n').expect("a line after the fence");
        Block { info: info.to_owned(), code: format!("{code}\n") }
    };
    fenced.map(block).collect()
}

/// The program that is to be saved as `name`, and the commands of the first shell block after it.
pub fn example(name: &str) -> (String, String) {
    let blocks = blocks();
    let index = blocks.iter().position(|block| block.info.ends_with(&format!(" {name}"))).expect(name);
    let commands = blocks[index..].iter().find(|block| block.info == "sh").expect("commands");
    (blocks[index].code.clone(), commands.code.clone())
}

/// Types commands into a shell in which `provisiond` is this one; gives what each printed as JSON.
fn type_in(world: &World, commands: &str) -> Vec<Value> {
    let run = |line: &str| -> Output {
        let provisiond = world.command();
        let line = line.replacen("provisiond", provisiond.get_program().to_str().expect("text"), 1);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{line} --output json")]).current_dir(world.dir.path());
        for (name, value) in provisiond.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.output().expect("a shell")
    };
    let lines = commands.lines().filter(|line| line.starts_with("provisiond "));
    let outputs = lines.map(|line| {
        let output = run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    });
    outputs.collect()
}

/// POSTs `body` as an attempt that was signed `age` seconds ago; the status of the answer.
fn post(port: u16, secret: &str, age: i64, signed: &str, body: &str) -> u16 {
    let key = BASE64_STANDARD.decode(secret.trim_start_matches("whsec_")).expect("a secret");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let timestamp = i64::try_from(now.as_secs()).expect("fits") - age;
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).expect("a key");
    mac.update(format!("forged.{timestamp}.{signed}").as_bytes());
    let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    let request = format!(
        "POST /api HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nwebhook-id: forged\r\nwebhook-timestamp: {timestamp}\r\n\
         webhook-signature: v1,AAAA v1,{signature}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split(' ').nth(1).expect("a status").parse().expect("a number")
}

/// Whether the program is there; says so if it is not.
fn is_there(program: &str) -> bool {
    let installed =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let installed = installed.is_ok_and(|status| status.success());
    if !installed {
        println!("SKIPPED: {program} is not installed, so its example in docs/handlers.md was not run");
    }
    installed
}

/// Runs one of the HTTP examples. `typed_port` is the one of the page.
async fn http_example(name: &str, typed_port: u16, start: impl Fn(u16) -> Command) {
    let mut world = World::new().await;
    let (code, commands) = example(name);
    std::fs::write(world.dir.path().join(name), code).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert!(commands.contains(&format!("127.0.0.1:{typed_port}/")), "{commands}");
    let commands = commands.replace(&format!(":{typed_port}/"), &format!(":{port}/"));
    let created = type_in(&world, &commands).remove(0);
    let secret = created["signing_secret"].as_str().unwrap();
    // Its program still has the old secret.
    world.run(&["handlers", "rotate-secret", &created["id"].to_string()]).assert_done();

    let log = world.dir.path().join("program.log");
    let output = std::fs::File::create(&log).unwrap();
    let program = start(port)
        .current_dir(world.dir.path())
        .env("WEBHOOK_SECRET", secret)
        .env("PORT", port.to_string())
        .env("TMPDIR", world.dir.path())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    world.keep_other(Process::new(program, log.clone()));
    eventually("it listens", || async { TcpStream::connect(("127.0.0.1", port)).is_ok() }).await;

    world.serve().await;
    let body = envelope("clients.create", 12, &json!({"id": 12, "name": "Änn"}));
    for (times, answer) in [(1, "done"), (2, "done before")] {
        world.broker.publish("clients.create", Some("e1"), body.as_bytes()).await;
        let done = world.wait_for_executions(times, &["--status", "success"]).await.remove(0);
        let shown = world.json(&["executions", "show", done["id"].as_str().unwrap()]);
        let response: Value = serde_json::from_str(shown["response"]["body"].as_str().unwrap()).unwrap();
        assert_eq!(response, json!({"status": answer}));
    }
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("client 12"), "{log}");

    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(post(port, secret, 0, &body, &body), 200, "as one of ours");
    assert_eq!(post(port, other, 0, &body, &body), 401, "with another secret");
    assert_eq!(post(port, secret, 0, &body, &body.replace("12", "13")), 401, "with another body");
    assert_eq!(post(port, secret, 3600, &body, &body), 401, "an hour old");
    world.end().await;
}

#[blocking_test]
async fn the_handler_in_python_verifies_and_does_it_once() {
    let python = std::env::var("PROVISIOND_TEST_PYTHON")
        .expect("PROVISIOND_TEST_PYTHON names a python3 with flask: ./script/test sets it");
    http_example("handler.py", 5000, |_| {
        let mut command = Command::new(&python);
        command.args(["-u", "handler.py"]);
        command
    })
    .await;
}

#[blocking_test]
async fn the_handler_in_node_verifies_and_does_it_once() {
    if is_there("node") {
        http_example("handler.js", 5001, |_| {
            let mut command = Command::new("node");
            command.arg("handler.js");
            command
        })
        .await;
    }
}

#[blocking_test]
async fn the_handler_in_php_verifies_and_does_it_once() {
    if is_there("php") {
        http_example("handler.php", 5002, |port| {
            let mut command = Command::new("php");
            command.args(["-S", &format!("127.0.0.1:{port}"), "handler.php"]);
            command
        })
        .await;
    }
}

#[blocking_test]
async fn the_scripts_of_the_page_run() {
    let mut world = World::new().await;
    // As in the image, whose user has no home; what was done is kept where script.env says.
    world.set_variable("HOME", "/nonexistent");
    let done = world.dir.path().join("done");
    world.set("script.env", &format!("SYNC_DONE={}", done.display()));
    let mut commands = String::new();
    for name in ["sync.sh", "sync.py"] {
        let (code, after) = example(name);
        world.script(name, &code);
        commands = after;
    }
    assert_eq!(type_in(&world, &commands).len(), 2);
    world.serve().await;
    let body = envelope("clients.update", 12, &json!({"id": 12, "name": "Ann"}));
    for times in 1..=2 {
        world.broker.publish("clients.update", Some("e1"), body.as_bytes()).await;
        world.wait_for_executions(2 * times, &["--status", "success"]).await;
    }
    let mut outputs: Vec<String> = Vec::new();
    for execution in world.executions(&[]) {
        let shown = world.json(&["executions", "show", execution["id"].as_str().unwrap()]);
        outputs.push(shown["response"]["stdout"].as_str().unwrap().to_owned());
    }
    outputs.sort();
    let first = format!("clients.update of 12: {} bytes\n", body.len());
    assert_eq!(outputs, ["client 12 Ann e1_2\n", "client 12 Ann e1_2\n", &first, "done before\n"]);

    world.publish("clients.update", Some("e2"), 13, &json!({"id": 13})).await;
    let dead_letter = world.wait_for_dead_letters(1).await.remove(0);
    assert_eq!((&dead_letter["handler_name"], &dead_letter["reason"]), (&json!("Sync"), &json!("permanent")));
    world.wait_for_executions(6, &[]).await;
    world.end().await;
}

#[blocking_test]
async fn the_intercepting_script_of_the_page_changes_and_forbids() {
    let mut world = World::new().await;
    let (code, commands) = example("limit.py");
    world.script("limit.py", &code);
    assert_eq!(type_in(&world, &commands).len(), 1);
    let endpoint = Endpoint::ok().await;
    world.handler("after", "clients.accounts.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    for (id, limit) in [("low", 100), ("high", 20_000)] {
        world.publish("clients.accounts.create", Some(id), 1, &json!({"credit_limit": limit})).await;
    }
    let forbidden = world.wait_for_executions(1, &["--disposition", "forbidden"]).await.remove(0);
    assert_eq!(forbidden["event"]["id"], "high");
    endpoint.wait_for(1).await;
    world.wait_for_executions(4, &[]).await;
    assert_eq!(endpoint.calls()[0].json()["data"], json!({"credit_limit": 100, "currency": "EUR"}));
    assert_eq!(endpoint.count(), 1);
    world.end().await;
}

#[test]
fn every_program_of_the_page_is_run() {
    let named: Vec<_> = blocks().iter().filter_map(|b| b.info.split(' ').nth(1).map(str::to_owned)).collect();
    assert_eq!(named, ["handler.py", "handler.js", "handler.php", "sync.sh", "sync.py", "limit.py"]);
}
