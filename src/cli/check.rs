//! `check`: checks everything that provisiond needs, and says what is wrong and how to repair it.

mod certificates;
mod handlers;
mod migrations;
mod report;
pub(super) mod secrets;

use super::{context::Context, error::CliError, handlers::ALL_HANDLERS, settings};
use crate::{
    broker::{
        ArgumentMismatch, BrokerSettings, Connection, Harm, HarmfulPolicy, Managed, Mark, Names, Topology,
        installation_name, look_at_mark, managed, queue_depth, queues_of,
    },
    config::QueueType,
    domain::{
        clock::ClockAhead,
        handler::{Handler, Status},
    },
    store::{HandlerFilter, Store},
};
use handlers::{check_http, check_scripts, check_timeouts};
use migrations::migrations;
use report::{Finding, State, finding, ok, text};

pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let mut report = vec![ok("configuration", "every key is known and valid".into())];
    let store = context.store()?;
    check_broker(context, &store, &mut report).await;
    let handlers = check_database(&store, &mut report).await;
    check_http(&context.config, &handlers, &mut report);
    report.extend(certificates::expired(&context.config));
    if !handlers.is_empty() {
        secrets::check(&context.config, &store, &handlers, &mut report).await;
    }
    check_scripts(&context.config, &handlers, &mut report);
    check_timeouts(&context.config, &handlers, &mut report);
    context.output.value(&report, |report| text(report))?;
    if report.iter().any(|finding| finding.state == State::Failed) { Err(CliError::Reported) } else { Ok(()) }
}

async fn check_broker(context: &Context, store: &Store, report: &mut Vec<Finding>) {
    let failed =
        |error: anyhow::Error, hint: &str| finding("broker", State::Failed, format!("{error:#}; {hint}"));
    let broker = match settings::broker(&context.config) {
        Ok(broker) => broker,
        Err(error) => return report.push(failed(error, "check amqp.ca_file")),
    };
    let connection = match broker.dial("check").await {
        Ok(connection) => connection,
        Err(error) => return report.push(failed(error, "is RabbitMQ running, and is amqp.url right?")),
    };
    report.push(version(&broker).await);
    if broker.topology.queue_type == QueueType::Classic {
        let drawback = "amqp.queue_type is classic: no crash limit, and a crash of the broker between two levels of the delay ladder can lose a retry";
        report.push(finding("queues", State::Warning, drawback.into()));
    }
    if let Ok(types) = store.list_event_types(false).await {
        broker.topology.set_events(types.into_iter().map(|t| t.name).collect());
    }
    match broker.topology.inspect(&connection).await {
        Ok(inspection) => report.extend(topology(inspection.mismatches, &inspection.missing)),
        Err(error) => {
            let prefix = &context.config.amqp.prefix;
            let hint = format!("the user of amqp.url needs configure, write and read rights on {prefix}.*");
            report.push(finding("topology", State::Failed, format!("{error:#}; {hint}")));
        }
    }
    let managed = managed(&broker).await;
    report.extend(policies(&managed));
    report.extend(unknown_queues(&connection, store, &broker.topology.names, &managed).await);
    report.extend(installation(&connection, store, &broker.topology.names).await);
    report.push(event_queues(&connection, &broker.topology).await);
    if let Ok(overdue @ 1..) = store.overdue_retries().await {
        report.push(finding("retries", State::Warning, overdue_warning(overdue)));
    }
    let names = &broker.topology.names;
    for (label, queue) in [
        ("execution log", names.execution_log()),
        ("dead letters", names.dead_letters()),
        ("unrouted", names.unrouted()),
    ] {
        if let Ok(Some(depth)) = queue_depth(&connection, &queue).await {
            let waiting = format!("{} waiting in {queue}", depth.messages);
            let stuck = depth.messages > 0
                && depth.consumers == 0
                && (label != "dead letters" || context.config.recorder.drain_dead_letters);
            report.push(if stuck {
                finding(
                    label,
                    State::Warning,
                    format!("{waiting}, but no recorder takes them: run provisiond serve --roles recorder"),
                )
            } else {
                ok(label, waiting)
            });
        }
    }
}

/// The version of the broker, and a warning if one message can end dead-lettering on it.
async fn version(broker: &BrokerSettings) -> Finding {
    match broker.server().await {
        Ok(server) if server.can_stop_dead_lettering() => finding(
            "broker",
            State::Warning,
            format!(
                "{server}: a single published message can stop dead-lettering on the whole node, and then no \
                 retry runs any more; RabbitMQ 4.0 and later are not affected (docs/upgrade.md)"
            ),
        ),
        Ok(server) => ok("broker", format!("connected to {server}")),
        Err(error) => ok("broker", format!("connected; cannot read its version: {error:#}")),
    }
}

/// One finding for each harmful policy.
fn policies(managed: &anyhow::Result<Option<Managed>>) -> Vec<Finding> {
    match managed {
        Ok(Some(managed)) if managed.policies.is_empty() => {
            vec![ok("policies", "no policy on the queues is harmful".into())]
        }
        Ok(Some(managed)) => {
            let to_finding = |policy: &HarmfulPolicy| {
                let state = if policy.harm == Harm::Interrupts { State::Warning } else { State::Failed };
                finding("policies", state, policy.with_remedy())
            };
            managed.policies.iter().map(to_finding).collect()
        }
        Ok(None) => vec![ok(
            "policies",
            "not checked, because amqp.management_url is not set; to list them: rabbitmqctl list_policies"
                .into(),
        )],
        Err(error) => vec![finding("policies", State::Warning, format!("cannot read them: {error:#}"))],
    }
}

/// Finds event queues whose event type is not in the catalogue. AMQP cannot list queues: without the management API,
/// only queues are found whose event types appear in executions or open dead letters.
async fn unknown_queues(
    connection: &Connection,
    store: &Store,
    names: &Names,
    managed: &anyhow::Result<Option<Managed>>,
) -> Vec<Finding> {
    let (Ok(known), Ok(forgotten)) =
        (store.list_event_types(true).await, store.forgotten_event_types().await)
    else {
        return Vec::new();
    };
    let mut queues = queues_of(connection, names, &forgotten).await.unwrap_or_default();
    if let Ok(Some(managed)) = managed {
        queues.extend(managed.event_queues.iter().cloned());
    }
    let mut report: Vec<Finding> = Vec::new();
    let mut reported = Vec::new();
    for queue in queues {
        if known.iter().all(|event_type| event_type.name != queue.event) && !reported.contains(&queue.event) {
            let message = format!("{queue} (docs/operations.md#after-a-restore)");
            report.push(finding("event types", State::Warning, message));
            reported.push(queue.event);
        }
    }
    if let (true, Ok(Some(_))) = (report.is_empty(), managed) {
        report.push(ok("event types", "every event queue belongs to an event type of the catalogue".into()));
    }
    report
}

/// Whether the exchanges and queues under the prefix belong to this installation.
async fn installation(connection: &Connection, store: &Store, names: &Names) -> Option<Finding> {
    let id = store.installation().await.ok().flatten()?;
    let name = installation_name(id);
    Some(match look_at_mark(connection, names, id).await {
        Ok(Mark::Ours) => ok("installation", format!("{name}, the same in the database and on the broker")),
        Ok(Mark::Nobodys) => {
            ok("installation", format!("{name}; provisiond serve marks the broker when it starts"))
        }
        Err(error) => finding("installation", State::Failed, format!("{error:#}")),
    })
}

/// The warning about overdue retries, with a link to their causes.
pub(super) fn overdue_warning(count: u64) -> String {
    format!(
        "{count} were due more than two minutes ago and have not run (docs/operations.md#retries-that-do-not-come-back)"
    )
}

/// Whether workers consume the event queues.
async fn event_queues(connection: &Connection, topology: &Topology) -> Finding {
    let (mut consumed, mut waiting, mut unattended) = (0, 0, Vec::new());
    for event in topology.events() {
        let queue = topology.names.event_queue(&event);
        if let Ok(Some(depth)) = queue_depth(connection, &queue).await {
            consumed += usize::from(depth.consumers > 0);
            waiting += depth.messages;
            if depth.messages > 0 && depth.consumers == 0 {
                unattended.push(format!("{} in {queue}", depth.messages));
            }
        }
    }
    let remedy = "run provisiond serve --roles worker";
    if !unattended.is_empty() {
        let message = format!("events wait and no worker consumes them: {}; {remedy}", unattended.join(", "));
        return finding("workers", State::Warning, message);
    }
    if consumed == 0 {
        return finding("workers", State::Warning, format!("no worker consumes an event queue: {remedy}"));
    }
    ok("workers", format!("{consumed} event queues have consumers, {waiting} events are waiting"))
}

fn topology(mismatches: Vec<ArgumentMismatch>, missing: &[String]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = mismatches
        .into_iter()
        .map(|ArgumentMismatch { name, what }| {
            let message = format!("{name} exists with different arguments and is used as it is: {what}; to correct it, drain and delete it, and provisiond declares it again");
            finding("topology", State::Warning, message)
        })
        .collect();
    match missing {
        [] if findings.is_empty() => {
            findings.push(ok("topology", "exchanges and queues exist with the expected arguments".into()));
        }
        [] => {}
        [first, others @ ..] => {
            let message = format!(
                "{first} and {} others are missing: they are declared when provisiond serve starts",
                others.len()
            );
            findings.push(finding("topology", State::Failed, message));
        }
    }
    findings
}

fn clock(ahead: ClockAhead) -> Finding {
    match ahead.told() {
        Some(difference) => finding(
            "clock",
            State::Warning,
            format!("this host's clock is {difference}: set it, best with NTP"),
        ),
        None => ok("clock", "this host's clock agrees with the database's clock".into()),
    }
}

/// Checks the database and returns its handlers, or none if they cannot be read.
async fn check_database(store: &Store, report: &mut Vec<Finding>) -> Vec<Handler> {
    if let Err(error) = store.ping().await {
        let message = format!(
            "{:#}; is PostgreSQL running, does the database exist, and is database.url right?",
            anyhow::Error::new(error)
        );
        report.push(finding("database", State::Failed, message));
        return Vec::new();
    }
    if let Err(error) = store.refuse_transaction_pooler().await {
        report.push(finding("database", State::Failed, format!("{:#}", anyhow::Error::new(error))));
        return Vec::new();
    }
    report.push(ok("database", "connected".into()));
    let (migrations_finding, is_usable) = migrations(store.migration_state().await);
    report.push(migrations_finding);
    if !is_usable {
        return Vec::new();
    }
    if let Ok(ahead) = store.clock_ahead().await {
        report.push(clock(ahead));
    }
    if let Ok(Some(jump)) = store.clock_jump().await {
        report.push(finding("clock", State::Warning, jump.to_string()));
    }
    match store.list_handlers(&HandlerFilter::default(), ALL_HANDLERS).await {
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
