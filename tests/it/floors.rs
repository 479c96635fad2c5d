//! Holds the structure: who may import whom, where each foreign library lives.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A module imports only from lower floors.
const FLOORS: [&[&str]; 7] = [
    &["domain"],
    &["config", "telemetry", "shutdown", "process_id", "http_server", "tls"],
    &["broker", "store", "runner"],
    &["status_reporter"],
    &["worker", "recorder", "dead_letters", "operations", "status", "monitoring"],
    &["console"],
    &["cli", "main"],
];

/// Libraries that have one home.
const HOMES: [(&str, &[&str]); 17] = [
    ("lapin", &["broker"]),
    ("async_rs", &["broker"]),
    ("tokio_postgres", &["store"]),
    ("deadpool_postgres", &["store"]),
    ("reqwest", &["runner", "broker/management.rs"]),
    ("backoff", &["domain/retry.rs"]),
    ("argon2", &["domain/access.rs"]),
    ("axum", &["console", "monitoring", "http_server.rs"]),
    ("tower_http", &["console", "monitoring"]),
    ("askama", &["console"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("hyper_rustls", &["telemetry"]),
    ("webpki", &["tls"]),
    ("x509_cert", &["tls"]),
];

struct Source {
    /// Below `src/`.
    path: String,
    text: String,
}

fn sources() -> Vec<Source> {
    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a readable directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    assert!(files.len() > 30, "the sources were found");
    files
        .into_iter()
        .map(|file| Source {
            path: file.strip_prefix(&root).expect("below src").to_string_lossy().into_owned(),
            text: fs::read_to_string(&file).expect("a readable file"),
        })
        .collect()
}

impl Source {
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().expect("a first part")
    }

    /// Lines of code, comments left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(n, l)| (n + 1, l))
    }
}

fn floor(module: &str) -> usize {
    FLOORS
        .iter()
        .position(|floor| floor.contains(&module))
        .unwrap_or_else(|| panic!("the module {module} has no floor: give it one in tests/it/floors.rs"))
}

/// The modules that a text names after `crate::`, also in `use crate::{a, b::c}`.
fn imported(text: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (index, _) in text.match_indices("crate::") {
        let before = text[..index].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &text[index + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => modules.extend(top_level(group)),
            None => modules.push(
                rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().expect("a word").to_owned(),
            ),
        }
    }
    modules
}

/// The first words of a `{…}` group's entries.
fn top_level(group: &str) -> Vec<String> {
    let (mut depth, mut words, mut word, mut taking) = (0, Vec::new(), String::new(), true);
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                words.push(std::mem::take(&mut word));
                taking = true;
            }
            c if depth == 0 && taking && (c.is_alphanumeric() || c == '_') => word.push(c),
            c if depth == 0 && !c.is_whitespace() => taking = false,
            _ => {}
        }
    }
    words.push(word);
    words.into_iter().filter(|word| !word.is_empty()).collect()
}

#[test]
fn modules_import_only_from_lower_floors() {
    for source in sources() {
        let own = source.module();
        let code: String = source.code().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
        for module in imported(&code).iter().filter(|module| *module != own) {
            assert!(
                floor(module) < floor(own),
                "{} imports {module}, which is not on a lower floor",
                source.path
            );
        }
    }
}

#[test]
fn every_foreign_library_has_one_home() {
    for source in sources() {
        for (library, homes) in HOMES {
            let is_home = |home: &str| {
                source.path == home || source.path.starts_with(&format!("{home}/")) || source.module() == home
            };
            if homes.iter().any(|home| is_home(home)) {
                continue;
            }
            for (number, line) in source.code() {
                let names_it =
                    line.contains(&format!("{library}::")) || line.contains(&format!("use {library}"));
                assert!(!names_it, "{}:{number} uses {library}, which belongs to {homes:?}", source.path);
            }
        }
    }
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::{a, b::{c, d},\n  e::f};\nuse crate::g::h; crate::i();";
    assert_eq!(imported(text), ["a", "b", "e", "g", "i"]);
}
