//! Section `secrets`.

use std::{fmt, fs, str::FromStr};

use ::config::Value;

use super::{
    reader::Reader,
    value::{list, path_or_none, text_or_none},
};
use crate::domain::seal::{SealingKey, Seals};

/// The keys that encrypt secrets in the database.
#[derive(Clone, Debug)]
pub struct Secrets {
    pub seals: Seals,
}

/// A key, if one is set. `Display` masks it.
struct Masked(Option<SealingKey>);

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "***" } else { "" })
    }
}

impl Secrets {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let key = reader.get_masked("secrets.key", |value| text_or_none(parse)(value).map(Masked))?;
        let mut file_keys = reader.get("secrets.key_file", key_file)?.into_iter();
        let previous = |value: &Value| list(|entry| parse(entry).map(|key| Masked(Some(key))))(value);
        let previous = reader.get_masked_list("secrets.previous_keys", previous)?;
        let current_from_file = file_keys.next();
        if key.0.is_some() && current_from_file.is_some() {
            reader.clash(
                "secrets.key_file",
                "secrets.key",
                "cannot be used together with secrets.key: remove one of them",
            );
        }
        let previous = file_keys.chain(previous.into_iter().filter_map(|Masked(key)| key)).collect();
        Some(Self { seals: Seals::new(key.0.or(current_from_file), previous) })
    }
}

/// Errors never repeat the text, because it may be almost a key.
fn parse(text: &str) -> Result<SealingKey, String> {
    SealingKey::from_str(text).map_err(|error| error.to_string())
}

/// Reads the keys from a file, one per line: the current key first, then the previous ones.
fn key_file(value: &Value) -> Result<Vec<SealingKey>, String> {
    let Some(path) = path_or_none(value)? else { return Ok(Vec::new()) };
    let text =
        fs::read_to_string(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys = lines.map(parse).collect::<Result<Vec<_>, _>>();
    match keys {
        Ok(keys) if keys.is_empty() => {
            Err(format!("{} contains no key: it {}", path.display(), crate::domain::seal::InvalidKey))
        }
        Ok(keys) => Ok(keys),
        Err(why) => Err(format!("each line of {} {why}", path.display())),
    }
}
