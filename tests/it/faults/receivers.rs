//! The handlers of the load: four on one event, which between them do all that a handler may do.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::support::{Endpoint, Reply, World};

pub const EVENT: &str = "clients.create";

/// What each answers to the event of a number at an attempt.
type Answer = fn(u64, u64) -> u16;

/// By priority: name, what it answers, what it is created with.
const HANDLERS: [(&str, Answer, &[&str]); 4] = [
    ("steady", |_, _| 200, &[]),
    ("flaky", flaky, &["--max-attempts", "4"]),
    ("gate", gate, &["--max-attempts", "2", "--on-failure", "halt"]),
    ("last", |_, _| 200, &[]),
];

/// Fails for a moment at every tenth event, and for good at every fiftieth.
fn flaky(number: u64, attempt: u64) -> u16 {
    match (number % 50, number % 10, attempt) {
        (7, ..) => 404,
        (_, 3, 1) => 503,
        _ => 200,
    }
}

/// Keeps `last` waiting at every twentieth event, and for ever at every hundredth.
fn gate(number: u64, attempt: u64) -> u16 {
    match (number % 100, number % 20, attempt) {
        (9, ..) => 500,
        (_, 5, 1) => 503,
        _ => 200,
    }
}

/// Whether the event of this number earns a dead letter of that handler.
pub fn earns_dead_letter(number: u64, handler: &str) -> bool {
    match handler {
        "flaky" => flaky(number, 1) == 404,
        "gate" => gate(number, 2) == 500,
        _ => false,
    }
}

/// Changes what a handler answers: given its name, the event's number and the attempt.
pub type ReplyOverride = Box<dyn FnMut(&str, u64, u64) -> Option<Reply> + Send>;

/// The endpoint of all four, and their ids.
pub struct Receivers {
    pub endpoint: Endpoint,
    reply_override: Arc<Mutex<Option<ReplyOverride>>>,
    /// By id.
    pub names: BTreeMap<i64, &'static str>,
}

/// A call that an endpoint saw.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    pub event_id: String,
    pub handler: i64,
    pub attempt: i32,
}

impl Receivers {
    /// Makes the handlers; a first retry comes after `interval`.
    pub async fn start(world: &World, interval: &str) -> Self {
        let reply_override: Arc<Mutex<Option<ReplyOverride>>> = Arc::default();
        let current_override = Arc::clone(&reply_override);
        let endpoint = Endpoint::start(move |call, _| {
            let (name, answer, _) =
                HANDLERS.iter().find(|(name, ..)| call.path[1..] == **name).expect("a handler");
            let attempt = call.header("x-provisioning-attempt").parse().expect("a number");
            let number = call.object_id();
            let mut reply_override = current_override.lock().expect("unpoisoned");
            reply_override
                .as_mut()
                .and_then(|reply_override| reply_override(name, number, attempt))
                .unwrap_or_else(|| {
                    // Long enough for something to be running at every moment.
                    Reply::status(answer(number, attempt)).after(Duration::from_millis(20))
                })
        })
        .await;
        let mut names = BTreeMap::new();
        for (priority, (name, _, flags)) in (1..).zip(HANDLERS) {
            let (url, priority) = (endpoint.url(&format!("/{name}")), u32::to_string(&priority));
            let common = ["--http", &url, "--priority", &priority, "--initial-interval", interval];
            names.insert(world.handler(name, EVENT, &[&common, flags].concat()), name);
        }
        Self { endpoint, reply_override, names }
    }

    pub fn override_reply(
        &self,
        reply_override: impl FnMut(&str, u64, u64) -> Option<Reply> + Send + 'static,
    ) {
        *self.reply_override.lock().expect("unpoisoned") = Some(Box::new(reply_override));
    }

    pub fn calls(&self) -> Vec<Call> {
        let calls = self.endpoint.calls();
        let read = |id: &str, attempt: &str| {
            let (event_id, handler) = id.rsplit_once('_').expect("an event and a handler");
            let (handler, attempt) = (handler.parse().expect("an id"), attempt.parse().expect("a number"));
            Call { event_id: event_id.to_owned(), handler, attempt }
        };
        calls.iter().map(|c| read(c.header("webhook-id"), c.header("x-provisioning-attempt"))).collect()
    }
}
