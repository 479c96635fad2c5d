//! Other tasks of operators: change the catalogue, publish an event by hand, make a test call.
//!
//! The command line, the console and the REST API call the same functions. These take and return typed values
//! and print nothing. Changes of handlers are in `store`; dead letters and replays are in `dead_letters`.

mod catalogue;
mod publish;
mod trial;

pub use catalogue::{NewEventType, add_event_type, remove_event_type};
pub use publish::{NewEvent, Published, publish_event};
pub use trial::{Sample, TrialError, Trials};
