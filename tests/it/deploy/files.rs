//! The files of `deploy/`, `compose.yaml` and the pages that go with them hold together. No engine and no cluster is needed:
//! what reads YAML is `check.py`, and promtool runs the cases of the alerts.

use std::process::Command;

use super::file;

fn run(mut command: Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let output_text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{output_text}");
    println!("{output_text}");
}

/// One part of `check.py`.
fn check(part: &str) {
    let Ok(python) = std::env::var("PROVISIOND_TEST_PYTHON") else {
        println!("SKIPPED: the Python of script/test is not there");
        return;
    };
    let mut command = Command::new(python);
    command
        .arg(file("tests/it/deploy/check.py"))
        .arg(part)
        .env("PROVISIOND", env!("CARGO_BIN_EXE_provisiond"));
    run(command);
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    let Ok(promtool) = std::env::var("PROVISIOND_TEST_PROMTOOL") else {
        println!("SKIPPED: there is no promtool");
        return;
    };
    for args in [
        ["check", "rules", "deploy/prometheus/provisiond.rules.yml"],
        ["test", "rules", "deploy/prometheus/provisiond.rules.test.yml"],
    ] {
        let mut command = Command::new(&promtool);
        command.args(args).current_dir(file("."));
        run(command);
    }
}

#[test]
fn alerts_have_cases_and_sections_and_name_metrics_that_exist() {
    check("alerts");
}

#[test]
fn the_dashboard_names_metrics_that_exist() {
    check("dashboard");
}

#[test]
fn the_manifests_of_kubernetes_are_valid() {
    check("kubernetes");
}

#[test]
fn compose_is_valid_and_its_configuration_too() {
    check("compose");
}

#[test]
fn the_units_and_the_image_say_what_they_should() {
    check("hosts");
}
