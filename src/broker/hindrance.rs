//! Problems that stop the users of a connection although it is up: missing rights, a queue that cannot be declared, no
//! free channel.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tracing::{debug, info, warn};

/// The current hindrances of one connection. Clones share them. Logs only the first one and the end of the last one,
/// because missing rights affect all users of a connection.
#[derive(Clone, Default)]
pub(super) struct Hindrances(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    last_id: u64,
    by_id: BTreeMap<u64, String>,
}

/// One hindrance. Dropping it ends it.
pub(super) struct Hindrance {
    id: u64,
    all: Hindrances,
}

impl Hindrances {
    pub(super) fn add(&self, purpose: &str, who: &str, why: &str) -> Hindrance {
        let mut known = self.0.lock();
        if known.by_id.is_empty() {
            warn!(purpose, who, why, "the broker refuses an operation; retrying");
        } else {
            debug!(purpose, who, why, "the broker refuses this operation too");
        }
        known.last_id += 1;
        let id = known.last_id;
        known.by_id.insert(id, format!("{who}: {why}"));
        Hindrance { id, all: self.clone() }
    }

    /// The oldest hindrance, and how many others there are.
    pub(super) fn summary(&self) -> Option<String> {
        let known = self.0.lock();
        let (_, first) = known.by_id.first_key_value()?;
        match known.by_id.len() - 1 {
            0 => Some(first.clone()),
            more => Some(format!("{first} (and {more} more)")),
        }
    }
}

impl Drop for Hindrance {
    fn drop(&mut self) {
        let mut known = self.all.0.lock();
        known.by_id.remove(&self.id);
        if known.by_id.is_empty() {
            info!("the broker no longer refuses operations");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hindrances_are_reported_until_the_last_one_ends() {
        let all = Hindrances::default();
        assert_eq!(all.summary(), None);
        let first = all.add("consume", "a", "refused");
        let second = all.clone().add("consume", "b", "no channel");
        assert_eq!(all.summary().as_deref(), Some("a: refused (and 1 more)"));
        drop(first);
        assert_eq!(all.summary().as_deref(), Some("b: no channel"));
        drop(second);
        assert_eq!(all.summary(), None);
    }
}
