//! What a process tells of itself every ten seconds, for those who look at all of them.
//!
//! Written as JSON by one version and read by another: whatever is missing takes its default, and what is unknown is
//! passed over.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{clock::ClockAhead, handler::HandlerId, text_enum::text_enum};

text_enum! {
    /// What a process does.
    Role as ProcessRole {
        /// Takes events and runs their handlers.
        Worker = "worker",
        /// Writes executions and dead letters to the database.
        Recorder = "recorder",
        /// Serves the console and the REST API.
        Console = "console",
    }
}

/// What a process tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct ProcessReport {
    /// It takes nothing new and ends soon.
    pub draining: bool,
    /// By how many milliseconds its host's clock is ahead of the database's; negative: behind.
    pub clock_ahead_ms: Option<i64>,
    /// Absent where it is none, or one that has not begun.
    pub worker: Option<WorkerReport>,
    pub recorder: Option<RecorderReport>,
}

/// How much what is said of a process matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    Well,
    /// It passes, or can wait.
    Passing,
    Trouble,
}

impl ProcessReport {
    /// How it does, in words.
    pub fn state(&self) -> (String, Concern) {
        let links = self.worker.iter().flat_map(|worker| [&worker.consuming, &worker.publishing]);
        let links: Vec<&LinkReport> =
            links.chain(self.recorder.iter().map(|recorder| &recorder.link)).collect();
        let trouble = links.iter().filter(|link| !link.connected).find_map(|link| link.trouble.as_ref());
        if let Some(trouble) = trouble {
            return (format!("broker: {}", trouble.error), Concern::Trouble);
        }
        if self.draining {
            return ("draining".to_owned(), Concern::Passing);
        }
        if links.iter().any(|link| link.blocked) {
            return ("the broker blocks publishers".to_owned(), Concern::Trouble);
        }
        if links.iter().any(|link| !link.connected) {
            return ("connecting".to_owned(), Concern::Passing);
        }
        match self.clock_ahead_ms.and_then(|millis| ClockAhead::from_millis(millis).told()) {
            Some(told) => (format!("its clock is {told}"), Concern::Trouble),
            None => ("well".to_owned(), Concern::Well),
        }
    }
}

/// What a worker tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct WorkerReport {
    /// The patterns of the events that it consumes.
    pub events: Vec<String>,
    /// Deliveries under way.
    pub in_flight: u64,
    /// Handlers that are enabled, as far as it knows.
    pub handlers: u64,
    /// When it last read them.
    pub registry_read_at: Option<Timestamp>,
    pub consuming: LinkReport,
    pub publishing: LinkReport,
    /// Of handlers that are left alone for now.
    pub circuits: Vec<CircuitReport>,
    /// Events whose consumers do not move, also after they were rebuilt.
    pub wedged: Vec<String>,
}

/// What a recorder tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct RecorderReport {
    /// Executions written since its start; what was there already is not counted.
    pub executions: u64,
    pub dead_letters: u64,
    /// When it last wrote.
    pub written_at: Option<Timestamp>,
    /// How long before that the last execution it wrote had ended.
    pub behind_ms: Option<u64>,
    pub link: LinkReport,
}

/// How one connection to the broker does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct LinkReport {
    pub connected: bool,
    /// The broker takes no messages for now.
    pub blocked: bool,
    /// Why it was lost, or not reached, the last time.
    pub trouble: Option<LastError>,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LastError {
    pub at: Timestamp,
    pub error: String,
}

text_enum! {
    /// Of a circuit breaker that is not closed.
    CircuitState {
        /// No call is made.
        Open = "open",
        /// One call is under way, and decides.
        Probing = "probing",
    }
}

/// A handler that mostly failed and is left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CircuitReport {
    pub handler_id: HandlerId,
    pub state: CircuitState,
    pub since: Timestamp,
    /// When one call will be tried.
    pub until: Option<Timestamp>,
    /// The last failure, on one line.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_other_versions_are_read() {
        let report: ProcessReport =
            serde_json::from_str(r#"{"worker": {"in_flight": 3, "moon": "full"}}"#).expect("a report");
        let worker = report.worker.expect("a worker");
        assert_eq!((worker.in_flight, worker.consuming.connected, report.draining), (3, false, false));
    }
}
