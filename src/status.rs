//! The status of the installation: activity, processes, failing handlers, dead letters and queues.
//!
//! All callers share one snapshot, which is at most two seconds old, because many may read it every few
//! seconds. This module prints nothing: the command line and the console call the same functions.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::{
    broker::{BrokerSettings, HarmfulPolicy, PolicyWatch, QueueDepth, QueueWatch, UnknownQueue},
    store::{Activity, FailingHandler, OpenDeadLetters, Period, SeenProcess, Store, StoreError, a_day_ago},
};

/// How long a snapshot is reused.
const CACHE_TTL: Duration = Duration::from_secs(2);
/// A process without a report for this long is not shown; a process reports every ten seconds.
const SEEN_WITHIN: Duration = Duration::from_mins(1);
const MAX_FAILING: usize = 10;

/// The status of the installation.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct StatusSnapshot {
    pub activity: Activity,
    /// Processes that reported within the last minute.
    pub processes: Vec<SeenProcess>,
    /// Handlers with failures, the most failures first.
    pub failing_handlers: Vec<FailingHandler>,
    /// Start of the period that `failing_handlers` counts. A search for executions from then on finds the
    /// same failures.
    pub failing_since: Timestamp,
    pub open_dead_letters: OpenDeadLetters,
    pub waiting: Waiting,
    pub policies: Policies,
}

/// Messages that wait in the broker.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
#[schema(as = WaitingInBroker)]
pub struct Waiting {
    /// Queue depths. Empty if the broker did not answer.
    pub queues: Vec<QueueDepth>,
    /// Queues of event types that are not in the catalogue, so that no worker consumes them. Only known if
    /// `amqp.management_url` is set.
    pub unknown_queues: Vec<UnknownQueue>,
    /// Retries that wait in the delay ladder.
    pub retries: Option<u64>,
    /// Retries that were due more than two minutes ago and have not run; 1000 means that many or more. The
    /// broker does not deliver them, or the workers are too busy.
    pub overdue_retries: u64,
    /// Why the broker did not answer.
    pub error: Option<String>,
}

/// Policies on the queues. Only known if `amqp.management_url` is set.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct Policies {
    /// Policies that lose messages, shorten the delay of retries, or interrupt running handlers.
    pub harmful: Vec<HarmfulPolicy>,
    /// Why the policies are not known.
    pub error: Option<String>,
}

type Cache = Mutex<Option<(Instant, Arc<StatusSnapshot>)>>;

/// Reads the status and caches it.
pub struct StatusWatch {
    store: Store,
    queues: QueueWatch,
    policies: PolicyWatch,
    hour: Cache,
    day: Cache,
}

impl StatusWatch {
    pub fn new(store: Store, broker: BrokerSettings) -> Self {
        let (queues, policies) = (QueueWatch::new(broker.clone()), PolicyWatch::new(broker));
        Self { store, queues, policies, hour: Cache::default(), day: Cache::default() }
    }

    /// Returns a snapshot that is at most two seconds old. If the broker is away, the snapshot says so.
    pub async fn snapshot(&self, period: Period) -> Result<Arc<StatusSnapshot>, StoreError> {
        let mut cache = match period {
            Period::Hour => self.hour.lock().await,
            Period::Day => self.day.lock().await,
        };
        if let Some((read_at, snapshot)) = &*cache
            && read_at.elapsed() < CACHE_TTL
        {
            return Ok(Arc::clone(snapshot));
        }
        let snapshot = Arc::new(Box::pin(self.read(period)).await?);
        *cache = Some((Instant::now(), Arc::clone(&snapshot)));
        Ok(snapshot)
    }

    async fn read(&self, period: Period) -> Result<StatusSnapshot, StoreError> {
        let store = &self.store;
        let policies = async { Ok::<_, StoreError>(self.policies().await) };
        let (activity, processes, failing_handlers, open_dead_letters, waiting, policies) = tokio::try_join!(
            store.activity(period),
            store.list_processes(SEEN_WITHIN),
            store.failing_handlers(MAX_FAILING),
            store.open_dead_letters(MAX_FAILING),
            self.waiting(),
            policies,
        )?;
        let failing_since = a_day_ago();
        Ok(StatusSnapshot {
            activity,
            processes,
            failing_handlers,
            failing_since,
            open_dead_letters,
            waiting,
            policies,
        })
    }

    async fn policies(&self) -> Policies {
        match self.policies.look().await {
            Ok(managed) => {
                let harmful = managed.map(|managed| managed.policies.clone()).unwrap_or_default();
                Policies { harmful, error: None }
            }
            Err(error) => Policies { harmful: Vec::new(), error: Some(error) },
        }
    }

    /// The depths of the queues of the catalogue and of the shared queues.
    pub async fn waiting(&self) -> Result<Waiting, StoreError> {
        let types = self.store.list_event_types(true).await?;
        let managed = self.policies.look().await.ok().flatten();
        let mut unknown_queues = managed.map(|managed| managed.event_queues.clone()).unwrap_or_default();
        unknown_queues.retain(|queue| types.iter().all(|known| known.name != queue.event));
        let catalogue = types.into_iter().filter(|known| known.removed_at.is_none());
        let events: Vec<_> = catalogue.map(|known| known.name).collect();
        let overdue_retries = self.store.overdue_retries().await?;
        Ok(match self.queues.look(&events).await {
            Ok(depths) => Waiting {
                queues: depths.queues.clone(),
                unknown_queues,
                retries: Some(depths.retries_waiting()),
                overdue_retries,
                error: None,
            },
            Err(error) => Waiting {
                unknown_queues,
                overdue_retries,
                error: Some(format!("{error:#}")),
                ..Waiting::default()
            },
        })
    }
}
