//! Changes handlers. One transaction writes the change and its history entry.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::types::ToSql;

use super::{
    Action, COLUMNS, Handler, HandlerId, HandlerSpec, Status,
    columns::Columns,
    handler,
    history::snapshot,
    not_found,
    sealed::{self, SIGNING},
};
use crate::store::error::visible;
use crate::store::{
    Result, Store, StoreError,
    session::Session,
    sql::{clean, clean_opt},
};

/// Reads the event type, and locks it against removal until the end of the transaction.
const WITH_EVENT_TYPE: &str = "WITH type AS (
    SELECT name AS type_name FROM event_types WHERE name = $2 AND removed_at IS NULL FOR KEY SHARE)";

impl Store {
    /// # Errors
    /// [`StoreError::Refused`] if a rule forbids it.
    pub async fn create_handler(
        &self,
        spec: &HandlerSpec,
        signing_secret: Option<&SecretString>,
        by: &str,
    ) -> Result<Handler> {
        visible("the name", spec.name.as_str())?;
        let mut session = self.session().await?;
        session.begin().await?;
        // Secrets are encrypted for one handler id, so the id is needed first.
        let id = session.query_opt("SELECT nextval(pg_get_serial_sequence('handlers', 'id'))", &[]).await?;
        let id = HandlerId(id.ok_or_else(|| StoreError::other("no handler id was returned"))?.try_get(0)?);
        let mut columns = Columns::of(&self.seals, id, spec)?;
        columns
            .add("signing_secret", signing_secret.map(|secret| self.sealed_secret(id, secret)).transpose()?);
        let sql = format!(
            "{WITH_EVENT_TYPE} INSERT INTO handlers (id, event, {}) OVERRIDING SYSTEM VALUE
             SELECT $1, type_name, {} FROM type RETURNING {COLUMNS}",
            columns.names(),
            columns.placeholders()
        );
        let row = session
            .query_opt(&sql, &columns.params(&id.0, &spec.event.as_str()))
            .await
            .map_err(StoreError::into_refusal)?;
        let created = handler(&row.ok_or_else(|| not_in_catalogue(spec))?)?;
        let entry = Entry { before: None, after: Some(&created), action: Action::Created, by, note: None };
        entry.write(&mut session).await?;
        session.commit().await?;
        Ok(created)
    }

    /// Changes the settings of a handler. A change without effect is not recorded.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] if `expected_version` is given and the handler has another
    /// version; [`StoreError::Refused`] if a rule forbids the change.
    pub async fn update_handler(
        &self,
        id: HandlerId,
        expected_version: Option<i64>,
        change: impl FnOnce(HandlerSpec) -> HandlerSpec,
        by: &str,
        note: Option<&str>,
    ) -> Result<Handler> {
        let (mut session, before) = self.lock_handler(id, expected_version).await?;
        let spec = change(before.spec.clone());
        if spec == before.spec {
            session.rollback().await?;
            return Ok(before);
        }
        if spec.name != before.spec.name {
            visible("the name", spec.name.as_str())?;
        }
        let columns = Columns::of(&self.seals, id, &spec)?;
        let sql = format!(
            "{WITH_EVENT_TYPE} UPDATE handlers SET event = type_name, {}, updated_at = now(), version = version + 1
             FROM type WHERE id = $1 RETURNING {COLUMNS}",
            columns.assignments()
        );
        let row = session
            .query_opt(&sql, &columns.params(&id.0, &spec.event.as_str()))
            .await
            .map_err(StoreError::into_refusal)?;
        let after = handler(&row.ok_or_else(|| not_in_catalogue(&spec))?)?;
        let action = Action::between(&before.spec, &after.spec);
        let entry = Entry { before: Some(&before), after: Some(&after), action, by, note };
        entry.write(&mut session).await?;
        session.commit().await?;
        Ok(after)
    }

    /// Changes only the status, as [`Store::update_handler`] does.
    pub async fn set_handler_status(
        &self,
        id: HandlerId,
        expected_version: Option<i64>,
        status: Status,
        by: &str,
        note: Option<&str>,
    ) -> Result<Handler> {
        let change = |spec| HandlerSpec { status, ..spec };
        self.update_handler(id, expected_version, change, by, note).await
    }

    /// Deletes a handler and returns it. Its history and its executions stay.
    pub async fn delete_handler(
        &self,
        id: HandlerId,
        expected_version: Option<i64>,
        by: &str,
        note: Option<&str>,
    ) -> Result<Handler> {
        let (mut session, before) = self.lock_handler(id, expected_version).await?;
        session.execute("DELETE FROM handlers WHERE id = $1", &[&id.0]).await?;
        let entry = Entry { before: Some(&before), after: None, action: Action::Deleted, by, note };
        entry.write(&mut session).await?;
        session.commit().await?;
        Ok(before)
    }

    /// Sets a new signing secret. Requests are also signed with the previous secret for `keep_previous`.
    pub async fn rotate_secret(
        &self,
        id: HandlerId,
        expected_version: Option<i64>,
        new: &SecretString,
        keep_previous: Duration,
        by: &str,
    ) -> Result<Handler> {
        let set = "previous_signing_secret = CASE WHEN $3::double precision > 0 THEN signing_secret END,
            previous_secret_until = CASE WHEN $3 > 0 AND signing_secret IS NOT NULL
                THEN now() + make_interval(secs => $3) END,
            signing_secret = $2";
        let new = self.sealed_secret(id, new)?;
        let params: [&(dyn ToSql + Sync); 3] = [&id.0, &new, &keep_previous.as_secs_f64()];
        self.change_secret((id, expected_version), set, &params, Action::SecretSet, by).await
    }

    /// Removes the signing secret, and the previous one.
    pub async fn remove_secret(
        &self,
        id: HandlerId,
        expected_version: Option<i64>,
        by: &str,
    ) -> Result<Handler> {
        let set = "signing_secret = NULL, previous_signing_secret = NULL, previous_secret_until = NULL";
        self.change_secret((id, expected_version), set, &[&id.0], Action::SecretRemoved, by).await
    }

    fn sealed_secret(&self, id: HandlerId, secret: &SecretString) -> Result<String> {
        Ok(self.seals.seal(&sealed::owner(id, SIGNING), secret.expose_secret())?)
    }

    async fn change_secret(
        &self,
        (id, expected_version): (HandlerId, Option<i64>),
        set: &'static str,
        params: &[&(dyn ToSql + Sync)],
        action: Action,
        by: &str,
    ) -> Result<Handler> {
        let (mut session, before) = self.lock_handler(id, expected_version).await?;
        let sql = format!(
            "UPDATE handlers SET {set}, updated_at = now(), version = version + 1
             WHERE id = $1 RETURNING {COLUMNS}"
        );
        let row = session.query_opt(&sql, params).await.map_err(StoreError::into_refusal)?;
        let after = handler(&row.ok_or_else(|| not_found(id))?)?;
        let entry = Entry { before: Some(&before), after: Some(&after), action, by, note: None };
        entry.write(&mut session).await?;
        session.commit().await?;
        Ok(after)
    }

    /// Reads a handler and locks it against other changes until the end of the transaction.
    async fn lock_handler(&self, id: HandlerId, expected: Option<i64>) -> Result<(Session, Handler)> {
        let mut session = self.session().await?;
        session.begin().await?;
        let sql = format!("SELECT {COLUMNS} FROM handlers WHERE id = $1 FOR UPDATE");
        let Some(row) = session.query_opt(&sql, &[&id.0]).await? else {
            session.rollback().await?;
            return Err(not_found(id));
        };
        let handler = handler(&row)?;
        if expected.is_some_and(|version| version != handler.version) {
            session.rollback().await?;
            return Err(StoreError::Conflict { version: handler.version });
        }
        Ok((session, handler))
    }
}

fn not_in_catalogue(spec: &HandlerSpec) -> StoreError {
    StoreError::Refused(format!("{} is not in the catalogue: add it first", spec.event))
}

/// A history entry to write.
struct Entry<'a> {
    before: Option<&'a Handler>,
    after: Option<&'a Handler>,
    action: Action,
    by: &'a str,
    note: Option<&'a str>,
}

impl Entry<'_> {
    async fn write(&self, session: &mut Session) -> Result<()> {
        let Some(id) = self.after.or(self.before).map(|handler| handler.id) else { return Ok(()) };
        let side = |handler: Option<&Handler>| handler.map(|h| snapshot(&h.spec, h.signed)).transpose();
        let (before, after) = (side(self.before)?, side(self.after)?);
        let sql = "INSERT INTO handler_history (handler_id, changed_by, action, note, before, after)
                   VALUES ($1, $2, $3, $4, $5, $6)";
        let (by, note) = (clean(self.by), clean_opt(self.note));
        session.execute(sql, &[&id.0, &by, &self.action.as_str(), &note, &before, &after]).await?;
        Ok(())
    }
}
