//! What the documents say of commands, keys and each other is so.
//!
//! `docs/configuration.md` is made from `config/default.toml` by the test that compares the two:
//! `PROVISIOND_TEST_WRITE_DOCS=1 cargo test --test it docs::configuration` writes it anew.

mod commands;
mod configuration;
mod links;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A document: its path from the root of the sources, and its text.
pub struct Document {
    pub path: String,
    pub text: String,
}

/// A line of a document, without what is fenced or with that alone.
pub struct Line<'a> {
    pub place: String,
    pub text: &'a str,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// README.md, ARCHITECTURE.md and all of docs/.
fn documents() -> Vec<Document> {
    let docs = fs::read_dir(root().join("docs")).expect("docs/").map(|entry| {
        let name = entry.expect("an entry").file_name();
        format!("docs/{}", name.to_str().expect("text"))
    });
    let mut paths: Vec<String> =
        docs.filter(|path| Path::new(path).extension() == Some("md".as_ref())).collect();
    paths.sort();
    let all = ["README.md".to_owned(), "ARCHITECTURE.md".to_owned()].into_iter().chain(paths);
    let read = |path: String| Document { text: fs::read_to_string(root().join(&path)).expect("text"), path };
    all.map(read).collect()
}

impl Document {
    /// Lines of prose (`None`), or of the fenced blocks of a language.
    fn lines(&self, language: Option<&str>) -> Vec<Line<'_>> {
        let (mut inside, mut lines): (Option<&str>, _) = (None, Vec::new());
        for (number, text) in (1..).zip(self.text.lines()) {
            if let Some(fence) = text.trim_start().strip_prefix("```") {
                inside = if inside.is_some() { None } else { Some(fence.trim()) };
            } else if inside == language {
                lines.push(Line { place: format!("{}:{number}", self.path), text });
            }
        }
        lines
    }

    /// What stands between backticks in prose.
    fn spans(&self) -> Vec<Line<'_>> {
        self.lines(None)
            .into_iter()
            .flat_map(|line| {
                let place = line.place;
                line.text.split('`').skip(1).step_by(2).map(move |text| Line { place: place.clone(), text })
            })
            .collect()
    }
}

/// The program, with nothing of this machine's configuration.
fn provisiond(args: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_provisiond"));
    for (name, _) in std::env::vars() {
        if name.starts_with("PROVISIOND_") || name == "AMQP_URL" || name == "DATABASE_URL" {
            command.env_remove(name);
        }
    }
    command.env("PROVISIOND_CONFIG", "/dev/null").args(args).output().expect("the program")
}
