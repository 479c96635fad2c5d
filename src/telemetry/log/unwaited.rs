//! Standard error that nobody waits for: a log collector that is stuck holds up no event and no health check.
//!
//! Lines wait in a bounded queue for a thread that writes them. What finds the queue full is lost, and counted.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd as _,
    panic,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tracing::{error, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that wait at most.
const WAITING: usize = 8192;
const POLL_INTERVAL: Duration = Duration::from_secs(1);

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    no_room: ErrorCounter,
    writing: Arc<Writing>,
}

#[derive(Default)]
struct Writing {
    /// A line is being written.
    is_under_way: AtomicBool,
    written: AtomicU64,
    failed: AtomicU64,
}

/// Writes what still waits when it is dropped, if that is possible within a second.
pub struct LogGuard(Option<WorkerGuard>);

/// The writer for the log of this process, once in it.
pub(super) fn stderr() -> io::Result<(NonBlocking, LogGuard)> {
    // Not the standard library's: whoever writes to that would wait for the lock that a stuck line holds.
    let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let writing = Arc::new(Writing::default());
    let lines = Lines { file, writing: Arc::clone(&writing) };
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING)
        .thread_name("log")
        .finish(lines);
    let _ = LOG.set(Log { no_room: writer.error_counter(), writing });
    panic::set_hook(Box::new(|panic| {
        let trace = std::backtrace::Backtrace::capture();
        error!(backtrace = %trace, "{panic}");
    }));
    Ok((writer, LogGuard(Some(guard))))
}

/// Log lines of this process that were lost.
pub fn lost() -> u64 {
    LOG.get().map_or(0, |log| log.no_room.dropped_lines() as u64 + log.writing.failed.load(Relaxed))
}

/// Says afterwards how many lines were lost. Never returns.
pub async fn tell_of_lost() {
    let (mut told, mut last) = (0, 0);
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let now = lost();
        if now > told && now == last && !is_stuck().await {
            warn!(lines = now - told, "log lines were lost: nobody took them from standard error in time");
            told = now;
        }
        last = now;
    }
}

/// Whether a line is being written and does not come to its end.
async fn is_stuck() -> bool {
    let Some(Log { writing, .. }) = LOG.get() else { return false };
    let written = writing.written.load(Relaxed);
    if !writing.is_under_way.load(Relaxed) {
        return false;
    }
    tokio::time::sleep(POLL_INTERVAL / 2).await;
    writing.is_under_way.load(Relaxed) && writing.written.load(Relaxed) == written
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let Some(guard) = self.0.take() else { return };
        let is_full = LOG.get().is_some_and(|log| log.no_room.dropped_lines() > 0);
        let is_busy = LOG.get().is_some_and(|log| log.writing.is_under_way.load(Relaxed));
        if is_full && is_busy {
            // It would say so on standard output, which may be stuck as well.
            std::mem::forget(guard);
        }
    }
}

/// Standard error, line by line.
struct Lines {
    file: File,
    writing: Arc<Writing>,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line).map(|()| line.len())
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        self.writing.is_under_way.store(true, Relaxed);
        let done = self.file.write_all(line);
        self.writing.is_under_way.store(false, Relaxed);
        self.writing.written.fetch_add(1, Relaxed);
        self.writing.failed.fetch_add(done.is_err().into(), Relaxed);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
