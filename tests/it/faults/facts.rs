//! What is known at the end of a fault: of the platform, of PostgreSQL, of the handlers.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    load::{Published, event_id},
    receivers::{Call, Receivers},
};
use crate::support::World;

/// Everything that the checker judges by.
#[derive(Clone, Default)]
pub struct Facts {
    /// Events that the broker confirmed.
    pub confirmed: BTreeSet<u64>,
    /// Those of them that the platform published more than once.
    pub published_again: BTreeSet<u64>,
    /// What may have been in a queue when that was deleted, which is outside the guarantee.
    pub may_be_lost: BTreeSet<u64>,
    /// Handler ids and names.
    pub handlers: BTreeMap<i64, &'static str>,
    pub executions: Vec<Execution>,
    pub dead_letters: Vec<DeadLetter>,
    pub calls: Vec<Call>,
    /// Events and handlers that neither succeeded nor have a dead letter, as PostgreSQL counts them.
    pub missing: i64,
}

#[derive(Clone, Debug)]
pub struct Execution {
    pub id: String,
    pub event_id: String,
    pub handler: Option<i64>,
    pub attempt: i32,
    pub disposition: String,
    /// Its circuit was open: no call was made.
    pub was_refused: bool,
}

#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub event_id: Option<String>,
    pub run_id: Option<String>,
    pub handler: Option<i64>,
    pub reason: String,
    pub plan: Vec<i64>,
}

impl DeadLetter {
    /// Whether it answers for what `handler` owed to its event. A letter without a plan is planned afresh when it is replayed.
    pub fn covers(&self, handler: i64) -> bool {
        self.plan.is_empty() || self.plan.contains(&handler)
    }
}

/// The promise, as a question to PostgreSQL: which handlers of which confirmed events have not ended?
const MISSING: &str = "
    SELECT count(*) FROM unnest($1::text[]) AS event (id), unnest($2::bigint[]) AS handler (id)
    WHERE NOT EXISTS (
        SELECT FROM executions x
        WHERE x.event_id = event.id AND x.handler_id = handler.id AND x.status = 'success')
    AND NOT EXISTS (
        SELECT FROM dead_letters d
        WHERE d.event_id = event.id AND (d.plan = '{}' OR handler.id = ANY (d.plan)))";

/// How many ends are missing.
pub async fn missing(world: &World, events: &BTreeSet<u64>, receivers: &Receivers) -> i64 {
    let events: Vec<String> = events.iter().map(|number| event_id(*number)).collect();
    let handlers: Vec<i64> = receivers.names.keys().copied().collect();
    world.rows(MISSING, &[&events, &handlers]).await[0].get(0)
}

/// How many executions and dead letters there are.
pub async fn written(world: &World) -> i64 {
    let sql = "SELECT (SELECT count(*) FROM executions) + (SELECT count(*) FROM dead_letters)";
    world.rows(sql, &[]).await[0].get(0)
}

impl Facts {
    pub async fn gather(
        world: &World,
        published: &BTreeMap<u64, Published>,
        may_be_lost: &BTreeSet<u64>,
        receivers: &Receivers,
    ) -> Self {
        let executions = "SELECT id::text, event_id, handler_id, attempt, disposition,
            coalesce(error LIKE 'circuit open%', false) FROM executions";
        let executions = world.rows(executions, &[]).await.into_iter().map(|row| Execution {
            id: row.get(0),
            event_id: row.get(1),
            handler: row.get(2),
            attempt: row.get(3),
            disposition: row.get(4),
            was_refused: row.get(5),
        });
        let dead_letters = "SELECT event_id, run_id, handler_id, reason, plan FROM dead_letters";
        let dead_letters = world.rows(dead_letters, &[]).await.into_iter().map(|row| DeadLetter {
            event_id: row.get(0),
            run_id: row.get(1),
            handler: row.get(2),
            reason: row.get(3),
            plan: row.get(4),
        });
        let confirmed: BTreeSet<u64> = published.keys().copied().collect();
        Self {
            missing: missing(world, &confirmed, receivers).await,
            confirmed,
            published_again: published
                .iter()
                .filter(|(_, published)| published.was_republished)
                .map(|(number, _)| *number)
                .collect(),
            may_be_lost: may_be_lost.clone(),
            handlers: receivers.names.clone(),
            executions: executions.collect(),
            dead_letters: dead_letters.collect(),
            calls: receivers.calls(),
        }
    }
}
