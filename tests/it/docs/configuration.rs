//! `docs/configuration.md` is `config/default.toml` in another form; and a key that any document names exists.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use super::{documents, provisiond, root};

const HEAD: &str = "# Configuration\n\n\
    <!-- Made from config/default.toml: PROVISIOND_TEST_WRITE_DOCS=1 cargo test --test it docs::configuration -->\n";
const WRITE: &str = "PROVISIOND_TEST_WRITE_DOCS";

/// A key as `default.toml` has it.
struct Key {
    name: String,
    default: String,
    comment: String,
}

/// The first comment, and the keys in their order.
fn read(toml: &str) -> (String, Vec<Key>) {
    let (mut head, mut keys, mut comment) = (None, Vec::<Key>::new(), String::new());
    let (mut section, mut is_open) = (String::new(), false);
    for line in toml.lines() {
        if is_open {
            let key = keys.last_mut().expect("a key");
            write!(key.default, " {}", line.trim()).expect("a string");
            is_open = line != "]";
        } else if let Some(text) = line.strip_prefix('#') {
            writeln!(comment, "{}", text.strip_prefix(' ').unwrap_or(text)).expect("a string");
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((name, default)) = line.split_once(" = ") {
            is_open = default == "[";
            let (name, default) = (format!("{section}.{name}"), default.to_owned());
            keys.push(Key { name, default, comment: std::mem::take(&mut comment) });
        } else {
            head.get_or_insert_with(|| std::mem::take(&mut comment));
        }
    }
    (head.unwrap_or_default(), keys)
}

fn rendered() -> String {
    let toml = fs::read_to_string(root().join("config/default.toml")).expect("text");
    let (head, keys) = read(&toml);
    let mut text = format!("{HEAD}\n{head}");
    let mut section = String::new();
    for Key { name, default, comment } in keys {
        let (new_section, _) = name.rsplit_once('.').expect("a section");
        if new_section != section {
            new_section.clone_into(&mut section);
            write!(text, "\n## {new_section}\n").expect("a string");
        }
        let variable = format!("PROVISIOND_{}", name.to_uppercase().replace('.', "__"));
        let alias = match name.as_str() {
            "amqp.url" => ", or `AMQP_URL`",
            "database.url" => ", or `DATABASE_URL`",
            _ => "",
        };
        write!(text, "\n### {name}\n\n{comment}\nDefault: `{default}` · environment: `{variable}`{alias}\n")
            .expect("a string");
    }
    text
}

#[test]
fn the_configuration_reference_is_that_of_this_version() {
    let (path, rendered) = (root().join("docs/configuration.md"), rendered());
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, &rendered).expect("written");
    }
    let on_disk = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        on_disk == rendered,
        "docs/configuration.md is out of date: {WRITE}=1 cargo test --test it docs::configuration"
    );
    for key in keys() {
        assert!(on_disk.contains(&format!("\n### {key}\n")), "{key} is not in docs/configuration.md");
    }
}

/// Every key, as `provisiond config` prints them.
fn keys() -> BTreeSet<String> {
    let output = provisiond(&["config", "--output", "json"]);
    let settings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let settings = settings.as_array().expect("an array").iter();
    settings.map(|setting| setting["key"].as_str().expect("text").to_owned()).collect()
}

/// Whether a text between backticks is meant as a key: `section.key`, perhaps with ` = value`.
fn is_key(text: &str, sections: &BTreeSet<&str>) -> bool {
    let Some((section, rest)) = text.split_once('.') else { return false };
    let is_name = !rest.is_empty() && rest.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '.'));
    let is_file = [".rs", ".md", ".toml", ".conf"].iter().any(|ending| text.ends_with(ending));
    is_name && !is_file && sections.contains(section)
}

#[test]
fn every_key_that_a_document_names_exists() {
    let keys = keys();
    let sections: BTreeSet<&str> = keys.iter().filter_map(|key| key.split('.').next()).collect();
    let variables: BTreeSet<String> = keys.iter().map(|key| key.to_uppercase().replace('.', "__")).collect();
    let (mut seen, mut unknown) = (0, Vec::new());
    for document in documents() {
        for span in document.spans() {
            let text = span.text.split(" = ").next().unwrap_or_default();
            // Attributes of spans, by OpenTelemetry's conventions.
            let is_attribute =
                ["http.request.", "http.response."].iter().any(|begin| text.starts_with(begin));
            if is_key(text, &sections) && !is_attribute {
                seen += 1;
                let is_section = || keys.iter().any(|key| key.starts_with(&format!("{text}.")));
                if !keys.contains(text) && !is_section() {
                    unknown.push(format!("{}: {text}", span.place));
                }
            }
        }
        for part in document.text.split("PROVISIOND_").skip(1) {
            let end = part.find(|c: char| !c.is_ascii_uppercase() && c != '_').unwrap_or(part.len());
            // SECTION__KEY stands for any.
            if part[..end].contains("__")
                && part[..end] != *"SECTION__KEY"
                && !variables.contains(&part[..end])
            {
                unknown.push(format!("{}: PROVISIOND_{}", document.path, &part[..end]));
            }
        }
    }
    assert!(unknown.is_empty(), "no such keys:\n{}", unknown.join("\n"));
    assert!(seen > 20, "only {seen} keys were found");
}
