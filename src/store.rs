//! PostgreSQL: handlers and their history, the event catalogue, executions, dead letters and replays, the inbox,
//! processes and counts.
//!
//! This is the only module that uses tokio-postgres. It returns domain types, and errors that say what a caller can
//! do. It never retries: the caller knows whether a retry makes sense.

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

/// The database, through connection pools. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: deadpool_postgres::Pool,
    /// Connections for short work that must not wait for the main pool: health checks and console sessions.
    reserved: deadpool_postgres::Pool,
    /// Permits for text searches: each search may keep a connection busy for seconds.
    text_searches: std::sync::Arc<tokio::sync::Semaphore>,
    /// Opens connections outside of the pools, and cancels statements.
    dedicated: std::sync::Arc<pool::Dialer>,
    /// Encrypts and decrypts the secrets of handlers.
    seals: std::sync::Arc<crate::domain::seal::Seals>,
}
