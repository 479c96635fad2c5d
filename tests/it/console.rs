//! The console in a browser: Debian's Chromium, driven as a person would. The tests themselves are in `console/*.py`.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    integrator::python,
    support::{
        Process, World,
        console::{PASSWORD, listening, user},
        eventually, free_port,
    },
};

/// The browser, where there is one; without it a test is skipped, and says so.
fn chromium() -> Option<String> {
    let found = std::env::var("PROVISIOND_TEST_CHROMIUM").ok().filter(|path| Path::new(path).exists());
    if found.is_none() {
        println!("SKIPPED: there is no Chromium (./script/test installs it on Debian)");
    }
    found
}

/// Worker, recorder and console, with an operator (ann) and a viewer (vic); and where the console listens.
async fn serve(world: &mut World) -> String {
    let users =
        [("ann", "operator"), ("vic", "viewer")].map(|(name, role)| user(world, name, role, PASSWORD));
    world.set("console.users", &format!("[{}]", users.join(", ")));
    world.set("database.pool_size", "8");
    let process = world.spawn(&["--roles", "worker,recorder,console"]);
    let console = listening(&process).await;
    world.wait_for_consumer("events.clients.create").await;
    world.wait_for_consumer("execution-log").await;
    world.keep(process);
    console
}

fn start(world: &World, mut command: Command, log: &str) -> Process {
    let path = world.dir.path().join(log);
    let file = std::fs::File::create(&path).expect("a log");
    command.stdin(Stdio::null()).stdout(file.try_clone().expect("a log")).stderr(file);
    Process::new(command.spawn().expect("the program"), path)
}

/// Runs a test script in a browser.
async fn run_script(script: &str) {
    let Some(chromium) = chromium() else { return };
    let mut world = World::new().await;
    let console = serve(&mut world).await;
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/console");
    let port = free_port();
    let mut app = Command::new(python());
    app.arg(scripts.join("app.py")).arg(port.to_string());
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
        .arg(scripts.join(script))
        .current_dir(world.dir.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PROVISIOND", provisiond.get_program())
        .env("CHROMIUM", chromium)
        .env("CONSOLE", console)
        .env("PASSWORD", PASSWORD)
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
    let mut browser = start(&world, browser, "test.log");
    let status = browser.ended(std::time::Duration::from_mins(5)).await;
    println!("{}", browser.log());
    assert!(status.success(), "the test ended with {status}; its output is above");
    world.end().await;
}

#[blocking_test]
async fn operator_flow_in_the_browser() {
    run_script("operator_flow.py").await;
}

#[blocking_test]
async fn every_page_is_accessible_and_safe_with_hostile_text() {
    run_script("everywhere.py").await;
}

#[blocking_test]
async fn a_viewer_changes_nothing_and_no_javascript_is_needed() {
    run_script("restricted.py").await;
}
