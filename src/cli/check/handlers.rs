//! What the enabled handlers need: their scripts, and time to end.

use std::path::Path;

use super::report::{Finding, State, finding, ok};
use crate::{
    config::Config,
    domain::{
        handler::{Handler, Status, Timeout},
        task::Task,
    },
    runner::locate,
};

pub(super) fn check_scripts(config: &Config, handlers: &[Handler], report: &mut Vec<Finding>) {
    let scripts: Vec<_> = handlers
        .iter()
        .filter(|h| h.spec.status == Status::Enabled)
        .filter_map(|h| match &h.spec.task {
            Task::Script { path, .. } => Some((h, path)),
            Task::Http { .. } => None,
        })
        .collect();
    let roots = &config.script.roots;
    for root in roots.iter().filter(|root| !Path::new(root).is_dir()) {
        report.push(finding(
            "script root",
            State::Failed,
            format!("{} is no directory that can be read (script.roots)", root.display()),
        ));
    }
    match (roots.is_empty(), scripts.is_empty()) {
        (true, true) => {
            report.push(ok("script roots", "none: script handlers are refused (script.roots)".into()));
        }
        (true, false) => {
            let found = format!(
                "none, but {} script handlers are enabled and will fail: set script.roots",
                scripts.len()
            );
            report.push(finding("script roots", State::Failed, found));
        }
        (false, _) if roots.iter().any(|root| !Path::new(root).is_dir()) => {}
        (false, _) => report.push(ok(
            "script roots",
            roots.iter().map(|r| r.display().to_string()).collect::<Vec<_>>().join(", "),
        )),
    }
    for (handler, path) in scripts {
        if let Err(why) = locate(roots, path) {
            report.push(finding(
                "script",
                State::Failed,
                format!("handler {} ({}): {why}", handler.id, handler.spec.name),
            ));
        }
    }
}

pub(super) fn check_timeouts(config: &Config, handlers: &[Handler], report: &mut Vec<Finding>) {
    let drain = config.worker.drain_timeout;
    for handler in handlers {
        let default = match handler.spec.task {
            Task::Http { .. } => config.http.timeout.duration(),
            Task::Script { .. } => config.script.timeout.duration(),
        };
        let timeout = handler.spec.timeout.map_or(default, Timeout::duration);
        if timeout > drain {
            let found = format!(
                "handler {} ({}) may take {timeout:?}, longer than worker.drain_timeout {drain:?}: a shutdown can cut it, and it runs again",
                handler.id, handler.spec.name
            );
            report.push(finding("drain", State::Warning, found));
        }
    }
}
