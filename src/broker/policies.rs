//! Finds policies that make our queues lose messages, deliver retries too early, or take deliveries back.
//!
//! A policy on every queue of a broker (`.*`) applies to ours, too. RabbitMQ uses the smaller of its limit and ours,
//! and a message that expires in a queue without a dead-letter exchange is lost.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    connect::BrokerSettings,
    management::{ManagedQueue, Management},
    names::Names,
    unknown_queues::{UnknownQueue, event_queues},
};
use crate::domain::{plan::LONGEST_HELD, text_enum::text_enum};

/// How long a result is cached. Policies seldom change, and the management API is slow on a broker with many queues.
const CACHE_TTL: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_mins(1);
/// How many queues of one policy a message names.
const MAX_NAMED: usize = 3;

/// A policy that harms queues of provisiond.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct HarmfulPolicy {
    /// Its name; both names if a policy and an operator policy apply.
    pub policy: String,
    /// The key of the policy, such as `message-ttl`.
    pub setting: String,
    /// The value of that key.
    #[schema(value_type = Object)]
    pub value: Value,
    pub harm: Harm,
    pub queues: Vec<String>,
}

text_enum! {
    /// How a policy harms a queue.
    Harm {
        /// Messages are dropped before anybody handled them.
        Loses = "loses",
        /// Retries arrive too early.
        Hurries = "hurries",
        /// A delivery is taken back while its handlers run. They then run again.
        Interrupts = "interrupts",
    }
}

/// What the management API reports.
#[derive(Debug)]
pub struct Managed {
    /// The policies that do harm.
    pub policies: Vec<HarmfulPolicy>,
    /// All event queues, including those whose event type is in the catalogue.
    pub event_queues: Vec<UnknownQueue>,
}

/// Reads queues and policies from the management API, if `amqp.management_url` is set.
pub struct PolicyWatch {
    settings: BrokerSettings,
    cache: Mutex<Option<(Instant, LookResult)>>,
}

/// The result or the error; `Ok(None)` if `amqp.management_url` is not set.
type LookResult = Result<Option<Arc<Managed>>, String>;

/// What a queue is for, as far as policies matter.
enum Use {
    /// Dead-letters the messages that it gives up.
    Events,
    /// A message that expires goes to the next level, or to its event queue.
    Delay,
    /// Dead-letters nothing.
    Consumed,
}

impl PolicyWatch {
    pub fn new(settings: BrokerSettings) -> Self {
        Self { settings, cache: Mutex::default() }
    }

    /// The result, at most 30 seconds old.
    pub async fn look(&self) -> LookResult {
        let mut cache = self.cache.lock().await;
        if let Some((read_at, result)) = &*cache
            && read_at.elapsed() < CACHE_TTL
        {
            return result.clone();
        }
        let result = managed(&self.settings).await;
        let result = result.map(|managed| managed.map(Arc::new)).map_err(|error| format!("{error:#}"));
        *cache = Some((Instant::now(), result.clone()));
        result
    }
}

/// Reads queues and policies; `None` if `amqp.management_url` is not set.
///
/// # Errors
/// If the management API cannot be reached, or its answer is not understood.
pub async fn managed(settings: &BrokerSettings) -> anyhow::Result<Option<Managed>> {
    let Some(management) = Management::new(settings)? else { return Ok(None) };
    let names = &settings.topology.names;
    let queues = management.queues(names.prefix()).await?;
    Ok(Some(Managed { policies: judge(names, &queues), event_queues: event_queues(names, &queues) }))
}

/// Logs each harmful policy once, until `stop`.
pub async fn tell_of_policies(settings: BrokerSettings, stop: CancellationToken) {
    if settings.management_url.is_none() {
        return;
    }
    let mut logged: Vec<HarmfulPolicy> = Vec::new();
    let mut is_error_logged = false;
    loop {
        match managed(&settings).await {
            Ok(managed) => {
                let policies = managed.map(|managed| managed.policies).unwrap_or_default();
                for policy in policies.iter().filter(|policy| !logged.contains(policy)) {
                    warn!("{}", policy.with_remedy());
                }
                if policies.is_empty() && !logged.is_empty() {
                    info!("no harmful policy applies to the queues any longer");
                }
                (logged, is_error_logged) = (policies, false);
            }
            Err(error) if !is_error_logged => {
                warn!(error = format!("{error:#}"), "cannot read the policies of the queues");
                is_error_logged = true;
            }
            Err(_) => {}
        }
        if stop.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await.is_none() {
            return;
        }
    }
}

/// The harmful policies on `queues`. Queues with the same policy, setting, value and harm are grouped.
fn judge(names: &Names, queues: &[ManagedQueue]) -> Vec<HarmfulPolicy> {
    let mut harmful: Vec<HarmfulPolicy> = Vec::new();
    for queue in queues {
        let Some(queue_use) = use_of(names, &queue.name) else { continue };
        for (setting, value, harm) in harms(&queue_use, queue) {
            let (policy, queue) = (policies_of(queue), queue.name.clone());
            let is_same = |known: &&mut HarmfulPolicy| {
                known.policy == policy
                    && known.setting == setting
                    && known.value == *value
                    && known.harm == harm
            };
            if let Some(known) = harmful.iter_mut().find(is_same) {
                known.queues.push(queue);
            } else {
                let (setting, value) = (setting.to_owned(), value.clone());
                harmful.push(HarmfulPolicy { policy, setting, value, harm, queues: vec![queue] });
            }
        }
    }
    harmful
}

/// The harmful settings in force on one queue.
fn harms<'a>(queue_use: &Use, queue: &'a ManagedQueue) -> Vec<(&'static str, &'a Value, Harm)> {
    let set = |setting| Some((setting, queue.effective_policy_definition.get(setting)?));
    let limits = ["max-length", "max-length-bytes"].into_iter().filter_map(set);
    let argument = |name: &str| queue.arguments.get(name);
    let overflow = argument("x-overflow").or_else(|| queue.effective_policy_definition.get("overflow"));
    // Every other value drops messages.
    let drops = overflow.and_then(Value::as_str) != Some("reject-publish");
    let mut harms = Vec::new();
    harms.extend(set("expires").map(|(setting, value)| (setting, value, Harm::Loses)));
    match queue_use {
        Use::Events => {
            let is_short =
                |value: &Value| value.as_u64().is_none_or(|ms| u128::from(ms) < LONGEST_HELD.as_millis());
            let short = set("consumer-timeout").filter(|(_, value)| is_short(value));
            harms.extend(short.map(|(setting, value)| (setting, value, Harm::Interrupts)));
        }
        Use::Delay => {
            let ours = argument("x-message-ttl").and_then(Value::as_u64);
            let is_earlier = |value: &Value| match (value.as_u64(), ours) {
                (Some(ttl), Some(ours)) => ttl < ours,
                _ => true,
            };
            let early = set("message-ttl").filter(|(_, value)| is_earlier(value));
            harms.extend(early.map(|(setting, value)| (setting, value, Harm::Hurries)));
            harms.extend(limits.filter(|_| drops).map(|(setting, value)| (setting, value, Harm::Hurries)));
        }
        Use::Consumed => {
            let lossy = ["message-ttl", "delivery-limit"].into_iter().filter_map(set);
            let lossy = lossy.chain(limits.filter(|_| drops));
            harms.extend(lossy.map(|(setting, value)| (setting, value, Harm::Loses)));
        }
    }
    harms
}

fn use_of(names: &Names, queue: &str) -> Option<Use> {
    let consumed = [names.execution_log(), names.dead_letters(), names.unrouted()];
    if queue.starts_with(&names.delay_prefix()) {
        Some(Use::Delay)
    } else if names.event_of(queue).is_some() {
        Some(Use::Events)
    } else {
        consumed.iter().any(|name| name == queue).then_some(Use::Consumed)
    }
}

fn policies_of(queue: &ManagedQueue) -> String {
    match (named(queue.policy.as_deref()), named(queue.operator_policy.as_deref())) {
        (Some(policy), Some(operator)) => format!("{policy} or {operator}"),
        (Some(name), None) | (None, Some(name)) => name.to_owned(),
        (None, None) => "without a name".to_owned(),
    }
}

fn named(policy: Option<&str>) -> Option<&str> {
    policy.filter(|name| !name.is_empty())
}

impl HarmfulPolicy {
    /// The message, with the page that says what to do.
    pub fn with_remedy(&self) -> String {
        format!("{self} (docs/operations.md#policies-on-our-queues)")
    }
}

impl fmt::Display for HarmfulPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, setting, value, harm, queues } = self;
        let harm = match harm {
            Harm::Loses => "drops unprocessed messages",
            Harm::Hurries => "delivers retries too early",
            Harm::Interrupts => "requeues events while their handlers run, so the handlers run again",
        };
        let named: Vec<_> = queues.iter().take(MAX_NAMED).map(String::as_str).collect();
        write!(f, "the policy {policy:?} ({setting} {value}) {harm}: {}", named.join(", "))?;
        match queues.len().saturating_sub(MAX_NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests;
