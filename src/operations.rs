//! What operators do beside searching and replaying: change the catalogue, publish an event by hand, try a handler.
//!
//! The command line, the console and the REST API call the same functions. They take typed values and give typed values,
//! and print nothing. Changes of handlers are the store's, dead letters and replays those of `dead_letters`.

mod catalogue;
mod publish;
mod trial;

pub use catalogue::{NewEventType, add_event_type, remove_event_type};
pub use publish::{NewEvent, Published, publish_event};
pub use trial::{Sample, TrialError, Trials};
