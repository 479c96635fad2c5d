//! The judge: from what is known to what is wrong. Pure, so that each of its demands is shown to be able to fail.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{facts::Facts, load::event_id, receivers::earns_dead_letter};

/// What a fault may cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    /// Calls that an endpoint saw again: same `webhook-id`, same attempt.
    pub repeated: usize,
    /// Calls of which there is no row, because their process was killed before it could tell.
    pub unrecorded: usize,
    /// Events that were lost with a queue that somebody deleted.
    pub lost_with_queue: usize,
    /// Dead letters of events that met no queue.
    pub unrouted: usize,
    /// The event that is to become the only dead letter `crash_loop`.
    pub crash_loop_event: Option<u64>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub confirmed: usize,
    pub ended: usize,
    /// Lost with a queue that was deleted.
    pub lost_with_queue: usize,
    pub lost: usize,
    pub repeated: usize,
    /// What is wrong, in words.
    pub wrong: Vec<String>,
}

/// Counts by key.
fn count_by_key<K: std::hash::Hash + Eq>(keys: impl Iterator<Item = K>) -> HashMap<K, usize> {
    let mut counts = HashMap::new();
    for key in keys {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// The surplus over one of each.
fn surplus<K>(counts: &HashMap<K, usize>) -> usize {
    counts.values().map(|count| count - 1).sum()
}

pub fn judge(facts: &Facts, allowed: Allowed) -> Verdict {
    let open = open(facts);
    let (lost_with_queue, lost): (Vec<_>, Vec<_>) =
        open.iter().partition(|(number, _)| facts.may_be_lost.contains(number));
    let mut verdict = Verdict {
        confirmed: facts.confirmed.len(),
        ended: facts.confirmed.len() - open.len(),
        lost_with_queue: lost_with_queue.len(),
        lost: lost.len(),
        ..Verdict::default()
    };
    for (number, handlers) in lost.iter().take(5) {
        verdict.wrong.push(format!("LOST: {} has no end for {handlers:?}", event_id(**number)));
    }
    verdict.limit("events went with their queue", lost_with_queue.len(), allowed.lost_with_queue);
    let missing = usize::try_from(facts.missing).unwrap_or(0);
    let lost_with_queue: usize = lost_with_queue.iter().map(|(_, handlers)| handlers.len()).sum();
    verdict.limit("ends are missing, as PostgreSQL counts", missing.saturating_sub(lost_with_queue), 0);
    verdict.rows(facts, allowed);
    verdict.calls(facts, allowed);
    verdict
}

/// Confirmed events, with the handlers that have not ended.
fn open(facts: &Facts) -> BTreeMap<u64, Vec<&'static str>> {
    let mut ended: BTreeSet<(&str, i64)> = BTreeSet::new();
    for execution in &facts.executions {
        if let ("done", Some(handler)) = (execution.disposition.as_str(), execution.handler) {
            ended.insert((&execution.event_id, handler));
        }
    }
    for dead_letter in &facts.dead_letters {
        let covered = facts.handlers.keys().filter(|handler| dead_letter.covers(**handler));
        ended.extend(
            dead_letter.event_id.as_deref().into_iter().flat_map(|id| covered.clone().map(move |h| (id, *h))),
        );
    }
    let missing = |number: u64| {
        let id = event_id(number);
        let open = facts.handlers.iter().filter(|(handler, _)| !ended.contains(&(id.as_str(), **handler)));
        open.map(|(_, name)| *name).collect::<Vec<_>>()
    };
    let all = facts.confirmed.iter().map(|number| (*number, missing(*number)));
    all.filter(|(_, handlers)| !handlers.is_empty()).collect()
}

impl Verdict {
    fn limit(&mut self, problem: &str, count: usize, allowed: usize) {
        if count > allowed {
            self.wrong.push(format!("{count} {problem}; allowed: {allowed}"));
        }
    }

    /// What PostgreSQL holds.
    fn rows(&mut self, facts: &Facts, allowed: Allowed) {
        let ids = count_by_key(facts.executions.iter().map(|execution| &execution.id));
        self.limit("execution ids are in the table twice", surplus(&ids), 0);
        let dead_letters = facts.dead_letters.iter().filter(|dead_letter| dead_letter.run_id.is_some());
        let dead_letters =
            count_by_key(dead_letters.map(|dead_letter| (&dead_letter.run_id, dead_letter.handler)));
        self.limit("dead letters are there twice for one run and handler", surplus(&dead_letters), 0);
        let number =
            |id: &Option<String>| id.as_ref().and_then(|id| id.strip_prefix('e')?.parse::<u64>().ok());
        let (mut unearned, mut unrouted, mut crash_loops) = (Vec::new(), 0, 0);
        for dead_letter in &facts.dead_letters {
            let handler = dead_letter.handler.and_then(|id| facts.handlers.get(&id));
            match (dead_letter.reason.as_str(), number(&dead_letter.event_id), handler) {
                // What is none of the load's is judged by its own test.
                (_, None, _) => {}
                ("unrouted", _, None) => unrouted += 1,
                ("crash_loop", number, _) if number == allowed.crash_loop_event => crash_loops += 1,
                ("permanent" | "exhausted", Some(number), Some(handler))
                    if earns_dead_letter(number, handler) => {}
                _ => unearned.push((&dead_letter.event_id, &dead_letter.reason, dead_letter.handler)),
            }
        }
        let problem = format!("dead letters are not earned ({:?}…)", unearned.first());
        self.limit(&problem, unearned.len(), 0);
        self.limit("events became dead letters because they met no queue", unrouted, allowed.unrouted);
        if crash_loops != usize::from(allowed.crash_loop_event.is_some()) {
            self.wrong
                .push(format!("{crash_loops} dead letters crash_loop of {:?}", allowed.crash_loop_event));
        }
    }

    /// What the handlers saw, against what is recorded.
    fn calls(&mut self, facts: &Facts, allowed: Allowed) {
        let again: BTreeSet<String> = facts.published_again.iter().map(|number| event_id(*number)).collect();
        let seen =
            count_by_key(facts.calls.iter().map(|call| (call.event_id.as_str(), call.handler, call.attempt)));
        // What the platform published twice may run twice: that is not counted against the fault.
        self.repeated =
            seen.iter().filter(|((id, ..), _)| !again.contains(*id)).map(|(_, count)| count - 1).sum();
        self.limit("calls were repeated", self.repeated, allowed.repeated);

        let made = ["done", "retrying", "dead_lettered"];
        let made = facts
            .executions
            .iter()
            .filter(|execution| !execution.was_refused && made.contains(&execution.disposition.as_str()));
        let recorded = count_by_key(made.filter_map(|execution| {
            Some((execution.event_id.as_str(), execution.handler?, execution.attempt))
        }));
        let count_missing = |expected: &HashMap<_, usize>, actual: &HashMap<_, usize>| -> usize {
            expected
                .iter()
                .map(|(key, count)| count.saturating_sub(actual.get(key).copied().unwrap_or(0)))
                .sum()
        };
        self.limit("calls are not recorded", count_missing(&seen, &recorded), allowed.unrecorded);
        self.limit("calls are recorded that no handler saw", count_missing(&recorded, &seen), 0);

        let done = facts.executions.iter().filter(|execution| execution.disposition == "done");
        let done = done.filter(|execution| !again.contains(&execution.event_id));
        let ends = count_by_key(done.map(|execution| (&execution.event_id, execution.handler)));
        self.limit("handlers ended twice for one event", surplus(&ends), allowed.repeated);
    }
}
