//! The vocabulary of provisiond: pure values and decisions.
//!
//! Nothing in here does I/O, knows lapin or SQL, or reads a clock that a caller could pass in. What
//! arrives as bytes becomes one of these types once, at the door; a value that exists is valid.

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
