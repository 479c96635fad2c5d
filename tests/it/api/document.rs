//! The `OpenAPI` document, held against itself and against the program.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::support::{
    World,
    console::{Api, answer},
};

/// A program that `script/test` installed beside its Python; none where the tests run without.
fn tool(name: &str) -> Option<Command> {
    let Ok(python) = std::env::var("PROVISIOND_TEST_PYTHON") else {
        println!("SKIPPED: {name} is installed by script/test");
        return None;
    };
    let path = Path::new(&python).with_file_name(name);
    if !path.exists() {
        println!("SKIPPED: there is no {} (Python 3.10 or later)", path.display());
        return None;
    }
    let mut command = Command::new(path);
    command.env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/api"));
    Some(command)
}

#[blocking_test]
async fn the_document_is_valid_and_shown_as_a_page() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    let document = answer(api.api("GET", "/openapi.json")).await;
    let file = world.dir.path().join("openapi.json");
    std::fs::write(&file, &document.text).expect("written");
    let document = document.json();
    assert_eq!(document["openapi"], "3.1.0");
    let page = answer(api.api("GET", "/docs")).await;
    assert_eq!(page.status, 200);
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(page.text.contains(&format!("id=\"{id}\"")), "{id} is not on the page");
            assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{id} has no summary");
            let statuses: Vec<&String> =
                operation["responses"].as_object().expect("responses").keys().collect();
            assert!(
                statuses.iter().any(|status| *status == "401") && statuses.iter().any(|s| s.starts_with('2')),
                "{id}"
            );
            assert!(method == "get" || statuses.iter().any(|status| *status == "403"), "{method} {path}");
        }
    }
    assert!(
        page.text.contains("<code>***</code>") && page.text.contains("<strong>Access.</strong>"),
        "{}",
        page.text
    );
    let text = page.text.replace("http://127.0.0.1", "").replace("https://provisiond", "");
    assert!(
        !text.contains("src=\"http") && !text.contains("href=\"http"),
        "nothing is loaded from elsewhere"
    );

    if let Some(mut validator) = tool("openapi-spec-validator") {
        let output = validator.arg(&file).output().expect("the validator");
        let output_text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", output_text.chars().take(2000).collect::<String>());
    }
    world.keep(api.process);
    world.end().await;
}

/// Some thousand requests, made from the document: what it allows and what it does not.
#[blocking_test]
async fn the_api_does_what_its_document_says() {
    let Some(mut schemathesis) = tool("schemathesis") else { return };
    let mut world = World::new().await;
    // Urls are made up too: none of them is to be called, and what is published is to be handled.
    world.set("http.deny", "0.0.0.0/0, ::/0");
    world.set("http.allow", "127.0.0.1");
    let api = Api::start(&mut world).await;
    world.serve().await;
    api.handler("CRM", "127.0.0.1:1/").await;
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/api/schemathesis.toml");
    let output = schemathesis
        .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
        .current_dir(world.dir.path())
        .args(["--config-file", config, "run", &format!("{}/api/v1/openapi.json", api.url), "--no-color"])
        .args(["-H", &format!("Authorization: Bearer {}", api.keys.operator)])
        .args(["--generation-deterministic", "--max-examples", "5"])
        .output()
        .expect("schemathesis");
    let output_text = String::from_utf8_lossy(&output.stdout).into_owned();
    let failures = output_text.find("= FAILURES =").or(output_text.find("= ERRORS =")).unwrap_or_default();
    assert!(output.status.success(), "{}", output_text.get(failures..).unwrap_or(&output_text));
    let document: Value = api.get("/openapi.json").await;
    let operations: usize =
        document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap().len()).sum();
    assert!(output_text.contains(&format!("Tested: {operations}")), "{output_text}");
    assert!(!api.process.log().contains("\"ERROR\""), "{}", api.process.log());
    world.keep(api.process);
    world.abandon().await;
}
