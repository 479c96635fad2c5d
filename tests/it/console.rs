//! The console in a browser: Debian's Chromium, driven as a person would. The stories themselves are in `console/*.py`.

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

/// The browser, where there is one; without it a story is skipped, and says so.
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

/// Lets a story happen in a browser.
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
    let mut browser = start(&world, browser, "story.log");
    let status = browser.ended(std::time::Duration::from_mins(5)).await;
    println!("{}", browser.log());
    assert!(status.success(), "the story ended with {status}; it is told above");
    world.end().await;
}

#[blocking_test]
async fn an_operator_has_a_morning_in_the_browser() {
    tell("morning.py").await;
}

#[blocking_test]
async fn every_page_bears_a_look_and_hostile_text() {
    tell("everywhere.py").await;
}

#[blocking_test]
async fn a_viewer_changes_nothing_and_no_javascript_is_needed() {
    tell("others.py").await;
}
