//! The layers of the configuration, from the weakest to the strongest: embedded defaults, a file, the environment.
//!
//! An environment variable `PROVISIOND_SECTION__KEY` sets a key; the two underscores mark it. Other variables that
//! begin with `PROVISIOND_` belong to scripts and tests of this repository and are ignored. A variable that would be
//! a key if it had two underscores is an error.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use ::config::{Config, FileFormat, Format, Map, Source, Value, ValueKind};

use super::{
    error::{ConfigError, is_within, unknown_key},
    value,
};

const DEFAULTS: &str = include_str!("../../config/default.toml");
const PREFIX: &str = "PROVISIOND_";
/// Variables with a common name, which other programs also use.
const ALIASES: [(&str, &str); 2] = [("AMQP_URL", "amqp.url"), ("DATABASE_URL", "database.url")];

/// Values by their dotted key. Each value knows its source.
pub(super) type Values = BTreeMap<String, Value>;

/// The merged layers.
pub(super) struct Layers {
    /// The values in force.
    pub values: Values,
    pub defaults: Values,
    /// Keys and files that were rejected.
    pub errors: Vec<ConfigError>,
}

/// One layer, as the `config` crate merges it.
#[derive(Clone, Debug)]
struct Layer(Values);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ::config::ConfigError> {
        Ok(self.0.clone().into_iter().collect())
    }
}

/// The file that `PROVISIOND_CONFIG` names.
pub(super) fn named_file(env: &[(String, String)]) -> Option<PathBuf> {
    let (_, path) = env.iter().find(|(name, path)| name == "PROVISIOND_CONFIG" && !path.trim().is_empty())?;
    Some(PathBuf::from(path.trim()))
}

impl Layers {
    pub fn read(file: Option<&Path>, env: Vec<(String, String)>) -> Self {
        let mut layers = Self { values: Values::new(), defaults: Values::new(), errors: Vec::new() };
        layers.read_defaults();
        let file = file.map(|path| layers.file(path)).unwrap_or_default();
        let env = layers.environment(env);
        let merged = Config::builder()
            .add_source(Layer(layers.defaults.clone()))
            .add_source(Layer(file))
            .add_source(Layer(env))
            .build();
        match merged {
            Ok(merged) => flatten("", merged.cache, &mut layers.values),
            Err(error) => layers.refuse(None, "configuration", error.to_string()),
        }
        layers
    }

    fn read_defaults(&mut self) {
        match parse(None, DEFAULTS) {
            Ok(table) => flatten("", ValueKind::Table(table).into(), &mut self.defaults),
            Err(problem) => self.refuse(None, "default", problem),
        }
    }

    fn file(&mut self, path: &Path) -> Values {
        let source = format!("file {}", path.display());
        let read = fs::read_to_string(path).map_err(|e| format!("cannot be read: {e}"));
        let mut known = Values::new();
        match read.and_then(|text| parse(Some(&source), &text)) {
            Ok(table) => self.take_known("", table, &source, &mut known),
            Err(problem) => self.refuse(None, &source, problem),
        }
        known
    }

    /// Moves the keys that `default.toml` has from `table` to `known`, and rejects the others.
    fn take_known(&mut self, path: &str, table: Map<String, Value>, source: &str, known: &mut Values) {
        // Sorted, so that errors have the same order in every run.
        for (name, value) in table.into_iter().collect::<BTreeMap<_, _>>() {
            let key = join(path, &name);
            match value.kind {
                ValueKind::Table(_) if self.defaults.contains_key(&key) => {
                    self.refuse(Some(&key), source, "is a key, not a section".into());
                }
                ValueKind::Table(inner) if self.is_section(&key) => {
                    self.take_known(&key, inner, source, known);
                }
                _ if self.defaults.contains_key(&key) => {
                    known.insert(key, value);
                }
                _ => self.refuse_unknown(&key, source),
            }
        }
    }

    fn environment(&mut self, mut env: Vec<(String, String)>) -> Values {
        env.sort();
        let mut known = Values::new();
        for (alias, key) in ALIASES {
            // A compose file passes an unset variable as an empty one.
            if let Some((_, text)) = env.iter().find(|(name, text)| name == alias && !text.trim().is_empty())
            {
                self.take_variable(alias, key, text, &mut known);
            }
        }
        for (name, text) in &env {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            let key = rest.to_lowercase().replace("__", ".");
            if rest.contains("__") {
                self.take_variable(name, &key, text, &mut known);
            } else if let Some(meant) = self.defaults.keys().find(|known| known.replace('.', "_") == key) {
                let variable = format!("{PREFIX}{}", meant.to_uppercase().replace('.', "__"));
                let problem = format!("is not read; {meant} is set by {variable} (two underscores)");
                self.refuse(None, &format!("environment variable {name}"), problem);
            }
        }
        known
    }

    fn take_variable(&mut self, name: &str, key: &str, text: &str, known: &mut Values) {
        let source = format!("environment variable {name}");
        match self.defaults.get(key) {
            Some(default) => {
                let kind = value::from_text(text, &default.kind);
                known.insert(key.to_owned(), Value::new(Some(&source), kind));
            }
            None => self.refuse_unknown(key, &source),
        }
    }

    fn is_section(&self, key: &str) -> bool {
        self.defaults.keys().any(|known| is_within(known, key))
    }

    fn refuse_unknown(&mut self, key: &str, source: &str) {
        let known = self.defaults.keys().map(String::as_str);
        let problem = if self.is_section(key) {
            let keys: Vec<&str> = known.filter(|k| is_within(k, key)).collect();
            format!("is a section, with the keys {}", keys.join(", "))
        } else {
            unknown_key(key, known)
        };
        self.refuse(Some(key), source, problem);
    }

    fn refuse(&mut self, key: Option<&str>, source: &str, problem: String) {
        let (key, source) = (key.map(str::to_owned), source.to_owned());
        self.errors.push(ConfigError { key, source, problem });
    }
}

/// Parses TOML. The error contains line and column but not the line itself, which may hold a password.
fn parse(source: Option<&String>, text: &str) -> Result<Map<String, Value>, String> {
    FileFormat::Toml.parse(source, text).map_err(|error| {
        let message = error.to_string();
        let lines: Vec<&str> = message.lines().filter(|line| !line.contains('|')).collect();
        lines.join(": ")
    })
}

fn flatten(path: &str, value: Value, flat: &mut Values) {
    match value.kind {
        ValueKind::Table(table) => {
            for (name, value) in table {
                flatten(&join(path, &name), value, flat);
            }
        }
        _ => {
            flat.insert(path.to_owned(), value);
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
