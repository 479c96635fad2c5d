//! Captures the output of a task: reads all of a pipe, and keeps a limited part.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::sleep,
};

use crate::domain::outcome::KEPT_BYTES;

/// How much of the head and of the tail of a longer output the record contains.
const HALF: usize = KEPT_BYTES / 2;

/// The capacity of a pipe.
const CHUNK: usize = 64 * 1024;

/// After this many bytes there is a pause after each read, so that a task that writes without end does not
/// use a whole core of the worker.
const AT_FULL_SPEED: u64 = 16 << 20;
const READ_INTERVAL: Duration = Duration::from_millis(1);

/// At most the first `max` bytes, as text that every store accepts: invalid UTF-8 and NUL become U+FFFD.
pub fn head_text(bytes: &[u8], max: usize) -> String {
    let Some(mut head) = bytes.get(..max) else { return text(bytes) };
    if let Err(error) = std::str::from_utf8(head)
        && error.error_len().is_none()
    {
        // The cut is inside a character.
        head = head.get(..error.valid_up_to()).unwrap_or(head);
    }
    text(head)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{FFFD}")
}

/// Reads one pipe to its end, and keeps a limited part.
pub struct Capture<R> {
    /// None after the end was read.
    pipe: Option<R>,
    chunk: Vec<u8>,
    /// The first `limit` bytes.
    head: Vec<u8>,
    limit: usize,
    /// The last bytes of the output beyond `limit`.
    tail: VecDeque<u8>,
    total: u64,
}

impl<R: AsyncRead + Unpin> Capture<R> {
    /// Captures `pipe`, and keeps its first `limit` bytes complete.
    pub fn new(pipe: Option<R>, limit: usize) -> Self {
        let chunk = Vec::with_capacity(CHUNK);
        Self { pipe, chunk, head: Vec::new(), limit, tail: VecDeque::new(), total: 0 }
    }

    /// Reads until the last writer has closed the pipe. It can be cancelled and called again: no byte is
    /// lost.
    pub async fn drain(&mut self) {
        while let Some(pipe) = &mut self.pipe {
            self.chunk.clear();
            match pipe.read_buf(&mut self.chunk).await {
                Ok(n) if n > 0 => self.keep(),
                _ => self.pipe = None,
            }
            if self.total > AT_FULL_SPEED {
                sleep(READ_INTERVAL).await;
            }
        }
    }

    fn keep(&mut self) {
        self.total += self.chunk.len() as u64;
        let room = (self.limit - self.head.len()).min(self.chunk.len());
        let (fits, beyond) = self.chunk.split_at(room);
        self.head.extend_from_slice(fits);
        self.tail.extend(beyond);
        self.tail.drain(..self.tail.len().saturating_sub(HALF));
    }
}

impl<R> Capture<R> {
    /// Whether the pipe was read to its end.
    pub fn ended(&self) -> bool {
        self.pipe.is_none()
    }

    /// Whether the record contains less than the task wrote.
    pub fn truncated(&self) -> bool {
        self.total > KEPT_BYTES as u64 || !self.ended()
    }

    /// The complete output, if it was not more than the limit.
    pub fn complete(&self) -> Option<&[u8]> {
        (self.total == self.head.len() as u64).then_some(&self.head)
    }

    /// Like [`Capture::complete`], by value.
    pub fn into_complete(self) -> Option<Bytes> {
        (self.total == self.head.len() as u64).then(|| self.head.into())
    }

    /// The output for the record: all of it, or its head and its tail.
    pub fn record(&self) -> String {
        if self.total <= KEPT_BYTES as u64 {
            return text(&self.head);
        }
        let stored = self.head.len() + self.tail.len();
        let mut tail: Vec<u8> =
            self.head.iter().chain(&self.tail).skip(stored.saturating_sub(HALF)).copied().collect();
        // The cut may be inside a character, of which at most three bytes are left.
        let torn = tail.iter().take(3).take_while(|byte| (0x80..0xC0).contains(*byte)).count();
        tail.drain(..torn);
        let left_out = self.total - KEPT_BYTES as u64;
        format!("{}\n… {left_out} bytes left out …\n{}", head_text(&self.head, HALF), text(&tail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn captured(output: &[u8], limit: usize) -> Capture<&[u8]> {
        let mut capture = Capture::new(Some(output), limit);
        capture.drain().await;
        assert!(capture.ended());
        capture
    }

    #[tokio::test]
    async fn a_short_output_is_kept_as_it_is() {
        let capture = captured(b"caf\xc3\xa9 \xff \0", KEPT_BYTES).await;
        assert_eq!(capture.record(), "café \u{FFFD} \u{FFFD}");
        assert!(!capture.truncated());
        let full = captured("x".repeat(KEPT_BYTES).leak().as_bytes(), KEPT_BYTES).await;
        assert!(!full.truncated() && full.record().len() == KEPT_BYTES && full.complete().is_some());
    }

    #[tokio::test]
    async fn head_and_tail_of_a_long_output_are_kept() {
        let output: Vec<u8> = (0..300_000_u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        for limit in [KEPT_BYTES, 100_000, 3_000_000] {
            let capture = captured(&output, limit).await;
            let record = capture.record();
            assert!(capture.truncated());
            assert!(record.starts_with("0\n1\n2\n") && record.ends_with("\n299998\n299999\n"));
            assert!(record.contains(&format!("\n… {} bytes left out …\n", output.len() - KEPT_BYTES)));
            assert!(record.len() < KEPT_BYTES + 100);
            assert_eq!(capture.into_complete().is_some(), limit > output.len());
        }
    }

    #[tokio::test]
    async fn a_cut_leaves_no_torn_characters() {
        let output = "ü€😀".repeat(20_000).into_bytes();
        for skip in 0..9 {
            let record = captured(&output[..output.len() - 9 + skip], KEPT_BYTES).await.record();
            let torn = record.matches('\u{FFFD}').count();
            assert!(torn <= 1, "{torn} at {skip}: only the end of the output itself may be torn");
        }
        assert_eq!(head_text("aü".as_bytes(), 2), "a");
    }
}
