//! The identity of this process in the records that it writes.

use crate::domain::execution::WorkerId;

/// This process: host, pid and version.
pub fn this_process() -> WorkerId {
    WorkerId {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
