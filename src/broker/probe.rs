//! Detects a broker that sends data but no longer answers.
//!
//! Missing heartbeats reveal a dead connection. But heartbeats continue on a connection on which lapin waits forever: a
//! frame whose length arrived garbled is never complete, and everything after it counts as a part of it. So the probe
//! regularly sends a request, and a connection without an answer is closed. (A broker that blocks publishers does not
//! answer either. It announces that, so it is excused.)

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lapin::{Channel, Connection, options::BasicQosOptions};
use tokio::time::{sleep, timeout};

/// Heartbeats to wait for an answer: it may be behind one large message on a slow link.
const MAX_HEARTBEATS: u32 = 3;

/// Counts what arrived on a connection: deliveries and confirms. Clones share the count.
#[derive(Clone, Default)]
pub(super) struct Activity(Arc<AtomicU64>);

impl Activity {
    pub(super) fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Returns when the broker does not answer in time, and sends nothing else either.
pub(super) async fn wait_until_unresponsive(
    connection: &Connection,
    activity: &Activity,
    heartbeat: Duration,
) {
    let mut channel = None;
    loop {
        sleep(heartbeat).await;
        if !connection.status().connected() {
            // The supervisor notices a lost connection by itself.
            return pending().await;
        }
        let before = activity.count();
        let is_excused = || connection.status().blocked() || activity.count() != before;
        if !is_excused()
            && timeout(heartbeat * MAX_HEARTBEATS, send_request(connection, &mut channel)).await.is_err()
            && !is_excused()
        {
            return;
        }
    }
}

/// Sends a request. A refusal is an answer too.
async fn send_request(connection: &Connection, channel: &mut Option<Channel>) {
    match channel.take().filter(|channel| channel.status().connected()) {
        Some(open) => {
            if open.basic_qos(1, BasicQosOptions::default()).await.is_ok() {
                *channel = Some(open);
            }
        }
        None => *channel = connection.create_channel().await.ok(),
    }
}
