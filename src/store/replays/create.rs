//! Creates a job with all its items.

use bytes::Bytes;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Replay, replay};
use crate::{
    domain::{
        dead_letter::State,
        replay::{ReplayLimits, ReplayScope, Source},
    },
    store::{
        Cursor, DeadLetterFilter, ExecutionFilter, Result, Store, StoreError, executions::TextBy,
        session::Session, sql::Query,
    },
};

/// Dead letters that one statement adds. The limit keeps the statement far below its timeout.
const MAX_ITEMS: usize = 50_000;

/// The settings of a new job.
#[derive(Clone, Debug)]
pub struct NewReplay {
    /// What is replayed, in words for people.
    pub asked: String,
    pub caution: ReplayLimits,
    pub by: String,
}

/// Which items a job replays.
#[derive(Clone, Debug)]
pub enum Selection {
    Letters(Vec<Uuid>),
    /// Dead letters that match the filter and are open now.
    LettersBy(DeadLetterFilter),
    /// One dead letter, with an edited body.
    Edited(Uuid, Bytes),
    Executions(Vec<Uuid>, ReplayScope),
    ExecutionsBy(ExecutionFilter, ReplayScope),
}

impl Selection {
    const fn source(&self) -> Source {
        match self {
            Self::Letters(_) | Self::LettersBy(_) | Self::Edited(..) => Source::DeadLetters,
            Self::Executions(..) | Self::ExecutionsBy(..) => Source::Executions,
        }
    }
}

impl Store {
    /// Creates a job with all its items, or nothing. The job does not run yet.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if one of the ids does not exist; [`StoreError::TooSlow`].
    pub async fn create_replay(&self, new: &NewReplay, selection: &Selection) -> Result<Replay> {
        let mut session = self.session().await?;
        session.begin().await?;
        let sql = "INSERT INTO replays (source, asked, rate, max_failures, created_by)
                   VALUES ($1, $2, $3, $4, $5) RETURNING id";
        let rate = i32::try_from(new.caution.rate).unwrap_or(i32::MAX);
        let max_failures = i32::from(new.caution.max_failures);
        let source = selection.source().as_str();
        let row = session.query_opt(sql, &[&source, &new.asked, &rate, &max_failures, &new.by]).await?;
        let id: i64 = row.ok_or_else(|| StoreError::other("no replay id was returned"))?.try_get(0)?;
        add_items(&mut session, id, selection).await?;
        session.commit().await?;
        replay(&mut session, id).await
    }
}

async fn add_items(session: &mut Session, id: i64, selection: &Selection) -> Result<()> {
    match selection {
        Selection::Letters(ids) => {
            let sql = "INSERT INTO replay_items (replay_id, letter_id)
                       SELECT $1, id FROM dead_letters WHERE id = ANY ($2) ORDER BY died_at, id";
            let inserted = session.execute(sql, &[&id, ids]).await?;
            check_all(session, "dead_letters", "dead letter", ids, inserted).await
        }
        Selection::LettersBy(filter) => add_dead_letters(session, id, filter).await,
        Selection::Edited(dead_letter, body) => {
            let sql = "INSERT INTO replay_items (replay_id, letter_id, body)
                       SELECT $1, id, $3 FROM dead_letters WHERE id = $2";
            let inserted = session.execute(sql, &[&id, dead_letter, &body.as_ref()]).await?;
            check_all(session, "dead_letters", "dead letter", &[*dead_letter], inserted).await
        }
        Selection::Executions(ids, scope) => {
            let mut query = executions(id, *scope);
            query.and("id = ANY (?)", ids, Type::UUID_ARRAY);
            add_executions(session, query, *scope).await?;
            check_all(session, "executions", "execution", ids, 0).await
        }
        Selection::ExecutionsBy(filter, scope) => {
            add_executions(session, filter.add_conditions(executions(id, *scope), TextBy::Index), *scope)
                .await
        }
    }
}

/// Adds the open dead letters that match `filter`, oldest first, in several statements.
async fn add_dead_letters(session: &mut Session, id: i64, filter: &DeadLetterFilter) -> Result<()> {
    let open = DeadLetterFilter { state: Some(State::Open), ..filter.clone() };
    let mut after: Option<Cursor> = None;
    loop {
        let mut query = open.add_conditions(Query::with(
            "WITH part AS (SELECT ?::bigint AS job, id, died_at FROM dead_letters",
            id,
            Type::INT8,
        ));
        if let Some(after) = after {
            query.and_cursor("(died_at, id) > (?at, ?id)", after.at, after.id);
        }
        query.end("ORDER BY died_at, id");
        query.limit(MAX_ITEMS);
        query.end(
            "), taken AS (INSERT INTO replay_items (replay_id, letter_id)
                SELECT job, id FROM part ORDER BY died_at, id)
             SELECT died_at, id FROM part ORDER BY died_at DESC, id DESC LIMIT 1",
        );
        let rows = session.search(&query).await?;
        let Some(last) = rows.first() else { return Ok(()) };
        after = Some(Cursor { at: last.try_get(0)?, id: last.try_get(1)? });
    }
}

/// Of several executions with the same share (attempts, or handlers of one event), only the first is added.
fn executions<'a>(id: i64, scope: ReplayScope) -> Query<'a> {
    let head = match scope {
        ReplayScope::AsRecorded | ReplayScope::HandlerOnly => {
            "INSERT INTO replay_items (replay_id, execution_id, execution_started_at, share)
             SELECT ?::bigint, id, started_at, share FROM (
                 SELECT DISTINCT ON (share) id, started_at,
                     event_id || coalesce(' ' || handler_id, '') AS share FROM executions"
        }
        ReplayScope::WholeEvent => {
            "INSERT INTO replay_items (replay_id, execution_id, execution_started_at, share)
             SELECT ?::bigint, id, started_at, share FROM (
                 SELECT DISTINCT ON (share) id, started_at, event_id AS share FROM executions"
        }
    };
    Query::with(head, id, Type::INT8)
}

async fn add_executions(session: &mut Session, mut query: Query<'_>, scope: ReplayScope) -> Result<()> {
    if scope == ReplayScope::HandlerOnly {
        query.and_that("handler_id IS NOT NULL");
    }
    query.end("ORDER BY share, started_at, id) AS once ORDER BY started_at, id");
    session.search(&query).await.map(drop)
}

/// Checks that all `ids` exist, unless `inserted` shows that all of them were found.
async fn check_all(
    session: &mut Session,
    table: &'static str,
    label: &str,
    ids: &[Uuid],
    inserted: u64,
) -> Result<()> {
    if usize::try_from(inserted) == Ok(ids.len()) {
        return Ok(());
    }
    let sql = format!(
        "SELECT asked FROM unnest($1::uuid[]) asked WHERE asked NOT IN (SELECT id FROM {table} WHERE id = ANY ($1))"
    );
    match session.query_opt(&sql, &[&ids]).await? {
        Some(row) => Err(StoreError::NotFound(format!("{label} {}", row.try_get::<_, Uuid>(0)?))),
        None => Ok(()),
    }
}
