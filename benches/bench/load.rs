//! Publishes events as the platform does.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

use crate::{support::World, target::now};

/// How many messages may be unconfirmed.
const WINDOW: usize = 500;

/// An event of about `bytes` bytes, which contains the time of its publish.
pub fn body(event: &str, number: u64, bytes: usize) -> String {
    let head = format!(
        r#"{{"event":{{"dt":"2026-01-01T00:00:00+00:00","events_id":"{event}","object_id":{number}}},"data":{{"sent":{},"note":""#,
        now()
    );
    let note = "x".repeat(bytes.saturating_sub(head.len() + 3));
    format!(r#"{head}{note}"}}}}"#)
}

/// Publishes `count` events on a connection of its own, with the names in `events` in turn: at the given
/// rate, or as fast as they are confirmed.
pub async fn publish(world: &World, events: &[&str], count: u64, bytes: usize, per_second: Option<u32>) {
    let connection =
        Connection::connect(&world.amqp_url, ConnectionProperties::default()).await.expect("a broker");
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let exchange = world.broker.name("events");
    let mut confirms = FuturesUnordered::new();
    let mut pace = per_second.map(|rate| tokio::time::interval(Duration::from_secs(1) / rate));
    for (number, event) in (0..count).zip(events.iter().cycle()) {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let id = format!("{}-{number}", world.broker.prefix);
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_message_id(id.as_str().into());
        let body = body(event, number, bytes);
        let (exchange, options) = (exchange.as_str().into(), BasicPublishOptions::default());
        let published =
            channel.basic_publish(exchange, (*event).into(), options, body.as_bytes(), properties).await;
        confirms.push(published.expect("published"));
        while confirms.len() >= WINDOW {
            assert!(
                confirms.next().await.expect("one").expect("confirmed").is_ack(),
                "the broker refused an event"
            );
        }
    }
    while let Some(confirmed) = confirms.next().await {
        assert!(confirmed.expect("confirmed").is_ack(), "the broker refused an event");
    }
    connection.close(200, "done".into()).await.expect("closed");
}
