//! `check`: says of each thing that is needed that it is there, or what is wrong and what to do.

use std::{fmt::Write as _, path::Path};

use serde::Serialize;

use super::{context::Context, error::CliError, settings};
use crate::{
    broker::{QueueType, queue_depth},
    config::Config,
    domain::{
        handler::{Handler, Status},
        task::Task,
    },
    runner::locate,
    store::{HandlerFilter, Store},
};

/// As many handlers as there may be.
const ALL: usize = 1_000_000;

/// One line of the report.
#[derive(Serialize)]
struct Finding {
    what: &'static str,
    state: State,
    /// What was found, and what to do about it.
    found: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// It works, and something is given up.
    Warning,
    Failed,
}

pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let mut report = vec![ok("configuration", "every key is known and valid".into())];
    let store = context.store()?;
    check_broker(context, &mut report).await;
    let handlers = check_database(&store, &mut report).await;
    check_scripts(&context.config, &handlers, &mut report);
    check_timeouts(&context.config, &handlers, &mut report);
    context.output.value(&report, |report| text(report))?;
    if report.iter().any(|finding| finding.state == State::Failed) { Err(CliError::Told) } else { Ok(()) }
}

fn text(report: &[Finding]) -> String {
    report.iter().fold(String::new(), |mut text, finding| {
        let word = match finding.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failed => "FAILED",
        };
        let _ = writeln!(text, "{:<14} {word:<8} {}", finding.what, finding.found);
        text
    })
}

const fn finding(what: &'static str, state: State, found: String) -> Finding {
    Finding { what, state, found }
}

const fn ok(what: &'static str, found: String) -> Finding {
    finding(what, State::Ok, found)
}

async fn check_broker(context: &Context, report: &mut Vec<Finding>) {
    let failed =
        |error: anyhow::Error, hint: &str| finding("broker", State::Failed, format!("{error:#}; {hint}"));
    let broker = match settings::broker(&context.config) {
        Ok(broker) => broker,
        Err(error) => return report.push(failed(error, "see amqp.ca_file")),
    };
    let connection = match broker.dial("check").await {
        Ok(connection) => connection,
        Err(error) => return report.push(failed(error, "is RabbitMQ running, and is amqp.url right?")),
    };
    report.push(ok("broker", "connected".into()));
    if broker.topology.queue_type == QueueType::Classic {
        let given_up = "amqp.queue_type is classic: no crash limit, and a crash of the broker between two levels of the delay ladder can lose a retry";
        report.push(finding("queues", State::Warning, given_up.into()));
    }
    match broker.topology.declare(&connection).await {
        Ok(declared) if declared.drifts.is_empty() => {
            report.push(ok("topology", "exchanges and queues are as designed".into()));
        }
        Ok(declared) => report.extend(declared.drifts.into_iter().map(|drift| {
            finding(
                "topology",
                State::Warning,
                format!("{} exists otherwise and is used as it is: {}", drift.name, drift.what),
            )
        })),
        Err(error) => report.push(finding(
            "topology",
            State::Failed,
            format!(
                "{error:#}; the user of amqp.url needs to configure, write and read {}.*",
                context.config.amqp.prefix
            ),
        )),
    }
    let names = &broker.topology.names;
    for (what, queue) in [
        ("execution log", names.execution_log()),
        ("dead letters", names.dead_letters()),
        ("unrouted", names.unrouted()),
    ] {
        if let Ok(Some(depth)) = queue_depth(&connection, &queue).await {
            let waiting = format!("{} waiting in {queue}", depth.messages);
            let stuck = depth.messages > 0
                && depth.consumers == 0
                && (what != "dead letters" || context.config.recorder.drain_dead_letters);
            report.push(if stuck {
                finding(
                    what,
                    State::Warning,
                    format!("{waiting} and nobody records them: run provisiond serve --roles recorder"),
                )
            } else {
                ok(what, waiting)
            });
        }
    }
}

/// Also gives the handlers, if they can be read.
async fn check_database(store: &Store, report: &mut Vec<Finding>) -> Vec<Handler> {
    if let Err(error) = store.ping().await {
        let found = format!(
            "{:#}; is PostgreSQL running, does the database exist, and is database.url right?",
            anyhow::Error::new(error)
        );
        report.push(finding("database", State::Failed, found));
        return Vec::new();
    }
    report.push(ok("database", "connected".into()));
    match store.migration_state().await {
        Ok(state) if state.pending.is_empty() && state.newer.is_empty() && state.differing.is_empty() => {
            report.push(ok("migrations", format!("{} applied", state.applied.len())));
        }
        Ok(state) => {
            let (pending, newer) =
                (state.pending.join(", "), [state.newer, state.differing].concat().join(", "));
            report.push(if newer.is_empty() {
                finding("migrations", State::Failed, format!("not applied: {pending}; run provisiond migrate"))
            } else {
                finding("migrations", State::Failed, format!("the database has migrations that this program does not know ({newer}): run the version of provisiond that made them"))
            });
            return Vec::new();
        }
        Err(error) => {
            report.push(finding("migrations", State::Failed, format!("{:#}", anyhow::Error::new(error))));
            return Vec::new();
        }
    }
    match store.list_handlers(&HandlerFilter::default(), ALL).await {
        Ok(handlers) => {
            let enabled = handlers.iter().filter(|h| h.spec.status == Status::Enabled).count();
            report.push(ok("handlers", format!("{enabled} enabled, {} disabled", handlers.len() - enabled)));
            handlers
        }
        Err(error) => {
            report.push(finding("handlers", State::Failed, format!("{:#}", anyhow::Error::new(error))));
            Vec::new()
        }
    }
}

fn check_scripts(config: &Config, handlers: &[Handler], report: &mut Vec<Finding>) {
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

fn check_timeouts(config: &Config, handlers: &[Handler], report: &mut Vec<Finding>) {
    let drain = config.worker.drain_timeout;
    for handler in handlers {
        let default = match handler.spec.task {
            Task::Http { .. } => config.http.timeout,
            Task::Script { .. } => config.script.timeout,
        };
        let timeout = handler.spec.timeout.map_or(default, super::super::domain::handler::Timeout::duration);
        if timeout > drain {
            let found = format!(
                "handler {} ({}) may take {timeout:?}, longer than worker.drain_timeout {drain:?}: a shutdown can cut it, and it runs again",
                handler.id, handler.spec.name
            );
            report.push(finding("drain", State::Warning, found));
        }
    }
}
