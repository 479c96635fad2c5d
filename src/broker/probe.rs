//! Whether a broker that can be heard still answers.
//!
//! Heartbeats tell of a link that is dead. They come and go, though, on one that lapin waits on for ever: a frame whose
//! length arrived garbled is never complete, and everything behind it counts as a part of it. So a question is asked
//! now and then, and a connection on which there is no answer is given up. (Not what tells of a broker that blocks
//! publishers: that answers nothing either, and says so.)

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

/// An answer may wait behind one large message on a slow link: so many heartbeats.
const PATIENCE: u32 = 3;

/// How much was heard on a connection: deliveries and confirms. Clones count together.
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

/// Returns when nothing was answered, and nothing else heard, for [`PATIENCE`] heartbeats.
pub(super) async fn wait_until_unresponsive(connection: &Connection, heard: &Activity, heartbeat: Duration) {
    let mut channel = None;
    loop {
        sleep(heartbeat).await;
        if !connection.status().connected() {
            // Its supervisor hears of that otherwise.
            return pending().await;
        }
        let before = heard.count();
        let is_excused = || connection.status().blocked() || heard.count() != before;
        if !is_excused()
            && timeout(heartbeat * PATIENCE, ask(connection, &mut channel)).await.is_err()
            && !is_excused()
        {
            return;
        }
    }
}

/// That something is refused is an answer too.
async fn ask(connection: &Connection, channel: &mut Option<Channel>) {
    match channel.take().filter(|channel| channel.status().connected()) {
        Some(open) => {
            if open.basic_qos(1, BasicQosOptions::default()).await.is_ok() {
                *channel = Some(open);
            }
        }
        None => *channel = connection.create_channel().await.ok(),
    }
}
