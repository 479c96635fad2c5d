//! The W3C trace context that came with an event; it is passed on.

const MAX_PARENT_BYTES: usize = 128;
const MAX_STATE_BYTES: usize = 1024;

/// `traceparent` and `tracestate`, as far as they are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub parent: Option<String>,
    pub state: Option<String>,
}

impl Trace {
    /// As it came. What is longer than W3C asks anybody to carry is left behind: it would be carried on
    /// into every copy, whose headers are bounded.
    pub fn of(parent: Option<String>, state: Option<String>) -> Self {
        let short =
            |text: &String, most| text.len() <= most && text.bytes().all(|b| (b' '..=b'~').contains(&b));
        Self {
            parent: parent.filter(|text| short(text, MAX_PARENT_BYTES)),
            state: state.filter(|text| short(text, MAX_STATE_BYTES)),
        }
    }

    /// The trace id in `traceparent`, if that is one.
    pub fn id(&self) -> Option<&str> {
        let id = self.parent.as_deref()?.split('-').nth(1)?;
        (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
    }
}
