//! What of a handler is secret: what it signs with, and the values of its headers. Encrypted on the way in; opened only
//! for who calls the handler, so that lists and changes need no key.

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

/// What a signing secret is, of its handler: the one in use as well as the one before it.
pub(super) const SIGNING: &str = "signing secret";

/// What `migrate` did about secrets that are not stored as they would be now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Whose secrets were written anew.
    pub handlers: usize,
    /// Whose secrets cannot be decrypted.
    pub unreadable: Vec<HandlerId>,
}

/// How the secrets of all handlers are stored; each handler is counted once, by the worst.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SecretsFound {
    /// As they would be now.
    pub current: usize,
    /// In clear though there is a key, or by another key.
    pub stale: usize,
    pub unreadable: Vec<(HandlerId, SealError)>,
}

/// What the seal of a secret is bound to.
pub(super) fn owner(id: HandlerId, what: &str) -> String {
    format!("handler {id}: {what}")
}

fn header(name: &str) -> String {
    format!("header {name}")
}

/// A task as it is stored. What is sealed already stays as it is: it was not changed.
pub(super) fn task(seals: &Seals, id: HandlerId, task: &Task) -> Result<Value> {
    let mut stored = serde_json::to_value(task).map_err(|e| StoreError::Other(e.into()))?;
    if let Task::Http { headers, .. } = task
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

/// Opens what is needed to call a handler: its headers in place, and what it signs with.
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
    if let Task::Http { headers, .. } = task {
        for (name, value) in headers.iter_mut().filter(|(_, value)| value.is_sealed()) {
            let refused = |why: String| format!("its {} cannot be used: {why}", header(name.as_str()));
            let opened = seals.open(&owner(id, &header(name.as_str())), value.as_str());
            let opened = opened.map_err(|why| refused(why.to_string()))?;
            *value =
                opened.text.expose_secret().parse::<HeaderValue>().map_err(|why| refused(why.to_string()))?;
        }
    }
    Ok(secrets)
}

impl Store {
    /// Looks at every handler's secrets.
    pub async fn find_secrets(&self) -> Result<SecretsFound> {
        let mut found = SecretsFound::default();
        let sql = format!("SELECT {COLUMNS} FROM handlers WHERE {HAS_SECRETS} ORDER BY id");
        for row in self.session().await?.query(&sql, &[]).await? {
            match Stored::read(&row)?.renewed(&self.seals) {
                Ok(None) => found.current += 1,
                Ok(Some(_)) => found.stale += 1,
                Err(why) => found.unreadable.push((HandlerId(row.try_get("id")?), why)),
            }
        }
        Ok(found)
    }

    /// Writes anew every secret that is not stored as it would be now: in clear, or by a key before this one. That is
    /// no change of the handler.
    pub async fn reseal_secrets(&self) -> Result<Resealed> {
        let mut done = Resealed::default();
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
                    done.handlers += 1;
                }
                Err(_) => done.unreadable.push(id),
            }
        }
        session.commit().await?;
        Ok(done)
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

    /// As it would be stored now; nothing if that is how it is.
    fn renewed(mut self, seals: &Seals) -> Result<Option<Self>, SealError> {
        let mut changed = false;
        let mut renew = |what: &str, stored: &mut String| {
            let owner = owner(self.id, what);
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
