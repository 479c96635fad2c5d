//! provisiond: runs HTTP and script handlers for the events of a billing platform.

mod broker;
mod cli;
mod config;
mod console;
mod dead_letters;
mod domain;
mod http_server;
mod monitoring;
mod operations;
mod process_id;
mod recorder;
mod runner;
mod shutdown;
mod status;
mod status_reporter;
mod store;
mod telemetry;
mod tls;
mod worker;

use std::{ffi::OsStr, io::Write as _, process::ExitCode};

use runner::launch;

/// With glibc's an event costs a worker a fifth more (docs/performance.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // A script with limits or a user of its own is started through this program, before anything
    // else is set up: one thread, no runtime.
    if args.next().as_deref() == Some(OsStr::new(launch::SUBCOMMAND)) {
        let (why, code) = launch::exec(args);
        let _ = writeln!(std::io::stderr(), "{}{why}", launch::FAILED);
        return ExitCode::from(code);
    }
    // Whatever the process was started with is open for it alone: scripts would inherit it. What it opens itself closes on
    // exec by default.
    close_fds::set_fds_cloexec(3, &[]);
    cli::main()
}
