//! What all deliveries of a worker share.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    admission::Admission, attempt::Attempts, breaker::Breakers, event_run::RunContext, slots::Slots,
    watchdog::Watchdog,
};
use crate::{
    broker::{BrokerSettings, Link},
    config::Config,
    runner::Runner,
    telemetry::metrics::HandlerMeters,
};

/// What a worker is started with.
pub struct WorkerSettings {
    pub config: Config,
    pub broker: BrokerSettings,
    /// Topic patterns: the worker consumes the event types that match one of them.
    pub events: Vec<String>,
}

pub(super) struct Shared {
    pub settings: WorkerSettings,
    pub context: RunContext,
    pub admission: Admission,
    pub attempts: Attempts,
    pub watchdog: Arc<Watchdog>,
    pub consuming: Link,
    pub publishing: Link,
    /// Tasks that must end before the process does: running deliveries, and the deletion of suspects.
    pub deliveries: TaskTracker,
    /// Cancelled when the drain timeout is over: running handlers are aborted.
    pub abort: CancellationToken,
}

impl Shared {
    pub(super) fn new(
        settings: WorkerSettings,
        context: RunContext,
        runner: Arc<Runner>,
        [consuming, publishing]: [Link; 2],
    ) -> Arc<Self> {
        let Config { worker, script, telemetry, .. } = &settings.config;
        let deliveries = TaskTracker::new();
        let links = [consuming.clone(), publishing.clone()];
        let watchdog = Arc::new(Watchdog::new(links, Arc::clone(&context.registry), script.kill_grace));
        let admission = Admission::new(
            &context.store,
            worker.deduplicate,
            worker.crash_limit,
            &deliveries,
            &context.draining,
        );
        let attempts = Attempts {
            runner,
            slots: Slots::new(script.concurrency),
            breakers: Breakers::default(),
            meters: HandlerMeters::new(telemetry.handler_series),
            watchdog: Arc::clone(&watchdog),
        };
        let abort = CancellationToken::new();
        Arc::new(Self {
            settings,
            context,
            admission,
            attempts,
            watchdog,
            consuming,
            publishing,
            deliveries,
            abort,
        })
    }
}
