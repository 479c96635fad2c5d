//! Tests against the real services: RabbitMQ and PostgreSQL, with the real program as separate processes.
//!
//! Each test has its own prefix and database, so all can run at the same time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::too_many_lines,
    reason = "a test fails by panicking, and reads from top to bottom"
)]

// The attribute `blocking_test`, in every file.
#[macro_use]
extern crate provisiond_test_macros;

mod support;

mod amqps;
mod api;
mod breaker;
mod broker;
mod catalogue;
mod cli;
mod clocks;
mod console;
mod containers;
mod dead_letters;
mod delivery;
mod deploy;
mod docs;
mod drain;
mod faults;
mod floors;
mod garbage;
mod half_requests;
mod handler_docs;
mod hostile_endpoints;
mod hostile_publishers;
mod hostile_scripts;
mod installations;
mod integrator;
mod isolation;
mod logs;
mod monitoring;
mod nginx;
mod pgbouncer;
mod publish;
mod redelivery;
mod registry;
mod replies;
mod retries;
mod rights;
mod scripts;
mod secrets;
mod signatures;
mod start;
mod status;
mod test_calls;
mod traces;
mod upgrade;
