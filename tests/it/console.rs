//! The console in a browser: Debian's Chromium, driven as a person would. The stories themselves are in `console/*.py`.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    integrator::{free_port, python},
    support::{Process, World, eventually},
};

/// The browser, where there is one; without it a story is skipped, and says so.
fn chromium() -> Option<String> {
    let found = std::env::var("PROVISIOND_TEST_CHROMIUM").ok().filter(|path| Path::new(path).exists());
    if found.is_none() {
        println!("SKIPPED: there is no Chromium (./script/test installs it on Debian)");
    }
    found
}

/// What `provisiond users hash` makes of a password.
fn hash(world: &World, password: &str) -> String {
    use std::io::Write as _;
    let mut command = world.command();
    command.args(["users", "hash", "--output", "json"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program");
    child.stdin.take().expect("a pipe").write_all(format!("{password}\n").as_bytes()).expect("written");
    let output = child.wait_with_output().expect("its end");
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    told["password_hash"].as_str().expect("a hash").to_owned()
}

/// Worker, recorder and console, with an operator (ann) and a viewer (vera); and where the console listens.
async fn serve(world: &mut World) -> String {
    let hash = hash(world, "correct horse");
    let user = |name: &str, role: &str| {
        format!("[[console.users]]\nname = {name:?}\npassword_hash = {hash:?}\nrole = {role:?}\n")
    };
    let config = world.dir.path().join("provisiond.toml");
    std::fs::write(&config, user("ann", "operator") + &user("vera", "viewer")).expect("written");
    world.set_variable("PROVISIOND_CONFIG", &config.display().to_string());
    world.set("console.listen", "127.0.0.1:0");
    world.set("database.pool_size", "8");
    let process = world.spawn(&["--roles", "worker,recorder,console"]);
    let listens = |log: &str| {
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut told = lines.filter(|line| line["message"] == "the console listens");
        told.next().and_then(|line| line["address"].as_str().map(str::to_owned))
    };
    eventually("the console listens", || async { listens(&process.log()).is_some() }).await;
    world.wait_for_consumer("events.clients.create").await;
    world.wait_for_consumer("execution-log").await;
    let address = listens(&process.log()).expect("an address");
    world.keep(process);
    format!("http://{address}")
}

fn start(world: &World, mut command: Command, log: &str) -> Process {
    let path = world.dir.path().join(log);
    let file = std::fs::File::create(&path).expect("a log");
    command.stdin(Stdio::null()).stdout(file.try_clone().expect("a log")).stderr(file);
    Process::new(command.spawn().expect("the program"), path)
}

/// Lets a story happen.
async fn tell(story: &str) {
    let Some(chromium) = chromium() else { return };
    let mut world = World::new().await;
    let console = serve(&mut world).await;
    let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/console");
    let port = free_port();
    let mut app = Command::new(python());
    app.arg(stories.join("app.py")).arg(port.to_string());
    let app = start(&world, app, "app.log");
    world.keep_other(app);
    let big = format!(
        r#"{{"rows":[{}],"last":"row"}}"#,
        vec![r#"{"id":1234567,"name":"Ann Example"}"#; 26_000].join(",")
    );
    std::fs::write(world.dir.path().join("big.json"), big).expect("written");

    let provisiond = world.command();
    let mut browser = Command::new(python());
    for (name, value) in provisiond.get_envs() {
        match value {
            Some(value) => browser.env(name, value),
            None => browser.env_remove(name),
        };
    }
    browser
        .arg(stories.join(story))
        .current_dir(world.dir.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PROVISIOND", provisiond.get_program())
        .env("CHROMIUM", chromium)
        .env("CONSOLE", console)
        .env("APP", format!("127.0.0.1:{port}"));
    if let Ok(axe) = std::env::var("PROVISIOND_TEST_AXE") {
        browser.env("AXE", axe);
    } else {
        println!(
            "axe-core is not there (./script/test installs it where npm is): pages are not looked at with it"
        );
    }
    eventually("the app listens", || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
    let mut browser = start(&world, browser, "story.log");
    let status = browser.ended(std::time::Duration::from_mins(5)).await;
    println!("{}", browser.log());
    assert!(status.success(), "the story ended with {status}; it is told above");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_has_a_morning_in_the_browser() {
    tell("morning.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_bears_a_look_and_hostile_text() {
    tell("everywhere.py").await;
}
