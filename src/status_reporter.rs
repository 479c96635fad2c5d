//! Reports the state of this process: a row in the database every ten seconds, and metrics.
//!
//! No event waits for it and no role depends on it. While Postgres is away, nothing is reported; events are
//! counted and reported later. Each role adds its part to the report. The row is deleted when the process
//! ends.

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
/// Time limit for the last report of a process that ends.
const FINAL_REPORT_TIMEOUT: Duration = Duration::from_secs(2);

type Part = Box<dyn Fn(&mut ProcessReport) + Send + Sync>;
type MetricsPart = Box<dyn Fn(&mut Exposition) + Send + Sync>;

/// Reports the state of this process.
pub struct StatusReporter {
    process: Process,
    parts: Mutex<Vec<Part>>,
    metrics: Mutex<Vec<MetricsPart>>,
    /// Requests a report now, because a part was added.
    report_now: Notify,
    /// First deliveries since the last report, by event type.
    event_counts: Mutex<HashMap<EventName, u64>>,
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
            metrics: Mutex::default(),
            report_now: Notify::new(),
            event_counts: Mutex::default(),
            clock: Mutex::default(),
        })
    }

    /// Adds `part` to every report from now on.
    pub fn add_report(&self, part: impl Fn(&mut ProcessReport) + Send + Sync + 'static) {
        self.parts.lock().push(Box::new(part));
        self.report_now.notify_one();
    }

    /// Adds `part` to the metrics that are computed on request.
    pub fn add_metrics(&self, part: impl Fn(&mut Exposition) + Send + Sync + 'static) {
        self.metrics.lock().push(Box::new(part));
    }

    /// Writes the metrics of all parts.
    pub fn show(&self, exposition: &mut Exposition) {
        self.metrics.lock().iter().for_each(|part| part(exposition));
    }

    pub fn roles(&self) -> &[Role] {
        &self.process.roles
    }

    /// Counts the first delivery of an event.
    pub fn count_event(&self, event: &EventName) {
        let mut event_counts = self.event_counts.lock();
        match event_counts.get_mut(event) {
            Some(count) => *count += 1,
            None => drop(event_counts.insert(event.clone(), 1)),
        }
    }

    /// Reports until `stop`, which must be cancelled after the roles have ended.
    pub async fn keep(self: Arc<Self>, store: Store, stop: CancellationToken) {
        let mut unreported = EventCounts::new();
        let reporting = async {
            loop {
                self.send_report(&store, &mut unreported).await;
                tokio::select! { () = self.report_now.notified() => {}, () = tokio::time::sleep(REPORT_INTERVAL) => {} }
            }
        };
        tokio::select! { () = stop.cancelled() => {}, () = reporting => {} }
        let final_report = async {
            self.send_report(&store, &mut unreported).await;
            store.forget_process(self.process.id).await
        };
        if !matches!(tokio::time::timeout(FINAL_REPORT_TIMEOUT, final_report).await, Ok(Ok(()))) {
            debug!("cannot remove this process from the list of processes; it is removed later");
        }
    }

    async fn send_report(&self, store: &Store, unreported: &mut EventCounts) {
        let now = Timestamp::now();
        let minute = TimestampRound::new().smallest(Unit::Minute).mode(jiff::RoundMode::Trunc);
        let minute = now.round(minute).unwrap_or(now);
        let event_counts = std::mem::take(&mut *self.event_counts.lock());
        for (event, count) in event_counts {
            *unreported.entry((minute, event)).or_default() += count;
        }
        unreported.retain(|(minute, _), _| now - 24.hours() < *minute);
        self.compare_clocks(store).await;
        let process = Process { report: self.report(), ..self.process.clone() };
        match store.report_process(&process, unreported).await {
            Ok(()) => unreported.clear(),
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                debug!(error, "cannot report the status of this process");
            }
        }
    }

    /// Logs when this host's clock starts to differ from the database's, and when they agree again.
    async fn compare_clocks(&self, store: &Store) {
        let Ok(ahead) = store.clock_ahead().await else { return };
        let before = self.clock.lock().replace(ahead);
        match (before.and_then(ClockAhead::told), ahead.told()) {
            (None, Some(difference)) => {
                warn!(
                    "this host's clock is {difference}: recorded times are wrong; set the clock, preferably by NTP"
                );
            }
            (Some(_), None) => info!("this host's clock agrees with the database's again"),
            _ => {}
        }
    }

    /// Builds the report from the parts of all roles.
    pub fn report(&self) -> ProcessReport {
        let clock_ahead_ms = self.clock.lock().map(ClockAhead::millis);
        let mut report = ProcessReport { clock_ahead_ms, ..ProcessReport::default() };
        self.parts.lock().iter().for_each(|part| part(&mut report));
        report
    }
}
