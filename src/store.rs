//! PostgreSQL: the catalogue, handlers and their history, executions, dead letters and their replays, the inbox,
//! which processes there are and what goes on.
//!
//! All of tokio-postgres is in here: what leaves are types of the domain, and errors that say what a
//! caller can do about them. Nothing in here retries: whoever calls knows whether that is sensible.

mod activity;
mod changes;
mod clock;
mod dead_letters;
mod error;
mod event_types;
mod executions;
mod handlers;
mod inbox;
mod installation;
mod migrate;
mod page;
mod pool;
mod pooler;
mod processes;
mod registry;
mod replays;
mod session;
mod sessions;
mod sql;
mod suspects;
#[cfg(test)]
pub(crate) mod testing;
mod tls;

pub use activity::{Activity, ActivityPoint, Counts, FailingHandler, HandlerCounts, Period, a_day_ago};
pub use dead_letters::{
    Closing, DeadLetterFilter, DeadLetterRow, OpenDeadLetters, StoredDeadLetter, Summary,
};
pub use error::{SqlError, StoreError};
pub use event_types::EventType;
pub use executions::{ExecutionFilter, ExecutionRow, RunKey};
pub use handlers::{HandlerFilter, HistoryEntry};
pub use inbox::{Arrived, InboxClaim};
pub use migrate::MigrationState;
pub use page::{Cursor, Page};
pub use pool::StoreSettings;
pub use processes::{EventCounts, Process, SeenProcess};
pub use registry::{RegisteredHandler, Registry};
pub use replays::{
    ClaimedItem, NewReplay, PlanLine, PlannedHandler, Refusal, Replay, ReplayItem, ReplayRun, Selection,
    Settled,
};

type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The database, through a pool of connections. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: deadpool_postgres::Pool,
    /// For what must be answered while the others are all busy: whether the database answers, who somebody is.
    reserved: deadpool_postgres::Pool,
    /// Whose turn it is to search text, which may keep a connection busy for seconds.
    text_searches: std::sync::Arc<tokio::sync::Semaphore>,
    /// For connections that are not of the pool.
    dedicated: std::sync::Arc<pool::Dialer>,
    /// What secrets are encrypted with.
    seals: std::sync::Arc<crate::domain::seal::Seals>,
}
