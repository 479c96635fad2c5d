//! `serve`: runs the roles of this process.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{context::Context, error::CliError, settings};
use crate::{
    console,
    domain::process,
    presence::Presence,
    recorder,
    runner::Runner,
    shutdown::Shutdown,
    store::{Store, StoreError},
    worker,
};

const PAUSE: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(super) struct Args {
    /// The roles of this process, joined by commas; any number of processes may run any of them
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Role::Worker, Role::Recorder, Role::Console])]
    roles: Vec<Role>,
    /// Consume only these events: names or patterns, * for one segment and # for any number
    #[arg(long, value_delimiter = ',', default_value = "#", value_name = "PATTERN")]
    events: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    /// Takes events and runs their handlers
    Worker,
    /// Writes executions and dead letters to the database
    Recorder,
    /// Shows and changes everything in a browser, and serves the REST API
    Console,
}

impl Role {
    /// As it is told to others.
    const fn told(self) -> process::Role {
        match self {
            Self::Worker => process::Role::Worker,
            Self::Recorder => process::Role::Recorder,
            Self::Console => process::Role::Console,
        }
    }
}

pub(super) async fn run(context: Context, args: Args) -> Result<(), CliError> {
    let shutdown = Shutdown::listen()?;
    let config = &context.config;
    info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "provisiond starts");
    let runner = Arc::new(Runner::new(settings::runner(config))?);
    let store = context.store()?;
    if config.database.migrate {
        tokio::select! {
            migrated = migrate(&store) => migrated?,
            () = shutdown.draining() => return Ok(()),
        }
    }
    let presence = Presence::new(args.roles.iter().map(|role| role.told()).collect());
    let draining = shutdown.token();
    presence.tells(move |report| report.draining = draining.is_cancelled());
    let ended = CancellationToken::new();
    let telling = tokio::spawn(Arc::clone(&presence).keep(store.clone(), ended.clone()));
    let mut roles = JoinSet::new();
    let (has_worker, has_recorder) =
        (args.roles.contains(&Role::Worker), args.roles.contains(&Role::Recorder));
    // The recorder outlives the worker of its process, and writes what that recorded last.
    let recorder_stop = if has_worker { CancellationToken::new() } else { shutdown.token() };
    if has_worker {
        let settings = settings::worker(config, context.broker()?, args.events);
        let worker = worker::run(
            settings,
            Arc::clone(&runner),
            store.clone(),
            Arc::clone(&presence),
            shutdown.token(),
        );
        let recorder_stop = recorder_stop.clone();
        roles.spawn(async move {
            let ended = worker.await;
            recorder_stop.cancel();
            ended
        });
    }
    if has_recorder {
        let settings = settings::recorder(config, context.broker()?);
        let (store, presence) = (store.clone(), Arc::clone(&presence));
        roles.spawn(async move { recorder::run(settings, store, &presence, recorder_stop).await });
    }
    if args.roles.contains(&Role::Console) {
        let trials = settings::trials(config, store.clone(), runner);
        let (settings, letters) = (settings::console(config)?, context.dead_letters_in(store)?);
        roles.spawn(console::run(settings, letters, trials, shutdown.token()));
    }
    let result = tokio::select! {
        result = end(roles, &shutdown) => result,
        () = shutdown.cut() => return Err(CliError::failed("asked twice to stop: what still ran was abandoned and will be run again")),
    };
    ended.cancel();
    let _ = telling.await;
    info!("provisiond ends");
    result
}

/// Waits for every role. One that ends by itself, which is a fault of ours, ends the others.
async fn end(mut roles: JoinSet<anyhow::Result<()>>, shutdown: &Shutdown) -> Result<(), CliError> {
    let mut result = Ok(());
    while let Some(ended) = roles.join_next().await {
        let ended = ended.context("a role panicked").flatten();
        if ended.is_err() {
            result = ended;
            shutdown.begin();
        }
    }
    Ok(result?)
}

/// Whether waiting may help: the database is not there, rather than not as it should be.
fn is_unavailable(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(StoreError::Unavailable(_))))
}

/// Waits for the database; a schema that cannot be brought up to date is an error.
async fn migrate(store: &Store) -> Result<(), CliError> {
    let mut told = false;
    loop {
        match store.migrate().await {
            Ok(applied) => {
                for migration in applied {
                    info!(migration, "applied");
                }
                return Ok(());
            }
            Err(error) if is_unavailable(&error) => {
                if !std::mem::replace(&mut told, true) {
                    warn!(error = format!("{error:#}"), "waiting for Postgres; no event is taken before");
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
