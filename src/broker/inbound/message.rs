//! Checks the frames that describe a message, and rewrites those that lapin cannot read.

use std::fmt::Write as _;

/// The header that says which parts of a message could not be read. A publisher that sets it makes its own message
/// malformed.
pub const UNREADABLE: &str = "x-provisioning-unreadable";

/// Maximum depth of nested tables and arrays. Nobody nests deeper, and lapin uses stack for each level.
const MAX_DEPTH: usize = 32;
/// Maximum bytes of a [`Note`].
const MAX_NOTE: usize = 1024;
/// Maximum bytes quoted in a [`Note`].
const MAX_QUOTE: usize = 32;
/// Maximum bytes of the headers, which leaves room for the rest of their frame.
const MAX_TABLE: usize = super::FRAME_MAX as usize - 16 * 1024;

const BASIC: u16 = 60;
const RETURN: u16 = 50;
const DELIVER: u16 = 60;
const GET_OK: u16 = 71;

/// One part of a method or of the properties.
#[derive(Clone, Copy)]
enum Field {
    /// A short string: one byte of length, then text.
    Text(&'static str),
    /// A fixed number of bytes, of any value.
    Fixed(usize),
    Table,
}

use Field::{Fixed, Table, Text};

const DELIVER_FIELDS: &[Field] = &[Text("consumer_tag"), Fixed(9), Text("exchange"), Text("routing_key")];
const GET_OK_FIELDS: &[Field] = &[Fixed(9), Text("exchange"), Text("routing_key"), Fixed(4)];
const RETURN_FIELDS: &[Field] = &[Fixed(2), Text("reply_text"), Text("exchange"), Text("routing_key")];

/// The properties in the order of their flags, the highest bit first.
const PROPERTIES: [Field; 14] = [
    Text("content_type"),
    Text("content_encoding"),
    Table,
    Fixed(1),
    Fixed(1),
    Text("correlation_id"),
    Text("reply_to"),
    Text("expiration"),
    Text("message_id"),
    Fixed(8),
    Text("type"),
    Text("user_id"),
    Text("app_id"),
    Text("cluster_id"),
];
const HEADERS: u16 = 1 << 13;
/// Flags that belong to no property. The lowest says that further flags follow, which nobody sends.
const NO_PROPERTY: u16 = 0b11;

/// The bytes end inside a value, or the value has a type of unknown length.
struct Broken;

/// The bytes that are still to be read.
#[derive(Clone)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Broken)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8, Broken> {
        self.take(1).map(|bytes| bytes.first().copied().unwrap_or_default())
    }

    fn u16(&mut self) -> Result<u16, Broken> {
        Ok(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn short(&mut self) -> Result<&'a [u8], Broken> {
        let length = self.u8()?;
        self.take(length.into())
    }

    fn long(&mut self) -> Result<&'a [u8], Broken> {
        let length = self.take(4)?.iter().fold(0, |length: usize, byte| length << 8 | usize::from(*byte));
        self.take(length)
    }

    /// Skips one header value. Returns true if lapin can read it.
    fn value(&mut self, depth: usize) -> Result<bool, Broken> {
        match self.u8()? {
            b'V' => {}
            b't' | b'b' | b'B' => drop(self.take(1)?),
            b's' | b'U' | b'u' => drop(self.take(2)?),
            b'I' | b'i' | b'f' => drop(self.take(4)?),
            b'D' => drop(self.take(5)?),
            b'L' | b'l' | b'd' | b'T' => drop(self.take(8)?),
            b'S' | b'x' => drop(self.long()?),
            b'A' => return self.long().map(|array| depth < MAX_DEPTH && is_readable_array(array, depth + 1)),
            b'F' => return self.long().map(|table| depth < MAX_DEPTH && is_readable_table(table, depth + 1)),
            _ => return Err(Broken),
        }
        Ok(true)
    }
}

fn is_readable_array(array: &[u8], depth: usize) -> bool {
    let mut reader = Reader(array);
    while !reader.0.is_empty() {
        if !matches!(reader.value(depth), Ok(true)) {
            return false;
        }
    }
    true
}

fn is_readable_table(table: &[u8], depth: usize) -> bool {
    let mut reader = Reader(table);
    while !reader.0.is_empty() {
        let is_text = reader.short().is_ok_and(|name| str::from_utf8(name).is_ok());
        if !is_text || !matches!(reader.value(depth), Ok(true)) {
            return false;
        }
    }
    true
}

/// Whether `bytes` contain exactly these fields, and lapin can read each.
fn are_readable<'f>(bytes: &[u8], fields: impl Iterator<Item = &'f Field>) -> bool {
    let mut reader = Reader(bytes);
    for field in fields {
        let is_readable = match field {
            Text(_) => reader.short().map(|text| str::from_utf8(text).is_ok()),
            Fixed(count) => reader.take(*count).map(|_| true),
            Table => reader.long().map(|table| is_readable_table(table, 0)),
        };
        if !matches!(is_readable, Ok(true)) {
            return false;
        }
    }
    reader.0.is_empty()
}

/// A method that lapin can read instead of this one, and what was replaced in it. `None` if lapin can read this one, or
/// it does not deliver a message.
pub(super) fn readable_method(payload: &[u8]) -> Option<(Vec<u8>, String)> {
    let mut reader = Reader(payload);
    let fields = match (reader.u16().ok()?, reader.u16().ok()?) {
        (BASIC, DELIVER) => DELIVER_FIELDS,
        (BASIC, GET_OK) => GET_OK_FIELDS,
        (BASIC, RETURN) => RETURN_FIELDS,
        _ => return None,
    };
    if are_readable(reader.0, fields.iter()) {
        return None;
    }
    let mut note = Note::default();
    let mut output = payload.get(..4)?.to_vec();
    for field in fields {
        // The broker writes these frames. If one has another form, lapin refuses it.
        copy_field(&mut reader, *field, &mut output, &mut note).ok()?;
    }
    reader.0.is_empty().then_some((output, note.0))
}

/// A content header that lapin can read instead of this one; `None` if nothing is wrong. Its header [`UNREADABLE`]
/// contains `noted` and what is wrong in this content header.
pub(super) fn readable_header(payload: &[u8], noted: Option<String>) -> Option<Vec<u8>> {
    let mut reader = Reader(payload);
    // Class, weight and the size of the body.
    let head = reader.take(12).ok()?;
    let flags = reader.u16().ok()?;
    let flagged = || (0..).zip(&PROPERTIES).filter(|(n, _)| flags & (0x8000 >> n) != 0);
    if noted.is_none()
        && flags & NO_PROPERTY == 0
        && are_readable(reader.0, flagged().map(|(_, field)| field))
    {
        return None;
    }
    let mut note = Note(noted.unwrap_or_default());
    if flags & NO_PROPERTY != 0 {
        note.add("the message has properties that AMQP does not define");
    }
    let (mut kept, mut before, mut headers, mut after) = (HEADERS, Vec::new(), Vec::new(), Vec::new());
    for (n, field) in flagged() {
        let target = if n < 2 { &mut before } else { &mut after };
        let copied = match field {
            Table => reader.long().map(|table| copy_entries(table, &mut headers, &mut note)),
            field => copy_field(&mut reader, *field, target, &mut note),
        };
        if copied.is_err() {
            note.add("the properties are cut off");
            reader.0 = &[];
            break;
        }
        kept |= 0x8000 >> n;
    }
    if !reader.0.is_empty() {
        note.add("the properties are followed by other bytes");
    }
    if headers.len() > MAX_TABLE {
        note.add("the headers are too large");
        headers.clear();
    }
    push_entry(&mut headers, UNREADABLE, note.0.as_bytes());
    let mut output = head.to_vec();
    output.extend(kept.to_be_bytes());
    output.extend(before);
    push_long(&mut output, &headers);
    output.extend(after);
    Some(output)
}

/// Copies a field that is not a table, and replaces what is not UTF-8.
fn copy_field(
    reader: &mut Reader<'_>,
    field: Field,
    output: &mut Vec<u8>,
    note: &mut Note,
) -> Result<(), Broken> {
    match field {
        Text(name) => {
            let bytes = reader.short()?;
            let text = String::from_utf8_lossy(bytes);
            if let std::borrow::Cow::Owned(_) = text {
                note.add(&format!("{name} is not UTF-8 ({})", quoted(bytes)));
            }
            let text = cut(&text, u8::MAX.into());
            output.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            output.extend(text.as_bytes());
        }
        Fixed(count) => output.extend(reader.take(count)?),
        Table => {}
    }
    Ok(())
}

/// Copies the entries that lapin can read from a table, and notes the others.
fn copy_entries(table: &[u8], output: &mut Vec<u8>, note: &mut Note) {
    let mut reader = Reader(table);
    while !reader.0.is_empty() {
        let entry = reader.0;
        let Ok(name) = reader.short() else { return note.add("the headers are cut off") };
        let kind = reader.0.first().copied();
        let value = reader.value(0);
        let shown = String::from_utf8_lossy(name);
        match value {
            Ok(true) if str::from_utf8(name).is_ok() => {
                output.extend(entry.get(..entry.len() - reader.0.len()).unwrap_or_default());
            }
            Ok(true) => note.add(&format!("the name of a header is not UTF-8 ({})", quoted(name))),
            Ok(false) => {
                note.add(&format!(
                    "header {shown:?} contains a value that cannot be read, or is nested deeper than {MAX_DEPTH}"
                ));
            }
            Err(Broken) => {
                let kind = kind.map_or_else(String::new, |kind| format!(" (type 0x{kind:02x})"));
                return note.add(&format!("header {shown:?}{kind} and the headers after it cannot be read"));
            }
        }
    }
}

fn push_entry(table: &mut Vec<u8>, name: &str, text: &[u8]) {
    table.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    table.extend(name.as_bytes());
    table.push(b'S');
    push_long(table, text);
}

fn push_long(output: &mut Vec<u8>, bytes: &[u8]) {
    output.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    output.extend(bytes);
}

/// A description of what is wrong with a message.
#[derive(Default)]
struct Note(String);

impl Note {
    fn add(&mut self, text: &str) {
        if !self.0.is_empty() {
            self.0.push_str("; ");
        }
        self.0.push_str(text);
        let length = cut(&self.0, MAX_NOTE).len();
        self.0.truncate(length);
    }
}

/// The first bytes in hexadecimal.
fn quoted(bytes: &[u8]) -> String {
    let mut quoted = String::new();
    for byte in bytes.iter().take(MAX_QUOTE) {
        let _ = write!(quoted, "{byte:02x}");
    }
    if bytes.len() > MAX_QUOTE {
        quoted.push('…');
    }
    quoted
}

/// The beginning of `text`: at most `length` bytes, and whole characters.
fn cut(text: &str, length: usize) -> &str {
    text.get(..text.floor_char_boundary(length)).unwrap_or(text)
}
