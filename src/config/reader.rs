//! Reads the merged values key by key, and collects errors and the settings to show.

use std::fmt::Display;

use ::config::Value;

use super::{
    Config, ConfigErrors, Loaded, Setting,
    error::ConfigError,
    layers::{Layers, Values},
    value,
};

pub(super) struct Reader {
    values: Values,
    defaults: Values,
    settings: Vec<Setting>,
    errors: Vec<ConfigError>,
}

impl Reader {
    pub fn new(layers: Layers) -> Self {
        let Layers { values, defaults, errors } = layers;
        Self { values, defaults, settings: Vec::new(), errors }
    }

    /// Returns `config` if there was no error.
    pub fn finish(self, config: Option<Config>) -> Result<Loaded, ConfigErrors> {
        match config {
            Some(config) if self.errors.is_empty() => Ok(Loaded { config, settings: self.settings }),
            _ => Err(ConfigErrors(self.errors)),
        }
    }

    /// Reads `key`. `provisiond config` shows the value as it was written.
    pub fn get<T>(&mut self, key: &str, parse: impl Fn(&Value) -> Result<T, String>) -> Option<T> {
        self.read(key, parse, |raw, _| value::to_json(raw))
    }

    /// Reads `key`, whose value may be secret. It is shown through `Display`.
    pub fn get_masked<T: Display>(
        &mut self,
        key: &str,
        parse: impl Fn(&Value) -> Result<T, String>,
    ) -> Option<T> {
        self.read(key, parse, |_, parsed| parsed.to_string().into())
    }

    /// Reads the list `key`, whose entries may be secret. They are shown through `Display`.
    pub fn get_masked_list<T: Display>(
        &mut self,
        key: &str,
        parse: impl Fn(&Value) -> Result<Vec<T>, String>,
    ) -> Option<Vec<T>> {
        self.read(key, parse, |_, parsed| parsed.iter().map(ToString::to_string).collect())
    }

    /// Rejects `key` because of the value of `other`. Does nothing if one of them already has an error, because this
    /// error follows from it.
    pub fn clash(&mut self, key: &str, other: &str, problem: &str) {
        if self.errors.iter().any(|e| e.key.as_deref().is_some_and(|k| k == key || k == other)) {
            return;
        }
        let problem = format!("{problem} ({other} is set by {})", self.source(other));
        self.refuse(key, problem);
    }

    /// Reads and parses `key`. If the value is bad, it adds an error and returns the default, so that the other keys
    /// are checked too. Returns `None` only if the default is bad.
    fn read<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&Value) -> Result<T, String>,
        show: impl Fn(&Value, &T) -> serde_json::Value,
    ) -> Option<T> {
        let Some(raw) = self.values.get(key) else {
            self.refuse(key, "has no default".into());
            return None;
        };
        match parse(raw) {
            Ok(parsed) => {
                let (value, source) = (show(raw, &parsed), self.source(key));
                self.settings.push(Setting { key: key.to_owned(), value, source });
                Some(parsed)
            }
            Err(problem) => {
                self.refuse(key, problem);
                self.defaults.get(key).and_then(|default| parse(default).ok())
            }
        }
    }

    pub fn refuse(&mut self, key: &str, problem: String) {
        let source = self.source(key);
        self.errors.push(ConfigError { key: Some(key.to_owned()), source, problem });
    }

    /// Whether a file or the environment sets `key`.
    pub fn is_set(&self, key: &str) -> bool {
        self.values.get(key).and_then(Value::origin).is_some()
    }

    fn source(&self, key: &str) -> String {
        self.values.get(key).and_then(Value::origin).unwrap_or("default").to_owned()
    }
}
