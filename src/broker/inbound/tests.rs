//! Checks with lapin's own parsers that lapin can read what passes.

use lapin::{
    protocol::basic::{AMQPProperties, parse_deliver, parse_get_ok, parse_properties},
    types::{AMQPValue, ShortString},
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use super::*;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("a size").to_be_bytes();
    [&[kind, 0, 1], size.as_slice(), payload, &[FRAME_END]].concat()
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("short")], text].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("long").to_be_bytes(), bytes].concat()
}

/// `basic.deliver`, redelivered, with the tag 7.
fn deliver(exchange: &[u8], key: &[u8]) -> Vec<u8> {
    let tag = [7_u64.to_be_bytes().as_slice(), &[1]].concat();
    let payload = [&[0, 60, 0, 60], &*short(b"consumer"), &*tag, &*short(exchange), &*short(key)].concat();
    frame(METHOD, &payload)
}

/// A content header of a message of one byte.
fn header(flags: u16, properties: &[u8]) -> Vec<u8> {
    let head = [[0, 60, 0, 0].as_slice(), &1_u64.to_be_bytes(), &flags.to_be_bytes()].concat();
    frame(HEADER, &[&head, properties].concat())
}

fn entry(name: &[u8], kind: u8, value: &[u8]) -> Vec<u8> {
    [&*short(name), &[kind], value].concat()
}

/// What lapin gets of `bytes`, read in parts of `size` and taken in parts of 5.
fn through(bytes: &[u8], size: usize) -> Vec<u8> {
    let (mut inbound, mut output) = (Inbound::default(), Vec::new());
    for part in bytes.chunks(size) {
        inbound.space(size)[..part.len()].copy_from_slice(part);
        inbound.push(part.len());
        let mut buffer = [0; 5];
        while let count @ 1.. = inbound.take(&mut buffer) {
            output.extend(&buffer[..count]);
        }
    }
    output
}

/// The payloads of `bytes`, which must be complete frames.
fn payloads(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut payloads = Vec::new();
    while let [_, _, _, s3, s2, s1, s0, rest @ ..] = bytes {
        let (payload, rest) = rest.split_at(u32::from_be_bytes([*s3, *s2, *s1, *s0]) as usize);
        assert_eq!(rest.first(), Some(&FRAME_END), "a frame ends where it says");
        payloads.push(payload);
        bytes = &rest[1..];
    }
    assert!(bytes.is_empty(), "a part of a frame is left");
    payloads
}

fn properties(payload: &[u8]) -> AMQPProperties {
    let (rest, properties) = parse_properties(&payload[12..]).expect("lapin reads the properties");
    assert!(rest.is_empty(), "lapin reads all of the properties");
    properties
}

fn message_id(properties: &AMQPProperties) -> Option<&str> {
    properties.message_id().as_ref().map(ShortString::as_str)
}

fn unreadable(properties: &AMQPProperties) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(UNREADABLE)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        other => panic!("{other:?}"),
    }
}

/// One message whose header has these flags and properties, and what is said about it.
fn message(flags: u16, given: &[u8]) -> (AMQPProperties, Option<String>) {
    let sent = [deliver(b"events", b"clients.create"), header(flags, given), frame(BODY, b"x")].concat();
    let received = through(&sent, sent.len());
    assert_eq!(through(&sent, 1), received, "it does not matter how bytes arrive");
    let frames = payloads(&received);
    assert_eq!(frames.len(), 3);
    let properties = properties(frames[1]);
    let note = unreadable(&properties);
    (properties, note)
}

#[test]
fn bytes_that_lapin_can_read_pass_unchanged() {
    let nested = entry(b"deep", b'F', &long(&entry(b"list", b'A', &long(&[b't', 1, b'V']))));
    let table =
        [entry(b"n", b'l', &[0; 8]), entry("ключ".as_bytes(), b'S', &long(b"\xff\xfe")), nested].concat();
    let all = [
        &*short(b"application/json"),
        &*short(b""),
        &*long(&table),
        &[2, 0],
        &*short(b"c"),
        &*short(b"r"),
        &*short(b"1000"),
        &*short("ü".as_bytes()),
        &[0; 8],
        &*short(b"t"),
        &*short(b"guest"),
        &*short(b"app"),
        &*short(b""),
    ]
    .concat();
    let sent = [
        deliver(b"events", b"clients.create"),
        header(0xfffc, &all),
        frame(BODY, &vec![FRAME_END; 100_000]),
        frame(HEARTBEAT, b""),
        frame(METHOD, &[0, 10, 0, 51]),
        deliver(b"", b""),
        header(0, b""),
    ]
    .concat();
    for size in [1, 6, 7, 4096, sent.len()] {
        assert_eq!(through(&sent, size), sent, "in parts of {size}");
    }
    let (properties, note) = message(0xfffc, &all);
    assert_eq!((message_id(&properties), note), (Some("ü"), None));
}

#[test]
fn a_text_that_is_not_utf8_is_replaced_and_named() {
    let texts = [
        (0x8000, "content_type"),
        (0x4000, "content_encoding"),
        (0x0400, "correlation_id"),
        (0x0200, "reply_to"),
        (0x0100, "expiration"),
        (0x0080, "message_id"),
        (0x0020, "type"),
        (0x0010, "user_id"),
        (0x0008, "app_id"),
        (0x0004, "cluster_id"),
    ];
    for (flag, name) in texts {
        let (_, note) = message(flag, &short(b"\xff\xfe\x00\x81\x92"));
        assert_eq!(note, Some(format!("{name} is not UTF-8 (fffe008192)")));
    }
    // A text of the maximum length, next to a readable one.
    let id = short(&[0xff; 255]);
    let (properties, note) = message(0x0084, &[&*id, &*short(b"fine")].concat());
    assert_eq!(
        properties.message_id().as_ref().map(|id| id.as_str().to_owned()),
        Some("\u{fffd}".repeat(85))
    );
    assert_eq!(properties.cluster_id(), &Some("fine".into()));
    assert_eq!(note, Some(format!("message_id is not UTF-8 ({}…)", "ff".repeat(32))));
}

#[test]
fn the_readable_part_of_a_routing_key_is_kept() {
    let sent = [deliver(b"events", b"clients.\xe4"), header(0x0080, &short(b"e1"))].concat();
    // A note about one message does not reach the next.
    let sent = [sent, deliver(b"events", b"a"), header(0x0080, &short(b"e2"))].concat();
    let received = through(&sent, sent.len());
    let frames = payloads(&received);
    let (rest, read) = parse_deliver(&frames[0][4..]).expect("lapin reads it");
    assert!(rest.is_empty());
    assert_eq!(
        (read.delivery_tag, read.redelivered, read.routing_key.as_str()),
        (7, true, "clients.\u{fffd}")
    );
    let first = properties(frames[1]);
    assert_eq!(message_id(&first), Some("e1"));
    assert_eq!(unreadable(&first).as_deref(), Some("routing_key is not UTF-8 (636c69656e74732ee4)"));
    assert_eq!(unreadable(&properties(frames[3])), None);

    let got = [&[0, 60, 0, 71], [0; 9].as_slice(), &*short(b"\xff"), &*short(b"k"), &[0, 0, 0, 3]].concat();
    let received = through(&frame(METHOD, &got), 3);
    let (_, read) = parse_get_ok(&payloads(&received)[0][4..]).expect("lapin reads it");
    assert_eq!((read.exchange.as_str(), read.message_count), ("\u{fffd}", 3));
}

#[test]
fn headers_that_cannot_be_read_are_left_out_and_named() {
    let good = entry(b"good", b'S', &long(b"stays"));
    let mut deep = entry(b"x", b't', &[1]);
    for _ in 0..10_000 {
        deep = entry(b"", b'F', &long(&deep));
    }
    for (bad, expected) in [
        (entry(b"n\xff", b't', &[1]), "the name of a header is not UTF-8 (6eff)"),
        (
            entry(b"q", b'F', &long(&entry(b"\xff", b't', &[1]))),
            "header \"q\" contains a value that cannot be read",
        ),
        (entry(b"q", b'A', &long(b"?")), "header \"q\" contains a value that cannot be read"),
        (entry(b"q", b'A', &long(&[b'l', 0])), "header \"q\" contains a value that cannot be read"),
        (deep, "header \"\" contains a value that cannot be read, or is nested deeper than 32"),
        (entry(b"q", b'z', &[1]), "header \"q\" (type 0x7a) and the headers after it cannot be read"),
        (entry(b"q", b'l', &[1]), "header \"q\" (type 0x6c) and the headers after it cannot be read"),
        (entry(b"q", b'S', &[0xff; 4]), "header \"q\" (type 0x53) and the headers after it cannot be read"),
        (vec![9, b'q'], "the headers are cut off"),
        (vec![0], "header \"\" and the headers after it cannot be read"),
    ] {
        let table = [good.clone(), bad].concat();
        let (properties, note) = message(0x2080, &[&*long(&table), &*short(b"e1")].concat());
        let note = note.expect("it is said");
        assert!(note.starts_with(expected), "{note}");
        let headers = properties.headers().clone().expect("headers");
        assert_eq!(headers.inner().get("good"), Some(&AMQPValue::LongString("stays".into())), "{expected}");
        assert_eq!(message_id(&properties), Some("e1"), "{expected}");
    }
}

#[test]
fn properties_that_end_early_or_late_are_named() {
    for (flags, given, expected) in [
        (0x8080, short(b"text/plain"), "the properties are cut off"),
        (0x0080, [&*short(b"e1"), b"more"].concat(), "the properties are followed by other bytes"),
        (0x0081, short(b"e1"), "the message has properties that AMQP does not define"),
        (0x2000, vec![0, 0, 1, 0, 1], "the properties are cut off"),
    ] {
        assert_eq!(message(flags, &given).1.as_deref(), Some(expected));
    }
    // The added header never makes a frame larger than allowed.
    let huge = long(&[&entry(b"h", b'x', &long(&vec![0; 130_900])), &*entry(b"\xff", b't', &[1])].concat());
    let sent = header(0x2000, &huge);
    let received = through(&sent, sent.len());
    assert!(received.len() <= FRAME_MAX as usize);
    assert!(
        unreadable(&properties(payloads(&received)[0])).expect("said").ends_with("the headers are too large")
    );
}

#[test]
fn bytes_that_are_no_frame_pass_unchanged() {
    for bytes in [
        b"AMQP\x00\x00\x09\x01".to_vec(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        // A method of the maximum size, and one without an end byte.
        [&[1, 0, 1, 0x7f, 0xff, 0xff, 0xff], [0; 100].as_slice()].concat(),
        [&[1, 0, 1, 0, 0, 0, 4], [0; 100].as_slice()].concat(),
    ] {
        assert_eq!(through(&bytes, 3), bytes);
    }
}

#[test]
fn lapin_can_read_random_headers() {
    let mut random = SmallRng::seed_from_u64(17);
    for round in 0..20_000 {
        // Mostly well-formed, so that faults occur in the middle.
        let mut table = Vec::new();
        for _ in 0..random.random_range(0..4) {
            let kind = *b"tbBsUuIilLfdDSAFTxVz?".get(random.random_range(0..21)).expect("a kind");
            let value: Vec<u8> = (0..random.random_range(0..12)).map(|_| random.random_range(0..4)).collect();
            let value = if random.random_bool(0.5) { long(&value) } else { value };
            table.extend(entry(&[random.random(), b'a'], kind, &value));
        }
        let mut given = if random.random_bool(0.5) { long(&table) } else { table };
        for _ in 0..random.random_range(0..3) {
            let position = random.random_range(0..=given.len());
            given.insert(position, random.random());
        }
        let flags = if random.random_bool(0.5) { 0x2000 } else { random.random() };
        let sent = header(flags, &given);
        let received = through(&sent, 64);
        let read = properties(payloads(&received)[0]);
        assert_eq!(received == sent, unreadable(&read).is_none(), "round {round}: {given:?}");
    }
}
