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

/// With the allocator of glibc, a worker needs about a fifth more processor time (docs/performance.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // provisiond launches a script that has limits or a user of its own through itself. That must happen
    // before anything else is set up: with one thread and no runtime.
    if args.next().as_deref() == Some(OsStr::new(launch::SUBCOMMAND)) {
        let (why, code) = launch::exec(args);
        let _ = writeln!(std::io::stderr(), "{}{why}", launch::FAILED);
        return ExitCode::from(code);
    }
    // Scripts must not inherit descriptors that were open when this process started. Descriptors that it
    // opens itself close on exec by default.
    close_fds::set_fds_cloexec(3, &[]);
    cli::main()
}
