//! `serve`: runs the roles of this process.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{context::Context, error::CliError, settings};
use crate::{
    broker::{BrokerSettings, OtherInstallation, tell_of_policies},
    console,
    domain::process,
    monitoring::{self, Listener},
    recorder::{self, RecorderSettings},
    runner::Runner,
    shutdown::Shutdown,
    status_reporter::StatusReporter,
    store::{Store, StoreError},
    telemetry::{self, metrics::Metrics},
    worker::{self, WorkerSettings},
};

const RETRY_DELAY: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(super) struct Args {
    /// Roles of this process, separated by commas; any number of processes can run the same role
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Role::Worker, Role::Recorder, Role::Console])]
    roles: Vec<Role>,
    /// Consume only these event types: names or patterns; * matches one segment, # any number
    #[arg(long, value_delimiter = ',', default_value = "#", value_name = "PATTERN")]
    events: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    /// Takes events and runs their handlers
    Worker,
    /// Writes executions and dead letters to the database
    Recorder,
    /// Serves the web console and the REST API
    Console,
}

impl Role {
    /// The role as status reports name it.
    const fn process_role(self) -> process::Role {
        match self {
            Self::Worker => process::Role::Worker,
            Self::Recorder => process::Role::Recorder,
            Self::Console => process::Role::Console,
        }
    }
}

pub(super) async fn run(context: Context, args: Args) -> Result<(), CliError> {
    let shutdown = Shutdown::listen()?;
    info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "provisiond is starting");
    let runner = Arc::new(Runner::new(settings::runner(&context.config))?);
    let store = context.store()?;
    let status_reporter = StatusReporter::new(args.roles.iter().map(|role| role.process_role()).collect());
    let draining = shutdown.token();
    status_reporter.add_report(move |report| report.draining = draining.is_cancelled());
    let listener = Listener::bind(context.config.telemetry.listen).await?;
    let monitoring =
        monitoring::serve(listener, Metrics::install()?, Arc::clone(&status_reporter), store.clone());
    let monitoring = tokio::spawn(monitoring);
    tokio::spawn(telemetry::tell_of_lost_log_lines());

    let ended = CancellationToken::new();
    let serving = Serving { context, runner, store, status_reporter, tables: CancellationToken::new() };
    let reporting = tokio::spawn(serving.report_status(ended.clone()));
    let roles = serving.start(args, &shutdown)?;
    let result = tokio::select! {
        result = wait_for_roles(roles, &shutdown) => result,
        () = shutdown.cut() => return Err(CliError::failed("received a second stop signal: handlers that still ran were interrupted and will run again")),
    };
    ended.cancel();
    let _ = reporting.await;
    monitoring.abort();
    info!("provisiond has stopped");
    result
}

/// What the roles of this process share.
struct Serving {
    context: Context,
    runner: Arc<Runner>,
    store: Store,
    status_reporter: Arc<StatusReporter>,
    /// Cancelled when the database is ready ([`prepare`]). Roles that need the tables wait for it.
    tables: CancellationToken,
}

impl Serving {
    /// Reports the status of this process to the database, from when that is ready until `ended`.
    fn report_status(&self, ended: CancellationToken) -> impl Future<Output = ()> + use<> {
        let reporting = Arc::clone(&self.status_reporter).keep(self.store.clone(), ended.clone());
        let tables = self.tables.clone();
        async move {
            tokio::select! { () = tables.cancelled() => reporting.await, () = ended.cancelled() => {} }
        }
    }

    /// Starts the roles. The console listens before the tables exist, and reports that they are missing.
    fn start(&self, args: Args, shutdown: &Shutdown) -> Result<JoinSet<anyhow::Result<()>>, CliError> {
        let (context, config) = (&self.context, &self.context.config);
        let has_role = |role| args.roles.contains(&role);
        let mut roles = JoinSet::new();
        roles.spawn(prepare(
            self.store.clone(),
            context.broker()?,
            config.database.migrate,
            self.tables.clone(),
            has_role(Role::Worker),
            shutdown.token(),
        ));
        if has_role(Role::Worker) || has_role(Role::Recorder) {
            tokio::spawn(tell_of_policies(context.broker()?, shutdown.token()));
        }
        // The recorder stops after the worker of the same process, so that it can write the last results of the worker.
        let recorder_stop = if has_role(Role::Worker) { CancellationToken::new() } else { shutdown.token() };
        if has_role(Role::Recorder) {
            let settings = RecorderSettings { config: config.recorder.clone(), broker: context.broker()? };
            let (store, status_reporter) = (self.store.clone(), Arc::clone(&self.status_reporter));
            let stop = recorder_stop.clone();
            let recorder = async move { recorder::run(settings, store, &status_reporter, stop).await };
            roles.spawn(run_when_ready(self.tables.clone(), recorder_stop.clone(), recorder));
        }
        if has_role(Role::Console) {
            let trials = settings::trials(config, self.store.clone(), Arc::clone(&self.runner));
            let dead_letters = context.dead_letters_in(self.store.clone())?;
            roles.spawn(console::run(settings::console(config)?, dead_letters, trials, shutdown.token()));
        }
        if has_role(Role::Worker) {
            let settings =
                WorkerSettings { config: config.clone(), broker: context.broker()?, events: args.events };
            let (runner, store) = (Arc::clone(&self.runner), self.store.clone());
            let worker =
                worker::run(settings, runner, store, Arc::clone(&self.status_reporter), shutdown.token());
            let worker = run_when_ready(self.tables.clone(), shutdown.token(), worker);
            roles.spawn(async move {
                let ended = worker.await;
                recorder_stop.cancel();
                ended
            });
        }
        Ok(roles)
    }
}

/// Runs `role` when the database is ready, unless `stop` comes first.
async fn run_when_ready(
    tables: CancellationToken,
    stop: CancellationToken,
    role: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::select! {
        biased;
        () = tables.cancelled() => role.await,
        () = stop.cancelled() => Ok(()),
    }
}

/// Prepares the database: refuses a transaction pooler, migrates if `may_migrate`, and claims the prefix on the broker.
/// Then it cancels `tables`.
async fn prepare(
    store: Store,
    broker: BrokerSettings,
    may_migrate: bool,
    tables: CancellationToken,
    has_worker: bool,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let preparing = async {
        let check = || async { Ok(store.refuse_transaction_pooler().await?) };
        retry_until_reachable(has_worker, check).await?;
        if may_migrate {
            for migration in retry_until_reachable(has_worker, || store.migrate()).await? {
                info!(migration, "applied migration");
            }
        }
        let claimed = claim(&store, &broker).await?;
        tables.cancel();
        warn_of_migrations(&store).await;
        if claimed == Claimed::Later {
            keep_claiming(&broker).await?;
        }
        Ok(())
    };
    stop.run_until_cancelled(preparing).await.unwrap_or(Ok(()))
}

/// The result of claiming the prefix on the broker.
#[derive(PartialEq, Eq)]
enum Claimed {
    /// Nothing is left to do: the prefix is claimed, the installation is unknown, or the broker refused.
    Done,
    /// The broker is away: try again.
    Later,
}

/// Waits until the database gives the id of the installation, and marks the broker with it.
///
/// # Errors
/// The prefix belongs to another installation.
async fn claim(store: &Store, broker: &BrokerSettings) -> anyhow::Result<Claimed> {
    let id = loop {
        match store.installation().await {
            Ok(id) => break id,
            Err(StoreError::Unavailable(_)) => tokio::time::sleep(RETRY_DELAY).await,
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                warn!(
                    error,
                    "cannot read the installation id from the database: another installation that uses this amqp.prefix is not detected"
                );
                return Ok(Claimed::Done);
            }
        }
    };
    let Some(id) = id else {
        warn!(
            "the tables are from an older version: another installation that uses this amqp.prefix is not detected; run provisiond migrate and restart"
        );
        return Ok(Claimed::Done);
    };
    broker.topology.installation.set(id);
    mark(broker).await
}

async fn mark(broker: &BrokerSettings) -> anyhow::Result<Claimed> {
    let log_unknown_owner = |error: &anyhow::Error| {
        debug!(error = format!("{error:#}"), "cannot check yet which installation owns the queues");
    };
    let connection = match broker.dial("start").await {
        Ok(connection) => connection,
        Err(error) => {
            log_unknown_owner(&error);
            return Ok(Claimed::Later);
        }
    };
    match broker.topology.mark(&connection).await {
        Err(error) if error.is::<OtherInstallation>() => return Err(error),
        // The next connection fails in the same way and logs it.
        Err(error) => log_unknown_owner(&error),
        Ok(()) => {}
    }
    Ok(Claimed::Done)
}

/// Tries again until the broker is there.
async fn keep_claiming(broker: &BrokerSettings) -> anyhow::Result<()> {
    while mark(broker).await? == Claimed::Later {
        tokio::time::sleep(RETRY_DELAY).await;
    }
    Ok(())
}

/// Waits until every role has ended. A role that fails or panics shuts the others down.
async fn wait_for_roles(mut roles: JoinSet<anyhow::Result<()>>, shutdown: &Shutdown) -> Result<(), CliError> {
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

/// Whether waiting may help: the database is unreachable, as opposed to unusable.
fn is_unavailable(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(StoreError::Unavailable(_))))
}

/// Does `work`, and repeats it while the database is unreachable.
///
/// # Errors
/// Any other failure: a database that cannot be used, a migration that fails.
async fn retry_until_reachable<T, F: Future<Output = anyhow::Result<T>>>(
    has_worker: bool,
    work: impl Fn() -> F,
) -> anyhow::Result<T> {
    let mut is_logged = false;
    loop {
        match work().await {
            Err(error) if is_unavailable(&error) => {
                if !std::mem::replace(&mut is_logged, true) {
                    let suffix = if has_worker { "; no events are taken until then" } else { "" };
                    warn!(error = format!("{error:#}"), "waiting for PostgreSQL{suffix}");
                }
                tokio::time::sleep(RETRY_DELAY).await;
            }
            ended => return ended,
        }
    }
}

/// Warns if the tables are newer or older than this version. Neither ends the process: it must stay up when it restarts
/// during an upgrade, and an operator who runs migrations separately may do so later.
async fn warn_of_migrations(store: &Store) {
    let state = loop {
        match store.migration_state().await {
            Ok(state) => break state,
            Err(_) => tokio::time::sleep(RETRY_DELAY).await,
        }
    };
    if let Some(newer) = state.newer_warning() {
        warn!("{newer}");
    }
    if !state.pending.is_empty() {
        warn!(pending = state.pending.join(", "), "the database lacks migrations: run provisiond migrate");
    }
}
