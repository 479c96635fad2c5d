//! The secrets of handlers: signing secrets and header values. They are encrypted when they are stored, and decrypted
//! only to call the handler. Lists and changes of other settings need no key.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio_postgres::{Row, types::Json};

use crate::{
    domain::{
        handler::HandlerId,
        seal::{SealError, Seals, is_sealed},
        task::{HeaderValue, Task},
    },
    store::{Result, Store, StoreError},
};

/// The name of a signing secret in its `owner`, for the current and the previous one.
pub(super) const SIGNING: &str = "signing secret";

/// What `migrate` did with secrets that were not in the current form (see [`SecretsFound::current`]).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// How many handlers had secrets that were converted.
    pub handlers: usize,
    /// Handlers whose secrets cannot be decrypted.
    pub unreadable: Vec<HandlerId>,
}

/// How the secrets of all handlers are stored. Each handler counts once, by its worst secret.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SecretsFound {
    /// In the current form: encrypted with the current key, or in clear if there is no key.
    pub current: usize,
    /// Encrypted with another key, or in clear although there is a key.
    pub stale: usize,
    pub unreadable: Vec<(HandlerId, SealError)>,
}

/// What an encrypted secret is bound to: it cannot be decrypted for another handler or purpose.
pub(super) fn owner(id: HandlerId, purpose: &str) -> String {
    format!("handler {id}: {purpose}")
}

fn header(name: &str) -> String {
    format!("header {name}")
}

/// Returns a task in its stored form. A value that is already encrypted was not changed and stays as it is.
pub(super) fn task(seals: &Seals, id: HandlerId, task: &Task) -> Result<Value> {
    let mut stored = serde_json::to_value(task).map_err(|e| StoreError::Other(e.into()))?;
    if let Some(headers) = task.headers()
        && !headers.is_empty()
    {
        let sealed = headers.iter().map(|(name, value)| {
            let value = value.as_str();
            let sealed = if is_sealed(value) {
                value.to_owned()
            } else {
                seals.seal(&owner(id, &header(name.as_str())), value)?
            };
            Ok((name.as_str(), sealed))
        });
        let sealed: BTreeMap<_, _> = sealed.collect::<Result<_, SealError>>()?;
        if let Some(headers) = stored.get_mut("headers") {
            *headers = serde_json::to_value(sealed).map_err(|e| StoreError::Other(e.into()))?;
        }
    }
    Ok(stored)
}

/// Decrypts what a call of a handler needs: the headers, in place, and the signing secrets.
pub(in crate::store) fn open(
    seals: &Seals,
    id: HandlerId,
    task: &mut Task,
    secrets: Vec<String>,
) -> Result<Vec<SecretString>, String> {
    let secrets = secrets.into_iter().map(|stored| {
        let opened = seals.open(&owner(id, SIGNING), &stored);
        opened.map(|opened| opened.text).map_err(|why| format!("its {SIGNING} cannot be used: {why}"))
    });
    let secrets = secrets.collect::<Result<_, _>>()?;
    if let Some(headers) = task.headers_mut() {
        for (name, value) in headers.iter_mut().filter(|(_, value)| value.is_sealed()) {
            let unusable = |why: String| format!("its {} cannot be used: {why}", header(name.as_str()));
            let opened = seals.open(&owner(id, &header(name.as_str())), value.as_str());
            let opened = opened.map_err(|why| unusable(why.to_string()))?;
            *value = opened
                .text
                .expose_secret()
                .parse::<HeaderValue>()
                .map_err(|why| unusable(why.to_string()))?;
        }
    }
    Ok(secrets)
}

impl Store {
    /// Checks how the secrets of every handler are stored.
    pub async fn find_secrets(&self) -> Result<SecretsFound> {
        let mut secrets = SecretsFound::default();
        let sql = format!("SELECT {COLUMNS} FROM handlers WHERE {HAS_SECRETS} ORDER BY id");
        for row in self.session().await?.query(&sql, &[]).await? {
            match Stored::read(&row)?.renewed(&self.seals) {
                Ok(None) => secrets.current += 1,
                Ok(Some(_)) => secrets.stale += 1,
                Err(why) => secrets.unreadable.push((HandlerId(row.try_get("id")?), why)),
            }
        }
        Ok(secrets)
    }

    /// Converts every secret that is not in the current form, such as one in clear, or one encrypted with a previous
    /// key. The handler's version stays the same.
    pub async fn reseal_secrets(&self) -> Result<Resealed> {
        let mut resealed = Resealed::default();
        let mut session = self.session().await?;
        session.begin().await?;
        let sql = format!("SELECT {COLUMNS} FROM handlers WHERE {HAS_SECRETS} ORDER BY id FOR UPDATE");
        for row in session.query(&sql, &[]).await? {
            let id = HandlerId(row.try_get("id")?);
            match Stored::read(&row)?.renewed(&self.seals) {
                Ok(None) => {}
                Ok(Some(Stored { task, newest, previous, .. })) => {
                    let sql =
                        "UPDATE handlers SET task = $2, signing_secret = $3, previous_signing_secret = $4
                               WHERE id = $1";
                    session.execute(sql, &[&id.0, &task, &newest, &previous]).await?;
                    resealed.handlers += 1;
                }
                Err(_) => resealed.unreadable.push(id),
            }
        }
        session.commit().await?;
        Ok(resealed)
    }
}

const COLUMNS: &str = "id, task, signing_secret, previous_signing_secret";
const HAS_SECRETS: &str = "(signing_secret IS NOT NULL OR task ? 'headers')";

/// The columns of a row that hold secrets.
struct Stored {
    id: HandlerId,
    task: Value,
    newest: Option<String>,
    previous: Option<String>,
}

impl Stored {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: HandlerId(row.try_get("id")?),
            task: row.try_get::<_, Json<Value>>("task")?.0,
            newest: row.try_get("signing_secret")?,
            previous: row.try_get("previous_signing_secret")?,
        })
    }

    /// Returns the row in the current form, or `None` if it has that form already.
    fn renewed(mut self, seals: &Seals) -> Result<Option<Self>, SealError> {
        let mut changed = false;
        let mut renew = |purpose: &str, stored: &mut String| {
            let owner = owner(self.id, purpose);
            let opened = seals.open(&owner, stored)?;
            if !opened.is_current {
                *stored = seals.seal(&owner, opened.text.expose_secret())?;
                changed = true;
            }
            Ok(())
        };
        for secret in [&mut self.newest, &mut self.previous].into_iter().flatten() {
            renew(SIGNING, secret)?;
        }
        let headers = self.task.get_mut("headers").and_then(Value::as_object_mut);
        for (name, value) in headers.into_iter().flatten() {
            if let Value::String(stored) = value {
                renew(&header(name), stored)?;
            }
        }
        Ok(changed.then_some(self))
    }
}

#[cfg(test)]
mod tests;
