//! Decides whether this process is healthy, and whether it is ready.
//!
//! Ready means that its roles have what they need now; a worker needs no database once it knows its handlers. Unhealthy
//! means that only a restart can help; a failure of another service does not count.

use serde::Serialize;

use crate::domain::process::{LinkReport, ProcessReport, Role};

/// One requirement, and what is wrong with it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub name: &'static str,
    pub ok: bool,
    /// What is wrong, if it is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The result of all checks.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub ok: bool,
    pub checks: Vec<Check>,
}

impl Answer {
    fn of(checks: Vec<Check>) -> Self {
        Self { ok: checks.iter().all(|check| check.ok), checks }
    }
}

/// Whether the process can work. `database` is the problem of the database, if there is one.
pub(super) fn ready(roles: &[Role], report: &ProcessReport, database: Option<String>) -> Answer {
    let mut checks = Vec::new();
    let mut check =
        |name, problem: Option<String>| checks.push(Check { name, ok: problem.is_none(), problem });
    check("running", report.draining.then(|| "the process is draining and takes no new messages".to_owned()));
    for role in roles {
        match role {
            Role::Worker => match &report.worker {
                Some(worker) => {
                    check("worker: consume", link(&worker.consuming));
                    check("worker: publish", link(&worker.publishing));
                }
                None => check("worker: handlers", Some(waiting(database.as_deref()))),
            },
            Role::Recorder => match &report.recorder {
                Some(recorder) => check("recorder: consume", link(&recorder.link)),
                None => check("recorder", Some(waiting(database.as_deref()))),
            },
            Role::Console => {}
        }
    }
    if roles.iter().any(|role| matches!(role, Role::Recorder | Role::Console)) {
        check("database", database);
    }
    Answer::of(checks)
}

/// Whether the process is healthy.
pub(super) fn healthy(report: &ProcessReport) -> Answer {
    let wedged = report.worker.as_ref().map(|worker| &worker.wedged).filter(|wedged| !wedged.is_empty());
    let problem = wedged
        .map(|wedged| format!("the consumers of {} were restarted and are still stuck", wedged.join(", ")));
    Answer::of(vec![Check { name: "consumers", ok: problem.is_none(), problem }])
}

fn waiting(database: Option<&str>) -> String {
    database.map_or_else(
        || "not started yet".to_owned(),
        |problem| format!("waiting for the database: {problem}"),
    )
}

fn link(link: &LinkReport) -> Option<String> {
    let error = || link.trouble.as_ref().map(|last| last.error.clone());
    match link {
        LinkReport { connected: true, .. } => None,
        _ => Some(error().unwrap_or_else(|| "not connected to the broker yet".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::process::{LastError, RecorderReport, WorkerReport};

    fn worker(connected: bool) -> ProcessReport {
        let link = LinkReport { connected, ..LinkReport::default() };
        let worker = WorkerReport { consuming: link.clone(), publishing: link, ..WorkerReport::default() };
        ProcessReport { worker: Some(worker), ..ProcessReport::default() }
    }

    #[test]
    fn a_role_is_ready_if_it_has_what_it_needs() {
        let unavailable = || Some("away".to_owned());
        let recorder = ProcessReport { recorder: Some(RecorderReport::default()), ..worker(true) };
        let draining = ProcessReport { draining: true, ..worker(true) };
        for (case, roles, report, database, expected) in [
            ("a worker without its database", vec![Role::Worker], worker(true), unavailable(), true),
            ("a worker without its broker", vec![Role::Worker], worker(false), None, false),
            ("a worker that waits", vec![Role::Worker], ProcessReport::default(), None, false),
            ("a recorder without its broker", vec![Role::Recorder], recorder, None, false),
            ("a console", vec![Role::Console], ProcessReport::default(), None, true),
            (
                "a console without its database",
                vec![Role::Console],
                ProcessReport::default(),
                unavailable(),
                false,
            ),
            ("one that drains", vec![Role::Worker], draining, None, false),
        ] {
            assert_eq!(ready(&roles, &report, database).ok, expected, "{case}");
        }
    }

    #[test]
    fn it_says_what_is_wrong() {
        let mut report = worker(false);
        let lost = LastError { at: Timestamp::UNIX_EPOCH, error: "connection lost: reset".to_owned() };
        report.worker.as_mut().expect("a worker").consuming.trouble = Some(lost);
        let answer = ready(&[Role::Worker], &report, None);
        assert_eq!(answer.checks[1].problem.as_deref(), Some("connection lost: reset"));
        assert!(healthy(&report).ok, "that others are away is no fault of its own");
        report.worker.as_mut().expect("a worker").wedged = vec!["clients.create".to_owned()];
        assert!(!healthy(&report).ok);
    }
}
