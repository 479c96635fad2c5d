//! Test calls: runs a stored handler with a sample event.

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    domain::{
        event::{Arrival, Event, EventName, ObjectId, compose, decode, sample_data},
        handler::{HandlerDefaults, HandlerId},
        secret::SigningSecret,
    },
    runner::{Runner, Trial, TrialOf},
    store::{RegisteredHandler, Store, StoreError},
};

/// Makes test calls, in the same way as a worker with this configuration.
pub struct Trials {
    pub store: Store,
    pub runner: Arc<Runner>,
    pub defaults: HandlerDefaults,
    pub max_event_bytes: usize,
}

/// The sample event of a test call.
#[derive(Clone, Debug)]
pub struct Sample {
    pub object_id: ObjectId,
    /// A JSON object. If absent: sample data like that of the platform.
    pub data: Option<Box<RawValue>>,
}

/// Why no test call was made.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The secrets of the handler cannot be used in this process.
    #[error("not called: {0}")]
    NotCalled(String),
    /// The sample is not a valid event.
    #[error("{0}")]
    NoEvent(String),
}

impl Trials {
    /// Calls a handler once, also a disabled one. Nothing is recorded or retried.
    pub async fn run(&self, id: HandlerId, sample: &Sample) -> Result<Trial, TrialError> {
        let RegisteredHandler { handler, secrets, unusable } = self.store.registered_handler(id).await?;
        if let Some(why) = unusable {
            return Err(TrialError::NotCalled(why));
        }
        let secrets: Vec<SigningSecret> = secrets
            .iter()
            .map(|secret| secret.expose_secret().parse())
            .collect::<Result<_, _>>()
            .map_err(|e| TrialError::NotCalled(format!("its signing secret cannot be used: {e}")))?;
        let event = self.event(&handler.spec.event, sample)?;
        let trial = TrialOf {
            handler: &handler,
            secrets: &secrets,
            event: &event,
            timeout: self.defaults.timeout_of(&handler.spec),
            policy: &self.defaults.retry_of(&handler.spec),
            max_event_bytes: self.max_event_bytes,
        };
        self.runner.try_out(trial).await.map_err(|e| TrialError::NoEvent(e.to_string()))
    }

    /// Builds the sample event. It gets a new id, so that the receiver does not take it for a repeated call.
    fn event(&self, name: &EventName, sample: &Sample) -> Result<Event, TrialError> {
        let no_event = |e: &dyn std::fmt::Display| TrialError::NoEvent(e.to_string());
        let data = match &sample.data {
            Some(data) => data.clone(),
            None => serde_json::value::to_raw_value(&sample_data(name, &sample.object_id))
                .map_err(|e| no_event(&e))?,
        };
        let body = compose(name, &sample.object_id, &data, Timestamp::now()).map_err(|e| no_event(&e))?;
        let message_id = format!("test-{}", Uuid::now_v7());
        let arrival = Arrival { message_id: Some(&message_id), ..Arrival::of(name, &body) };
        decode(&arrival, self.max_event_bytes).map_err(|e| no_event(&e))
    }
}
