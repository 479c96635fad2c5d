//! The value types and pure decisions of provisiond.
//!
//! This module does no I/O, does not know lapin or SQL, and reads no clock that a caller could pass in. Bytes from
//! outside are parsed into these types once, where they arrive; a value that exists is valid.

pub mod access;
pub mod address;
pub mod clock;
pub mod dead_letter;
pub mod decide;
pub mod event;
pub mod execution;
pub mod handler;
pub mod invisible;
pub mod json;
pub mod latency;
pub mod outcome;
pub mod plan;
pub mod process;
pub mod replay;
pub mod reply;
pub mod resume;
pub mod retry;
pub mod seal;
pub mod secret;
pub mod task;
pub mod text_enum;
pub mod time;
pub mod trace;
pub mod verdict;
