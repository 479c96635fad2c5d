//! The broker, as the platform and an operator see it.

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
        ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};

/// A connection of the test's own, and the names under its prefix.
pub struct Broker {
    pub connection: Connection,
    channel: Channel,
    pub prefix: String,
}

impl Broker {
    pub async fn connect(url: &str, prefix: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("a broker");
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        Self { connection, channel, prefix: prefix.to_owned() }
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}.{rest}", self.prefix)
    }

    /// Publishes as the platform does, and waits for the confirm.
    pub async fn publish(&self, event: &str, message_id: Option<&str>, body: &[u8]) {
        let mut properties =
            BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
        if let Some(id) = message_id {
            properties = properties.with_message_id(id.into());
        }
        self.publish_with(event, properties, body).await;
    }

    pub async fn publish_with(&self, event: &str, properties: BasicProperties, body: &[u8]) {
        let (exchange, key) = (self.name("events").as_str().into(), event.into());
        let confirm =
            self.channel.basic_publish(exchange, key, BasicPublishOptions::default(), body, properties);
        let confirmation = confirm.await.expect("published").await.expect("confirmed");
        assert!(confirmation.is_ack(), "the broker refused {event}");
    }

    /// Publishes into a queue, whatever is bound to it.
    pub async fn publish_to(&self, queue: &str, body: &[u8]) {
        let (options, properties) =
            (BasicPublishOptions::default(), BasicProperties::default().with_delivery_mode(2));
        let queue = self.name(queue);
        let confirm = self.channel.basic_publish("".into(), queue.as_str().into(), options, body, properties);
        confirm.await.expect("published").await.expect("confirmed");
    }

    /// Messages and consumers of a queue; none if there is no such queue.
    pub async fn depth(&self, queue: &str) -> Option<(u32, u32)> {
        // After two thousand of them their numbers come again, and lapin fails who gets the number of a channel that ended
        // because there was no such queue, with the error of that.
        let mut channel = self.connection.create_channel().await;
        for _ in 0..100 {
            if channel.is_err() {
                channel = self.connection.create_channel().await;
            }
        }
        let channel = channel.expect("a channel");
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = channel
            .queue_declare(self.name(queue).as_str().into(), options, FieldTable::default())
            .await
            .ok()?;
        Some((queue.message_count(), queue.consumer_count()))
    }

    /// Takes one message out of a queue.
    pub async fn take(&self, queue: &str) -> Option<lapin::message::BasicGetMessage> {
        let options = BasicGetOptions { no_ack: true };
        self.channel.basic_get(self.name(queue).as_str().into(), options).await.expect("a queue")
    }

    /// Takes what is in a queue and gives it back by closing the channel, as a worker that dies does.
    pub async fn take_and_die(&self, queue: &str) {
        let channel = self.connection.create_channel().await.expect("a channel");
        let name = self.name(queue);
        let get = || channel.basic_get(name.as_str().into(), BasicGetOptions { no_ack: false });
        while get().await.expect("a queue").is_some() {}
        channel.close(200, "died".into()).await.expect("closed");
    }

    /// Consumes a queue; nothing needs to be acknowledged.
    pub async fn consume(&self, queue: &str) -> lapin::Consumer {
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let queue = self.name(queue);
        let (queue, tag) = (queue.as_str().into(), "".into());
        self.channel.basic_consume(queue, tag, options, FieldTable::default()).await.expect("a consumer")
    }

    /// Deletes a queue, and gives how many messages it held.
    pub async fn delete_queue(&self, queue: &str) -> u32 {
        self.channel
            .queue_delete(self.name(queue).as_str().into(), QueueDeleteOptions::default())
            .await
            .expect("deleted")
    }

    /// Removes everything under the prefix.
    pub async fn remove_topology(&self, events: &[String]) {
        for event in events {
            self.delete_queue(&format!("events.{event}")).await;
        }
        for level in 0..20 {
            self.delete_queue(&format!("delay.v1.level-{level}")).await;
            self.delete_exchange(&format!("delay.v1.level-{level}")).await;
        }
        for queue in ["execution-log", "dead-letters", "unrouted"] {
            self.delete_queue(queue).await;
        }
        for exchange in
            ["events", "results", "dead-letters", "unrouted", "delay.v1.deliver", "watch.installation"]
        {
            self.delete_exchange(exchange).await;
        }
    }

    async fn delete_exchange(&self, exchange: &str) {
        self.channel
            .exchange_delete(self.name(exchange).as_str().into(), ExchangeDeleteOptions::default())
            .await
            .expect("deleted");
    }

    /// A queue of the test's own, bound to one of our exchanges.
    pub async fn bind_own_queue(&self, exchange: &str, key: &str) -> String {
        use lapin::options::{ExchangeDeclareOptions, QueueBindOptions};
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let name = self.name(exchange);
        let declared = self.channel.exchange_declare(
            name.as_str().into(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        );
        declared.await.expect("the exchange");
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = self.name("test");
        self.channel
            .queue_declare(queue.as_str().into(), options, FieldTable::default())
            .await
            .expect("a queue");
        let bound = self.channel.queue_bind(
            queue.as_str().into(),
            name.as_str().into(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.expect("bound");
        "test".to_owned()
    }
}
