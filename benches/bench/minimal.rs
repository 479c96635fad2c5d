//! The ceiling: the least work that keeps the guarantees.
//!
//! `bench minimal` consumes, makes a POST or runs a script, publishes a result, and acknowledges after the
//! broker has confirmed the result. It uses lapin and reqwest, one task for each call and one acknowledgement
//! for each delivery, and it has no other feature.

use std::sync::Arc;

use futures_util::{
    StreamExt,
    future::join_all,
    stream::{FuturesUnordered, select_all},
};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    },
    types::FieldTable,
};
use serde::Serialize;
use serde_json::value::RawValue;

use tokio::sync::{Semaphore, mpsc};

use crate::{contender::Job, spawning, work::SCRIPTS_AT_A_TIME};

#[derive(Serialize)]
struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    body: String,
}

#[derive(Serialize)]
struct Execution<'a> {
    id: uuid::Uuid,
    event_id: Option<&'a str>,
    event: &'a str,
    status: &'static str,
    request: &'a RawValue,
    response: Answer,
    started_at: jiff::Timestamp,
    duration_ms: u128,
}

/// What is called for each event.
enum Task {
    Http { client: reqwest::Client, url: String },
    Script { path: String, at_a_time: Semaphore },
}

impl Task {
    fn of(job: Job) -> Self {
        if job.script.is_empty() {
            let idle = usize::from(job.concurrency);
            let client = reqwest::Client::builder().pool_max_idle_per_host(idle).build().expect("a client");
            return Self::Http { client, url: job.target };
        }
        Self::Script { path: job.script, at_a_time: Semaphore::new(SCRIPTS_AT_A_TIME) }
    }

    /// Makes the call. Returns whether it succeeded, and the answer.
    async fn call(&self, event: &[u8]) -> (bool, Answer) {
        match self {
            Self::Http { client, url } => {
                let request =
                    client.post(url).header("content-type", "application/json").body(event.to_vec());
                let answer = request.send().await.expect("an answer");
                let status = answer.status();
                let body = answer.text().await.expect("a body");
                (status.is_success(), Answer { http_status: Some(status.as_u16()), exit_code: None, body })
            }
            Self::Script { path, at_a_time } => {
                let _turn = at_a_time.acquire().await.expect("never closed");
                let ended = spawning::run(path, event).await;
                let body = String::from_utf8_lossy(&ended.stdout).into_owned();
                (ended.status.success(), Answer { http_status: None, exit_code: ended.status.code(), body })
            }
        }
    }
}

/// A delivery whose call has ended, and which is not acknowledged yet.
struct Called {
    channel: Channel,
    tag: u64,
    key: String,
    result: Vec<u8>,
}

async fn call(task: &Task, channel: Channel, delivery: Delivery) -> Called {
    let (started_at, begun) = (jiff::Timestamp::now(), std::time::Instant::now());
    let (succeeded, response) = task.call(&delivery.data).await;
    let status = if succeeded { "success" } else { "fail" };
    let id = delivery.properties.message_id().as_ref().map(ToString::to_string);
    let execution = Execution {
        id: uuid::Uuid::now_v7(),
        event_id: id.as_deref(),
        event: delivery.routing_key.as_str(),
        status,
        request: serde_json::from_slice(&delivery.data).expect("JSON"),
        response,
        started_at,
        duration_ms: begun.elapsed().as_millis(),
    };
    let result = serde_json::to_vec(&execution).expect("JSON");
    Called { channel, tag: delivery.delivery_tag, key: format!("{}.{status}", delivery.routing_key), result }
}

/// Publishes the results, and acknowledges the deliveries whose results the broker has confirmed.
async fn report(results: Channel, exchange: String, mut called: mpsc::UnboundedReceiver<Called>) {
    let properties =
        || BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
    let mut confirms = FuturesUnordered::new();
    let mut ready = Vec::new();
    loop {
        tokio::select! {
            _ = called.recv_many(&mut ready, 64) => {
                // Messages that are published together are written together.
                let published = join_all(ready.iter().map(|one: &Called| {
                    let (exchange, options) = (exchange.as_str().into(), BasicPublishOptions::default());
                    results.basic_publish(exchange, one.key.as_str().into(), options, &one.result, properties())
                }));
                let published = published.await;
                for (one, confirm) in ready.drain(..).zip(published) {
                    let confirm = confirm.expect("published");
                    confirms.push(async move { (one.channel, one.tag, confirm.await) });
                }
            }
            Some((channel, tag, confirm)) = confirms.next() => {
                assert!(confirm.expect("confirmed").is_ack(), "the broker refused a result");
                channel.basic_ack(tag, BasicAckOptions::default()).await.expect("acknowledged");
            }
        }
    }
}

/// Runs until it is killed.
pub async fn run(job: Job) {
    let connect =
        async || Connection::connect(&job.amqp_url, ConnectionProperties::default()).await.expect("a broker");
    let (consuming, publishing) = (connect().await, connect().await);
    let results = publishing.create_channel().await.expect("a channel");
    results.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let mut queues = Vec::new();
    for queue in &job.queues {
        let channel = consuming.create_channel().await.expect("a channel");
        channel.basic_qos(job.concurrency, BasicQosOptions::default()).await.expect("qos");
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel
            .basic_consume(queue.as_str().into(), "".into(), options, arguments)
            .await
            .expect("a consumer");
        queues.push(consumer.map(move |delivery| (channel.clone(), delivery.expect("a delivery"))));
    }
    let (done, called) = mpsc::unbounded_channel();
    tokio::spawn(report(results, job.results.clone(), called));
    let task = Arc::new(Task::of(job));
    let mut deliveries = select_all(queues);
    while let Some((channel, delivery)) = deliveries.next().await {
        let (task, done) = (Arc::clone(&task), done.clone());
        tokio::spawn(async move { drop(done.send(call(&task, channel, delivery).await)) });
    }
}
