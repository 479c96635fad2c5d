//! The catalogue of event types, and publishing by hand.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{ObjectBuilder, OneOfBuilder, Type},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    extract::{Json, Named, NoParams},
    page::PageOf,
    reply::{created, json},
};
use crate::{
    console::{
        Console,
        access::{Operator, Viewer},
        problem::{FieldError, Problem},
    },
    domain::event::{self, EventId, EventName, MAX_OBJECT_ID_BYTES, Malformed},
    operations::{NewEvent, NewEventType, Published, add_event_type, publish_event, remove_event_type},
    store::EventType,
};

pub fn routes() -> OpenApiRouter<Console> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(remove)).routes(routes!(publish))
}

/// List event types
///
/// In the order of the catalogue.
#[utoipa::path(get, path = "/event-types", operation_id = "list_event_types", tag = "events",
    responses((status = 200, description = "The catalogue", body = PageOf<EventType>)))]
async fn list(_: Viewer, _: NoParams, State(console): State<Console>) -> Result<Response, Problem> {
    let items = console.store().list_event_types(false).await?;
    json(&PageOf { items, next: None })
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EventTypeInput {
    name: EventName,
    /// Group in lists; if absent, the group of event types with the same name up to the last dot.
    #[schema(min_length = 1, max_length = 200)]
    group: Option<String>,
    /// Title in lists; if absent, derived from the name.
    #[schema(min_length = 1, max_length = 200)]
    title: Option<String>,
}

/// Add an event type
///
/// Declares its queue at once. Workers consume it without a restart.
#[utoipa::path(post, path = "/event-types", operation_id = "add_event_type", tag = "events", request_body = EventTypeInput,
    responses((status = 201, description = "The event type was added", body = EventType)))]
async fn add(
    _: Operator,
    State(console): State<Console>,
    Json(input): Json<EventTypeInput>,
) -> Result<Response, Problem> {
    let EventTypeInput { name, group, title } = input;
    let new = NewEventType { name, group, title };
    let added = add_event_type(console.store(), &console.dead_letters.broker, new).await?;
    Ok(created(json(&added)?, StatusCode::CREATED, &format!("/api/v1/event-types/{}", added.name)))
}

/// Remove an event type
///
/// Refused while a handler uses it. Workers still consume what is in its queue; after that, an administrator of the
/// broker can delete the queue.
#[utoipa::path(delete, path = "/event-types/{name}", operation_id = "remove_event_type", tag = "events",
    params(("name" = EventName, Path, description = "The name of the event type")),
    responses((status = 204, description = "The event type was removed")))]
async fn remove(
    _: Operator,
    State(console): State<Console>,
    Named(name): Named<EventName>,
) -> Result<Response, Problem> {
    remove_event_type(console.store(), &console.dead_letters.broker, &name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The object that an event is about: a number or a text.
#[derive(Debug)]
pub struct ObjectId(pub event::ObjectId);

impl<'de> Deserialize<'de> for ObjectId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        event::ObjectId::written(json).map(Self).map_err(de::Error::custom)
    }
}

impl PartialSchema for ObjectId {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Number);
        // The limit is in bytes, so fewer characters fit if they are not ASCII.
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(MAX_OBJECT_ID_BYTES));
        OneOfBuilder::new().item(number).item(text).description(Some("A number or a text")).into()
    }
}

impl ToSchema for ObjectId {}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EventInput {
    /// The event type.
    event: EventName,
    object_id: ObjectId,
    /// The data of the event; `{}` if absent. It is published exactly as written.
    #[serde(default, deserialize_with = "as_written")]
    #[schema(value_type = Option<Object>)]
    data: Option<Box<RawValue>>,
    /// The event id (`message_id`); a random one if absent.
    id: Option<EventId>,
}

/// Publish an event
///
/// As the platform does, and with a confirm of the broker. `GET /executions?event_id=…` shows its executions.
#[utoipa::path(post, path = "/events", operation_id = "publish_event", tag = "events", request_body = EventInput,
    responses((status = 202, description = "The broker has confirmed the event", body = Published)))]
async fn publish(
    _: Operator,
    State(console): State<Console>,
    Json(input): Json<EventInput>,
) -> Result<Response, Problem> {
    let EventInput { event, object_id, data, id } = input;
    let data = data_or_empty(data)?;
    let max_bytes = console.dead_letters.max_event_bytes;
    if data.get().len() > max_bytes {
        return Err(Problem::too_large("the event is larger than worker.max_event_bytes"));
    }
    let new = NewEvent { name: event, object_id: object_id.0, data, id };
    let published = publish_event(&console.dead_letters.broker, new, max_bytes).await.map_err(refused)?;
    let location = format!("/api/v1/executions?event_id={}", published.event_id);
    Ok(created(json(&published)?, StatusCode::ACCEPTED, &location))
}

/// Deserializes a member that is present. `null` counts as present.
pub fn as_written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::deserialize(deserializer).map(Some)
}

/// The data as written, or `{}` if absent.
///
/// # Errors
/// If it is not an object.
pub fn data_or_empty(data: Option<Box<RawValue>>) -> Result<Box<RawValue>, Problem> {
    match data {
        Some(data) => require_object(data),
        None => RawValue::from_string("{}".to_owned()).map_err(|_| Problem::internal()),
    }
}

/// # Errors
/// If it is not an object.
pub fn require_object(data: Box<RawValue>) -> Result<Box<RawValue>, Problem> {
    if data.get().starts_with('{') {
        return Ok(data);
    }
    Err(Problem::invalid(vec![FieldError::at("/data", "must be a JSON object")]))
}

/// An event that no worker would accept is the client's error. It was not published.
fn refused(error: anyhow::Error) -> Problem {
    match error.downcast::<Malformed>() {
        Ok(refused) => Problem::invalid(vec![FieldError::at("", refused.to_string())]),
        Err(error) => error.into(),
    }
}
