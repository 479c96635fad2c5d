//! The end of a fault: everything that was promised is demanded.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::{FaultRig, wait_for_consumers};
use crate::{
    faults::{
        checker::{Allowed, judge},
        facts::{self, Facts},
        report,
    },
    support::Vitals,
};

/// By which threads and descriptors may differ: `database.pool_size` connections that come and go, and as many threads
/// of the runtime that do what blocks.
const MAX_GROWTH: usize = 6;

/// A recovery in the short form, which shares its machine with other tests and whoever else is there: that there is one
/// is demanded, and how fast it is by the long form, which runs alone.
const SHORT_FORM_MAX_RECOVERY: Duration = Duration::from_mins(1);

/// Nothing may happen for so long before the end: longer than what is left waits at a stretch for an open circuit (30 to
/// 45 s, rounded up), of which all of it may have been refused at one time.
const STALL_TIMEOUT: Duration = Duration::from_mins(1);
/// The same where what is left went with a queue, and will never end.
const LOST_STALL_TIMEOUT: Duration = Duration::from_secs(5);

impl FaultRig {
    /// Ends the load, waits until all is done, and demands everything that was promised.
    pub async fn end(mut self, allowed: Allowed) {
        let published = self.load.finish().await;
        // The broker may have been down.
        self.world.reconnect().await;
        let confirmed = published.keys().copied().collect();
        self.drained(&confirmed).await;
        let mut wrong = self.processes_are_well().await;
        self.stop().await;
        let left = self.world.left_in_queues().await;
        if !left.is_empty() {
            wrong.push(format!("messages are left in {left:?}"));
        }
        let may_be_lost = confirmed.into_iter().filter(|number| *number < self.may_be_lost_before).collect();
        let facts = Facts::gather(&self.world, &published, &may_be_lost, &self.receivers).await;
        let verdict = judge(&facts, allowed);
        report::write(self.form, self.name, self.injections, &verdict, &self.recoveries);
        wrong.extend(verdict.wrong);
        let max_recovery = if self.form.is_long { self.max_recovery } else { SHORT_FORM_MAX_RECOVERY };
        let slow = self.recoveries.iter().filter(|recovery| **recovery > max_recovery);
        wrong.extend(slow.map(|recovery| format!("recovered after {recovery:?}; allowed: {max_recovery:?}")));
        let logs = self.logs();
        assert!(wrong.is_empty(), "{}:\n{}\nthe logs:\n{logs}", self.name, wrong.join("\n"));
        self.world.end().await;
    }

    /// Waits until every event has ended and every queue is empty, as long as there is progress: something moves, or is
    /// written, if only that a circuit is open still. What is missing in the end is the checker's to tell.
    async fn drained(&self, confirmed: &BTreeSet<u64>) {
        let stall_timeout = if self.may_be_lost_before > 0 { LOST_STALL_TIMEOUT } else { STALL_TIMEOUT };
        let (mut before, mut since) = (None, Instant::now());
        loop {
            let missing = facts::missing(&self.world, confirmed, &self.receivers).await;
            let left = self.world.left_in_queues().await;
            if missing == 0 && left.is_empty() {
                return;
            }
            let now = Some((missing, facts::written(&self.world).await, left));
            if now != before {
                (before, since) = (now, Instant::now());
            } else if since.elapsed() > stall_timeout {
                println!("{}: of ends missing, rows written, messages left: {before:?}", self.name);
                return;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// The processes that were started run, consume, and hold no more than before.
    async fn processes_are_well(&mut self) -> Vec<String> {
        let gone = self.workers.iter_mut().chain([&mut self.recorder]).filter_map(|process| {
            let is_running = process.is_running();
            (!is_running).then(|| format!("process {} has ended:\n{}", process.pid(), process.log()))
        });
        let gone: Vec<String> = gone.collect();
        if !gone.is_empty() {
            return gone;
        }
        wait_for_consumers(&self.world, self.workers.len()).await;
        self.has_not_grown().await
    }

    /// What has grown in the processes since before the fault; none soon.
    pub async fn has_not_grown(&self) -> Vec<String> {
        let is_more = |before: &Vitals, after: &Vitals| {
            after.threads > before.threads + MAX_GROWTH || after.descriptors > before.descriptors + MAX_GROWTH
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let after = self.vitals();
            let grown: Vec<_> = self.before.iter().zip(&after).filter(|(b, a)| is_more(b, a)).collect();
            if grown.is_empty() {
                return Vec::new();
            }
            if Instant::now() > deadline {
                return vec![format!(
                    "a process holds more than before the fault (before, after): {grown:?}"
                )];
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn stop(&mut self) {
        for process in self.workers.iter_mut().chain([&mut self.recorder]) {
            let status = process.terminate().await;
            assert!(status.success(), "{}: ended with {status}; its log:\n{}", self.name, process.log());
        }
    }
}
