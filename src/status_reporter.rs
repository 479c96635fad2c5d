//! What this process tells of itself: a row in the database every ten seconds, for the overview.
//!
//! Off the hot path, and no role depends on it: with Postgres away nothing is told, and events that were counted
//! meanwhile are told later. Each role adds its part to the report; the row goes when the process ends.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::{Timestamp, TimestampRound, ToSpan, Unit};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::{
    domain::{
        clock::ClockAhead,
        event::EventName,
        process::{ProcessReport, Role},
    },
    process_id::this_process,
    store::{EventCounts, Process, Store},
    telemetry::metrics::Exposition,
};

const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// For the last words of a process that ends.
const FINAL_REPORT_TIMEOUT: Duration = Duration::from_secs(2);

type Part = Box<dyn Fn(&mut ProcessReport) + Send + Sync>;
type Shown = Box<dyn Fn(&mut Exposition) + Send + Sync>;

/// This process, as others see it.
pub struct StatusReporter {
    process: Process,
    parts: Mutex<Vec<Part>>,
    shown: Mutex<Vec<Shown>>,
    /// There is more to tell: not to be waited for.
    grown: Notify,
    /// Events that were taken since the last report.
    taken: Mutex<HashMap<EventName, u64>>,
    clock: Mutex<Option<ClockAhead>>,
}

impl StatusReporter {
    pub fn new(roles: Vec<Role>) -> Arc<Self> {
        let process = Process {
            id: Uuid::now_v7(),
            who: this_process(),
            roles,
            started_at: Timestamp::now(),
            report: ProcessReport::default(),
        };
        Arc::new(Self {
            process,
            parts: Mutex::default(),
            shown: Mutex::default(),
            grown: Notify::new(),
            taken: Mutex::default(),
            clock: Mutex::default(),
        })
    }

    /// From now on `part` is asked for each report.
    pub fn add_report(&self, part: impl Fn(&mut ProcessReport) + Send + Sync + 'static) {
        self.parts.lock().push(Box::new(part));
        self.grown.notify_one();
    }

    /// From now on `part` adds to what is shown with the metrics.
    pub fn add_metrics(&self, part: impl Fn(&mut Exposition) + Send + Sync + 'static) {
        self.shown.lock().push(Box::new(part));
    }

    /// What is shown with the metrics.
    pub fn show(&self, exposition: &mut Exposition) {
        self.shown.lock().iter().for_each(|part| part(exposition));
    }

    pub fn roles(&self) -> &[Role] {
        &self.process.roles
    }

    /// Counts an event that was taken from its queue.
    pub fn count_event(&self, event: &EventName) {
        let mut taken = self.taken.lock();
        match taken.get_mut(event) {
            Some(count) => *count += 1,
            None => drop(taken.insert(event.clone(), 1)),
        }
    }

    /// Tells of this process until `stop`, which is to come after its roles have ended.
    pub async fn keep(self: Arc<Self>, store: Store, stop: CancellationToken) {
        let mut untold = EventCounts::new();
        let telling = async {
            loop {
                self.send_report(&store, &mut untold).await;
                tokio::select! { () = self.grown.notified() => {}, () = tokio::time::sleep(REPORT_INTERVAL) => {} }
            }
        };
        tokio::select! { () = stop.cancelled() => {}, () = telling => {} }
        let farewell = async {
            self.send_report(&store, &mut untold).await;
            store.forget_process(self.process.id).await
        };
        if !matches!(tokio::time::timeout(FINAL_REPORT_TIMEOUT, farewell).await, Ok(Ok(()))) {
            debug!("this process stays in the list of processes until it is found silent");
        }
    }

    async fn send_report(&self, store: &Store, untold: &mut EventCounts) {
        let now = Timestamp::now();
        let minute = TimestampRound::new().smallest(Unit::Minute).mode(jiff::RoundMode::Trunc);
        let minute = now.round(minute).unwrap_or(now);
        let taken = std::mem::take(&mut *self.taken.lock());
        for (event, count) in taken {
            *untold.entry((minute, event)).or_default() += count;
        }
        untold.retain(|(minute, _), _| now - 24.hours() < *minute);
        self.compare_clocks(store).await;
        let process = Process { report: self.report(), ..self.process.clone() };
        match store.report_process(&process, untold).await {
            Ok(()) => untold.clear(),
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                debug!(error, "this process cannot tell of itself");
            }
        }
    }

    /// Tells when this host's clock begins to differ from the database's, and when they agree again.
    async fn compare_clocks(&self, store: &Store) {
        let Ok(ahead) = store.clock_ahead().await else { return };
        let before = self.clock.lock().replace(ahead);
        match (before.and_then(ClockAhead::told), ahead.told()) {
            (None, Some(told)) => {
                warn!("this host's clock is {told}: times are recorded wrongly; set it, as a rule by NTP");
            }
            (Some(_), None) => info!("this host's clock agrees with the database's again"),
            _ => {}
        }
    }

    /// What its roles tell now.
    pub fn report(&self) -> ProcessReport {
        let clock_ahead_ms = self.clock.lock().map(ClockAhead::millis);
        let mut report = ProcessReport { clock_ahead_ms, ..ProcessReport::default() };
        self.parts.lock().iter().for_each(|part| part(&mut report));
        report
    }
}
