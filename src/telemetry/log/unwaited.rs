//! A writer to standard error that never blocks: a stuck log collector stops no event and no health check.
//!
//! Lines wait in a bounded queue for a thread that writes them. A line that finds the queue full is dropped and
//! counted.

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

/// Maximum number of lines that wait.
const MAX_WAITING_LINES: usize = 8192;
const POLL_INTERVAL: Duration = Duration::from_secs(1);

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    dropped: ErrorCounter,
    writing: Arc<Writing>,
}

#[derive(Default)]
struct Writing {
    /// A line is being written.
    is_under_way: AtomicBool,
    written: AtomicU64,
    failed: AtomicU64,
}

/// Writes the waiting lines when it is dropped, if that is possible within a second.
pub struct LogGuard(Option<WorkerGuard>);

/// The log writer of this process. Call it once.
pub(super) fn stderr() -> io::Result<(NonBlocking, LogGuard)> {
    // Not `io::stderr`: while a line is stuck it holds a lock, and every other writer would wait for that.
    let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let writing = Arc::new(Writing::default());
    let lines = Lines { file, writing: Arc::clone(&writing) };
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(MAX_WAITING_LINES)
        .thread_name("log")
        .finish(lines);
    let _ = LOG.set(Log { dropped: writer.error_counter(), writing });
    panic::set_hook(Box::new(|panic| {
        let trace = std::backtrace::Backtrace::capture();
        error!(backtrace = %trace, "{panic}");
    }));
    Ok((writer, LogGuard(Some(guard))))
}

/// Log lines that this process has lost.
pub fn lost() -> u64 {
    LOG.get().map_or(0, |log| log.dropped.dropped_lines() as u64 + log.writing.failed.load(Relaxed))
}

/// Logs how many lines were lost, once lines are written again. Never returns.
pub async fn report_lost() {
    let (mut reported, mut last) = (0, 0);
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let now = lost();
        if now > reported && now == last && !is_stuck().await {
            warn!(lines = now - reported, "lost log lines: the reader of standard error was too slow");
            reported = now;
        }
        last = now;
    }
}

/// Whether the thread is blocked while it writes a line.
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
        let is_full = LOG.get().is_some_and(|log| log.dropped.dropped_lines() > 0);
        let is_busy = LOG.get().is_some_and(|log| log.writing.is_under_way.load(Relaxed));
        if is_full && is_busy {
            // Dropped, the guard would print a warning to standard output, which may be stuck as well.
            std::mem::forget(guard);
        }
    }
}

/// Writes lines to standard error, and counts them.
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
        let result = self.file.write_all(line);
        self.writing.is_under_way.store(false, Relaxed);
        self.writing.written.fetch_add(1, Relaxed);
        self.writing.failed.fetch_add(result.is_err().into(), Relaxed);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
