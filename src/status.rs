//! How it goes, all in one look: what went on, which processes there are, what fails, what waits.
//!
//! Many may look at the same time and every few seconds: they share one look, which is at most two seconds old. No
//! printing: the command line and the console call the same.

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

/// How long one look serves.
const CACHE_TTL: Duration = Duration::from_secs(2);
/// A process that was not heard of for this long is not shown: it tells of itself every ten seconds.
const SEEN_WITHIN: Duration = Duration::from_mins(1);
const MAX_FAILING: usize = 10;

/// How it goes.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct StatusSnapshot {
    pub activity: Activity,
    /// Those that were seen in the last minute.
    pub processes: Vec<SeenProcess>,
    /// The most failures first.
    pub failing_handlers: Vec<FailingHandler>,
    /// Those failures, and no others, are found by a search from then on.
    pub failing_since: Timestamp,
    pub open_dead_letters: OpenDeadLetters,
    pub waiting: Waiting,
    pub policies: Policies,
}

/// What waits in the broker.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
#[schema(as = WaitingInBroker)]
pub struct Waiting {
    /// Empty where the broker did not tell.
    pub queues: Vec<QueueDepth>,
    /// Queues of events that the catalogue does not know, and that no worker takes. Only where `amqp.management_url` says where
    /// to look.
    pub unknown_queues: Vec<UnknownQueue>,
    /// Retries that wait for their time.
    pub retries: Option<u64>,
    /// Those that were due more than two minutes ago and have not run; 1000: that many or more. The broker does not give them back, or
    /// no worker has time for them.
    pub overdue_retries: u64,
    /// Why it did not tell.
    pub error: Option<String>,
}

/// The policies on the queues, where `amqp.management_url` says where to look.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct Policies {
    /// Those that lose messages, or hurry them.
    pub harmful: Vec<HarmfulPolicy>,
    /// Why they are not known.
    pub error: Option<String>,
}

type Seen = Mutex<Option<(Instant, Arc<StatusSnapshot>)>>;

/// Looks.
pub struct StatusWatch {
    store: Store,
    queues: QueueWatch,
    policies: PolicyWatch,
    hour: Seen,
    day: Seen,
}

impl StatusWatch {
    pub fn new(store: Store, broker: BrokerSettings) -> Self {
        let (queues, policies) = (QueueWatch::new(broker.clone()), PolicyWatch::new(broker));
        Self { store, queues, policies, hour: Seen::default(), day: Seen::default() }
    }

    /// How it goes, as it was at most two seconds ago. That the broker is away is part of the picture.
    pub async fn snapshot(&self, period: Period) -> Result<Arc<StatusSnapshot>, StoreError> {
        let mut seen = match period {
            Period::Hour => self.hour.lock().await,
            Period::Day => self.day.lock().await,
        };
        if let Some((at, picture)) = &*seen
            && at.elapsed() < CACHE_TTL
        {
            return Ok(Arc::clone(picture));
        }
        let picture = Arc::new(Box::pin(self.look_now(period)).await?);
        *seen = Some((Instant::now(), Arc::clone(&picture)));
        Ok(picture)
    }

    async fn look_now(&self, period: Period) -> Result<StatusSnapshot, StoreError> {
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
            Ok(found) => {
                let harmful = found.map(|found| found.policies.clone()).unwrap_or_default();
                Policies { harmful, error: None }
            }
            Err(error) => Policies { harmful: Vec::new(), error: Some(error) },
        }
    }

    /// The queues of the catalogue, and those that all events share.
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
