//! AMQP 0-9-1 on the wire, as far as a proxy must understand it: which bytes are one message, and what it is.
//!
//! A frame is a type (u8), a channel (u16), a size (u32), that many bytes, and 0xCE. A message is a method frame, a
//! header frame and as many body frames as its size needs; they are held back until it is complete, so that whoever
//! looks at the link can let a whole message pass or none of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

/// What a process published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A result that says success.
    Result,
    /// A result that says that a retry is under way.
    Retrying,
    /// A result that says that there is a dead letter.
    DeadLettered,
    /// A retry copy.
    Copy,
    /// A copy that is to arrive at once.
    HandOver,
    DeadLetter,
    Other,
}

/// A step that can be seen on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Deliver,
    /// The process acknowledges a delivery.
    Ack,
    Publish(Kind),
    /// The broker confirms what was published last on that channel.
    Confirm(Kind),
    /// The process names its connection.
    Named,
    Other,
}

/// Bytes that belong together.
pub struct Unit {
    pub bytes: Vec<u8>,
    pub step: Step,
}

/// Which way the bytes flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the process to its service.
    ToService,
    ToProcess,
}

/// What both directions of one connection know of it.
#[derive(Clone, Default)]
pub struct Shared {
    /// The last publish on each channel.
    published: Arc<Mutex<HashMap<u16, Kind>>>,
}

/// Cuts one direction of a connection into units.
pub struct Framer {
    direction: Direction,
    shared: Shared,
    buffer: Vec<u8>,
    /// The protocol header, with which a client begins.
    protocol_header_size: usize,
    incomplete: HashMap<u16, Message>,
}

/// A message whose body is not complete.
struct Message {
    bytes: Vec<u8>,
    exchange: Option<String>,
    body: Vec<u8>,
    missing: u64,
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn short_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[1..=usize::from(bytes[0])]).into_owned()
}

impl Framer {
    pub fn new(direction: Direction, shared: Shared) -> Self {
        let protocol_header_size = if direction == Direction::ToService { 8 } else { 0 };
        Self { direction, shared, buffer: Vec::new(), protocol_header_size, incomplete: HashMap::new() }
    }

    /// The units that are complete with `bytes`.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Unit> {
        self.buffer.extend_from_slice(bytes);
        let mut units = Vec::new();
        if self.protocol_header_size > 0 && self.buffer.len() >= self.protocol_header_size {
            let bytes = self.buffer.drain(..self.protocol_header_size).collect();
            self.protocol_header_size = 0;
            units.push(Unit { bytes, step: Step::Other });
        }
        while self.protocol_header_size == 0 && self.buffer.len() >= 7 {
            let size = usize::try_from(number(&self.buffer[3..7])).expect("a size") + 8;
            if self.buffer.len() < size {
                break;
            }
            let frame: Vec<u8> = self.buffer.drain(..size).collect();
            units.extend(self.frame(frame));
        }
        units
    }

    fn frame(&mut self, frame: Vec<u8>) -> Option<Unit> {
        let channel = u16::try_from(number(&frame[1..3])).expect("two bytes");
        let payload = &frame[7..frame.len() - 1];
        match frame[0] {
            1 => self.method(channel, frame),
            2 | 3 if self.incomplete.contains_key(&channel) => {
                let message = self.incomplete.get_mut(&channel).expect("it was looked up");
                if frame[0] == 2 {
                    message.missing = number(&payload[4..12]);
                } else {
                    message.missing -= payload.len() as u64;
                    message.body.extend_from_slice(payload);
                }
                message.bytes.extend_from_slice(&frame);
                if message.missing > 0 {
                    return None;
                }
                let message = self.incomplete.remove(&channel).expect("it was looked up");
                Some(self.message(channel, message))
            }
            _ => Some(Unit { bytes: frame, step: Step::Other }),
        }
    }

    fn method(&mut self, channel: u16, frame: Vec<u8>) -> Option<Unit> {
        let arguments = &frame[11..];
        let step = match (number(&frame[7..9]), number(&frame[9..11])) {
            (60, 40) => {
                let exchange = Some(short_text(&arguments[2..]));
                self.begin(channel, frame, exchange);
                return None;
            }
            // deliver; return and get-ok carry a body too, and are of no interest.
            (60, 50 | 60 | 71) => {
                self.begin(channel, frame, None);
                return None;
            }
            (60, 80) if self.direction == Direction::ToService => Step::Ack,
            (60, 80) => match self.shared.published.lock().expect("unpoisoned").get(&channel) {
                Some(kind) => Step::Confirm(*kind),
                None => Step::Other,
            },
            (10, 11) => Step::Named,
            _ => Step::Other,
        };
        Some(Unit { bytes: frame, step })
    }

    fn begin(&mut self, channel: u16, bytes: Vec<u8>, exchange: Option<String>) {
        self.incomplete.insert(channel, Message { bytes, exchange, body: Vec::new(), missing: u64::MAX });
    }

    fn message(&mut self, channel: u16, message: Message) -> Unit {
        let Message { bytes, exchange, body, .. } = message;
        let Some(exchange) = exchange else { return Unit { bytes, step: Step::Deliver } };
        let kind = kind_of(&exchange, &body);
        self.shared.published.lock().expect("unpoisoned").insert(channel, kind);
        Unit { bytes, step: Step::Publish(kind) }
    }
}

fn kind_of(exchange: &str, body: &[u8]) -> Kind {
    let has_disposition = |disposition: &str| {
        let needle = format!("\"disposition\":\"{disposition}\"");
        body.windows(needle.len()).any(|window| window == needle.as_bytes())
    };
    if exchange.ends_with(".results") {
        return match () {
            () if has_disposition("retrying") => Kind::Retrying,
            () if has_disposition("dead_lettered") => Kind::DeadLettered,
            () => Kind::Result,
        };
    }
    match exchange {
        _ if exchange.ends_with(".dead-letters") => Kind::DeadLetter,
        _ if exchange.ends_with(".delay.v1.deliver") => Kind::HandOver,
        _ if exchange.contains(".delay.v1.") => Kind::Copy,
        _ => Kind::Other,
    }
}
