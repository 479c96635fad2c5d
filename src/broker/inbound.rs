//! Checks inbound frames before lapin parses them.
//!
//! RabbitMQ forwards whatever bytes a publisher wrote. lapin closes the whole connection, with every unsettled delivery
//! on it, if a short string is not UTF-8 or a header has an unknown type, and it recurses as deep as headers are
//! nested. So every frame that describes a message is checked first: `basic.deliver`, `basic.get-ok`, `basic.return`
//! and content headers. Parts that lapin cannot read are replaced or left out, and the header [`UNREADABLE`] describes
//! them. All other bytes pass unchanged.
//!
//! This file uses nothing of the rest of the program: the fuzz target in `fuzz/` compiles it by itself.

mod message;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, ops::Range};

pub use message::UNREADABLE;

/// The largest frame size that we negotiate: RabbitMQ's default. A smaller value would close the connection at a header
/// frame above it. A method or header frame that claims to be larger is passed to lapin unchecked.
pub const FRAME_MAX: u32 = 131_072;
/// The size of a frame's head: type, channel and size.
const HEAD: usize = 7;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xce;

/// The bytes of one connection, on their way from the socket to lapin.
#[derive(Default)]
pub struct Inbound {
    /// `..ready.start` was taken, `ready` can be taken, `ready.end..filled` is not checked yet, the rest is free.
    buffer: Vec<u8>,
    ready: Range<usize>,
    filled: usize,
    /// Bytes of the current body or heartbeat frame that are still to come, including its end.
    body_left: usize,
    /// These are not AMQP 0-9-1 frames. lapin gets everything unchecked, and closes the connection.
    is_foreign: bool,
    /// What was replaced in the method of a message, by channel, until its content header arrives.
    notes: HashMap<u16, String>,
}

impl Inbound {
    /// Copies checked bytes into `target`, as many as fit, and returns their number.
    pub fn take(&mut self, target: &mut [u8]) -> usize {
        let count = self.ready.len().min(target.len());
        let ready = self.buffer.get(self.ready.start..self.ready.start + count);
        if let (Some(to), Some(from)) = (target.get_mut(..count), ready) {
            to.copy_from_slice(from);
        }
        self.ready.start += count;
        count
    }

    /// Space for the next `size` bytes. Call [`Inbound::push`] with the number of bytes that were read into it.
    pub fn space(&mut self, size: usize) -> &mut [u8] {
        self.buffer.copy_within(self.ready.start..self.filled, 0);
        self.filled -= self.ready.start;
        self.ready = 0..self.ready.len();
        if self.buffer.len() < self.filled + size {
            self.buffer.resize(self.filled + size, 0);
        }
        self.buffer.get_mut(self.filled..self.filled + size).unwrap_or_default()
    }

    /// Checks the `count` bytes that were read into the last [`Inbound::space`].
    pub fn push(&mut self, count: usize) {
        self.filled += count;
        while self.ready.end < self.filled && self.check_next() {}
    }

    /// Checks the bytes after `ready`. Returns false if more must be read first.
    fn check_next(&mut self) -> bool {
        let rest = self.buffer.get(self.ready.end..self.filled).unwrap_or_default();
        if self.is_foreign || self.body_left > 0 {
            let passed = if self.is_foreign { rest.len() } else { self.body_left.min(rest.len()) };
            self.body_left = self.body_left.saturating_sub(passed);
            self.ready.end += passed;
            return true;
        }
        let &[kind, c1, c0, s3, s2, s1, s0, ..] = rest else { return false };
        let (channel, size) = (u16::from_be_bytes([c1, c0]), u32::from_be_bytes([s3, s2, s1, s0]));
        let length = HEAD + size as usize + 1;
        match kind {
            BODY | HEARTBEAT => self.body_left = length,
            METHOD | HEADER if size <= FRAME_MAX => {
                let Some(frame) = rest.get(..length) else { return false };
                let [_, _, _, _, _, _, _, payload @ .., FRAME_END] = frame else {
                    self.is_foreign = true;
                    return true;
                };
                match replacement(&mut self.notes, kind, channel, payload) {
                    Some(payload) => self.replace(kind, channel, length, &payload),
                    None => self.ready.end += length,
                }
            }
            _ => self.is_foreign = true,
        }
        true
    }

    /// Replaces the payload of the next frame, which is `length` bytes long.
    fn replace(&mut self, kind: u8, channel: u16, length: usize, payload: &[u8]) {
        let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut frame = Vec::with_capacity(HEAD + payload.len() + 1);
        frame.push(kind);
        frame.extend(channel.to_be_bytes());
        frame.extend(size.to_be_bytes());
        frame.extend(payload);
        frame.push(FRAME_END);
        let start = self.ready.end;
        self.ready.end += frame.len();
        self.filled = self.filled - length + frame.len();
        self.buffer.splice(start..start + length, frame);
    }
}

/// The payload that lapin gets instead of `payload`; `None` if it can read `payload`.
fn replacement(notes: &mut HashMap<u16, String>, kind: u8, channel: u16, payload: &[u8]) -> Option<Vec<u8>> {
    if kind == HEADER {
        let note = if notes.is_empty() { None } else { notes.remove(&channel) };
        return message::readable_header(payload, note);
    }
    let (payload, note) = message::readable_method(payload)?;
    notes.insert(channel, note);
    Some(payload)
}
