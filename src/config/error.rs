//! Errors of a configuration.

use std::fmt;

/// All errors of a configuration. `Display` writes one line for each.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

/// One error. It never contains a value that may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// `None` if a whole file is unusable.
    pub key: Option<String>,
    /// `default`, `file …` or `environment variable …`.
    pub source: String,
    /// The problem, and which values are allowed.
    pub problem: String,
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{key} ({}): {}", self.source, self.problem),
            None => write!(f, "{}: {}", self.source, self.problem),
        }
    }
}

/// The error for an unknown key: suggests the key that was probably meant, or lists the keys of the section.
pub(super) fn unknown_key<'a>(key: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(meant) = closest(key, known.clone()) {
        return format!("there is no such key or section; did you mean {meant}?");
    }
    let section = key.split_once('.').map_or(key, |(section, _)| section);
    let keys: Vec<&str> = known.clone().filter(|k| is_within(k, section)).collect();
    if !keys.is_empty() {
        return format!("there is no such key; section {section} has {}", keys.join(", "));
    }
    let mut sections: Vec<&str> = known.filter_map(|k| k.split_once('.')).map(|(s, _)| s).collect();
    sections.dedup();
    format!("there is no section {section}; the sections are {}", sections.join(", "))
}

/// Whether `key` is in `section` or in one of its subsections.
pub(super) fn is_within(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

/// The key or section that was probably meant: at most two typing errors away, or the same name in another section.
fn closest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = key.rsplit('.').next();
    let sections = |key: &'a str| key.match_indices('.').filter_map(move |(dot, _)| key.get(..dot));
    known
        .flat_map(|key| sections(key).chain([key]))
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(key, candidate);
            let rank = if candidate.rsplit('.').next() == name { distance.min(2) } else { distance };
            (rank, distance, candidate)
        })
        .min()
        .filter(|(rank, ..)| *rank <= 2)
        .map(|(.., candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_suggests_the_key_that_was_meant() {
        let known = ["amqp.url", "amqp.prefix", "worker.concurrency", "worker.drain_timeout"];
        for (key, expected) in [
            ("amqp.ulr", "did you mean amqp.url?"),
            ("worker.concurency", "did you mean worker.concurrency?"),
            ("wroker.concurrency", "did you mean worker.concurrency?"),
            ("concurrency", "did you mean worker.concurrency?"),
            ("amqpp", "did you mean amqp?"),
            ("amqp.vhost", "section amqp has amqp.url, amqp.prefix"),
            ("redis.host", "there is no section redis; the sections are amqp, worker"),
        ] {
            let error = unknown_key(key, known.into_iter());
            assert!(error.ends_with(expected), "{key}: {error:?} should end with {expected:?}");
        }
    }
}
