//! The W3C trace context of an event, which provisiond passes on.

const MAX_PARENT_BYTES: usize = 128;
const MAX_STATE_BYTES: usize = 1024;

/// The headers `traceparent` and `tracestate`, if they are present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub parent: Option<String>,
    pub state: Option<String>,
}

impl Trace {
    /// Drops a value that is longer than W3C requires anybody to carry, or not printable ASCII. Every copy repeats
    /// it, and the headers of copies have a size limit.
    pub fn of(parent: Option<String>, state: Option<String>) -> Self {
        let is_valid = |text: &String, max_bytes| {
            text.len() <= max_bytes && text.bytes().all(|b| (b' '..=b'~').contains(&b))
        };
        Self {
            parent: parent.filter(|text| is_valid(text, MAX_PARENT_BYTES)),
            state: state.filter(|text| is_valid(text, MAX_STATE_BYTES)),
        }
    }

    /// The trace id in `traceparent`, if that is valid.
    pub fn id(&self) -> Option<&str> {
        let id = self.parent.as_deref()?.split('-').nth(1)?;
        (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
    }
}
