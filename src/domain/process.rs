//! The status report that each process writes every ten seconds.
//!
//! It is JSON that one version writes and another version reads: missing fields get their defaults, and unknown
//! fields are ignored.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{clock::ClockAhead, handler::HandlerId, text_enum::text_enum};

text_enum! {
    /// A role of a process.
    Role as ProcessRole {
        /// Takes events and runs their handlers.
        Worker = "worker",
        /// Writes executions and dead letters to the database.
        Recorder = "recorder",
        /// Serves the console and the REST API.
        Console = "console",
    }
}

/// The status of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct ProcessReport {
    /// The process takes no new events and ends soon.
    pub draining: bool,
    /// How many milliseconds its host's clock is ahead of the database's clock; negative if it is behind.
    pub clock_ahead_ms: Option<i64>,
    /// Absent if the process has no worker, or the worker has not started.
    pub worker: Option<WorkerReport>,
    pub recorder: Option<RecorderReport>,
}

/// How urgent the state of a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    Well,
    /// It is temporary, or can wait.
    Passing,
    Trouble,
}

impl ProcessReport {
    /// The state of the process in words, and how urgent it is.
    pub fn state(&self) -> (String, Concern) {
        let links = self.worker.iter().flat_map(|worker| [&worker.consuming, &worker.publishing]);
        let links: Vec<&LinkReport> =
            links.chain(self.recorder.iter().map(|recorder| &recorder.link)).collect();
        let last_error = links.iter().filter(|link| !link.connected).find_map(|link| link.trouble.as_ref());
        if let Some(last_error) = last_error {
            return (format!("broker: {}", last_error.error), Concern::Trouble);
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
            Some(difference) => (format!("its clock is {difference}"), Concern::Trouble),
            None => ("healthy".to_owned(), Concern::Well),
        }
    }
}

/// The status of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct WorkerReport {
    /// The patterns of the events that it consumes.
    pub events: Vec<String>,
    /// Deliveries that it processes now.
    pub in_flight: u64,
    /// Number of enabled handlers that it has loaded.
    pub handlers: u64,
    /// When it last loaded the handlers.
    pub registry_read_at: Option<Timestamp>,
    pub consuming: LinkReport,
    pub publishing: LinkReport,
    /// Circuit breakers that are not closed.
    pub circuits: Vec<CircuitReport>,
    /// Events whose consumer is still stuck after it was restarted.
    pub wedged: Vec<String>,
}

/// The status of a recorder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct RecorderReport {
    /// Executions written since its start, without those that were already in the database.
    pub executions: u64,
    pub dead_letters: u64,
    /// When it last wrote.
    pub written_at: Option<Timestamp>,
    /// The time between the end of the last execution of that write and the write.
    pub behind_ms: Option<u64>,
    pub link: LinkReport,
}

/// The status of one connection to the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct LinkReport {
    pub connected: bool,
    /// The broker blocks publishers.
    pub blocked: bool,
    /// Why the connection was last lost or could not be made.
    pub trouble: Option<LastError>,
}

/// An error, and when it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LastError {
    pub at: Timestamp,
    pub error: String,
}

text_enum! {
    /// The state of a circuit breaker that is not closed.
    CircuitState {
        /// No call is made.
        Open = "open",
        /// One probe call is running, and decides whether the circuit closes.
        Probing = "probing",
    }
}

/// A circuit breaker that is not closed, and its handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CircuitReport {
    pub handler_id: HandlerId,
    pub state: CircuitState,
    pub since: Timestamp,
    /// When the next probe call is due.
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
