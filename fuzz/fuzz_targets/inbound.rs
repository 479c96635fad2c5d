//! Whatever a publisher wrote, lapin's parser can read what it is given of it, however the bytes arrive.
#![no_main]

use amq_protocol::frame::{AMQPFrame, parse_frame};
use libfuzzer_sys::fuzz_target;

#[path = "../../src/broker"]
mod broker {
    pub mod inbound;
}

use broker::inbound::Inbound;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const FRAME_END: u8 = 0xce;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, 1], size.as_slice(), payload, &[FRAME_END]].concat()
}

/// What lapin is given of `bytes`, which are read in parts of `size`.
fn through(bytes: &[u8], size: usize) -> Vec<u8> {
    let (mut inbound, mut given, mut taken) = (Inbound::default(), Vec::new(), [0; 300]);
    for part in bytes.chunks(size) {
        inbound.space(size)[..part.len()].copy_from_slice(part);
        inbound.push(part.len());
        while let count @ 1.. = inbound.take(&mut taken) {
            given.extend(&taken[..count]);
        }
    }
    given
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text].concat()
}

fuzz_target!(|data: (u8, u16, &[u8], &[u8])| {
    let (size, flags, key, properties) = data;
    let key = &key[..key.len().min(255)];
    // The broker makes the method, and the head of the header; what is in them is the publisher's.
    let deliver = [&[0, 60, 0, 60], &*short(b"tag"), &[0; 9], &*short(b"events"), &*short(key)].concat();
    let header = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], flags.to_be_bytes().as_slice(), properties].concat();
    let sent = [frame(METHOD, &deliver), frame(HEADER, &header)].concat();
    let given = through(&sent, usize::from(size) + 1);
    assert_eq!(given, through(&sent, sent.len()), "it does not matter how bytes arrive");
    let mut rest = given.as_slice();
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let (after, frame) = parse_frame(rest).expect("lapin reads it");
        frames.push(frame);
        rest = after;
    }
    assert!(matches!(&*frames, [AMQPFrame::Method(..), AMQPFrame::Header(..)]), "{frames:?}");
    // Whatever bytes come, nothing panics.
    through(properties, usize::from(size) + 1);
});
