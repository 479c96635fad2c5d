//! Formats a body for a page: JSON is indented and coloured, any other text is shown unchanged.
//!
//! Only whitespace changes. The text is split into tokens but never parsed into values, so numbers, the order of
//! members and duplicate members stay as they were. A large body is split into blocks, because a browser lays out a
//! block only when it is scrolled into view.

use super::format::size;

/// How many bytes of a body are shown at first, counted after indenting.
const PREVIEW_BYTES: usize = 64 << 10;
/// The largest text, in bytes, that is coloured. Each coloured token needs its own HTML element.
const MAX_COLOURED: usize = 256 << 10;
/// A body that would grow by more than this factor is not indented. Deep nesting can come from any publisher.
const MAX_GROWTH: usize = 4;
const LINES_OF_A_BLOCK: usize = 200;
const BYTES_OF_A_BLOCK: usize = 32 << 10;

/// A piece of text and its CSS class, which is empty if the text has no colour.
#[derive(Debug, PartialEq, Eq)]
pub struct Token {
    pub class: &'static str,
    pub text: String,
}

/// A body for the template `parts/body.html`.
pub struct Body {
    pub id: &'static str,
    pub title: String,
    pub blocks: Vec<Vec<Token>>,
    pub is_cut: bool,
    /// The link to the page that shows the whole body.
    pub whole_href: String,
    /// The link to the unchanged text, or empty.
    pub raw: String,
    bytes: usize,
    note: &'static str,
}

impl Body {
    /// `page` is the path of the page that shows the body; `show_all` shows more than the beginning.
    pub fn new(id: &'static str, title: impl Into<String>, text: &str, page: &str, show_all: bool) -> Self {
        let limit = if show_all { usize::MAX } else { PREVIEW_BYTES };
        let (blocks, is_cut) = blocks(text, limit);
        let whole_href = format!("{page}?whole=yes");
        Self {
            id,
            title: title.into(),
            blocks,
            is_cut,
            whole_href,
            raw: String::new(),
            bytes: text.len(),
            note: "",
        }
    }

    #[must_use]
    pub fn with_raw(self, raw: String) -> Self {
        Self { raw, ..self }
    }

    #[must_use]
    pub fn with_note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    /// The size of the body, and notes such as "the beginning".
    pub fn summary(&self) -> String {
        let cut = if self.is_cut { ", the beginning" } else { "" };
        let note = if self.note.is_empty() { String::new() } else { format!(", {}", self.note) };
        format!("{}{cut}{note}", size(self.bytes))
    }
}

/// Indents `text`. `None` if it is not JSON, or would grow too much.
pub fn indented(text: &str) -> Option<String> {
    can_be_indented(text).then(|| {
        let mut writer = Writer::new(usize::MAX, false);
        writer.json(text);
        writer.blocks.into_iter().flatten().chain(writer.block).map(|token| token.text).collect()
    })
}

/// Whether `text` is JSON, and does not grow more than [`MAX_GROWTH`] allows.
fn can_be_indented(text: &str) -> bool {
    indented_size(text) <= text.len() * MAX_GROWTH + PREVIEW_BYTES
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// An upper estimate of the size of `text` after indenting.
fn indented_size(text: &str) -> usize {
    let (mut size, mut depth, mut rest) = (text.len(), 0_usize, text);
    while let Some(start) = rest.find(['"', '{', '[', '}', ']', ',']) {
        rest = rest.split_at(start).1;
        let length = if rest.starts_with('"') { string_length(rest) } else { 1 };
        let (token, after) = rest.split_at(length);
        rest = after;
        match token {
            "{" | "[" => depth += 1,
            "}" | "]" => depth = depth.saturating_sub(1),
            "," => {}
            _ => continue,
        }
        size = size.saturating_add(1 + 2 * depth);
    }
    size
}

fn blocks(text: &str, limit: usize) -> (Vec<Vec<Token>>, bool) {
    let mut writer = Writer::new(limit, text.len().min(limit) <= MAX_COLOURED);
    if can_be_indented(text) {
        writer.json(text);
    } else {
        writer.plain(text);
    }
    writer.finish()
}

/// Collects tokens into blocks, up to a limit of bytes.
struct Writer {
    blocks: Vec<Vec<Token>>,
    block: Vec<Token>,
    lines: usize,
    bytes: usize,
    left: usize,
    is_cut: bool,
    coloured: bool,
}

impl Writer {
    const fn new(limit: usize, coloured: bool) -> Self {
        Self {
            blocks: Vec::new(),
            block: Vec::new(),
            lines: 0,
            bytes: 0,
            left: limit,
            is_cut: false,
            coloured,
        }
    }

    fn finish(mut self) -> (Vec<Vec<Token>>, bool) {
        if !self.block.is_empty() {
            self.blocks.push(self.block);
        }
        (self.blocks, self.is_cut)
    }

    fn push(&mut self, class: &'static str, text: &str) {
        if self.left == 0 {
            self.is_cut = true;
            return;
        }
        let (now, later) = text.split_at(text.floor_char_boundary(self.left));
        self.is_cut |= !later.is_empty();
        self.left = if later.is_empty() { self.left - now.len() } else { 0 };
        let class = if self.coloured { class } else { "" };
        match self.block.last_mut() {
            Some(last) if last.class == class => last.text.push_str(now),
            _ => self.block.push(Token { class, text: now.to_owned() }),
        }
        self.bytes += now.len();
    }

    fn end_line(&mut self, indent: usize) {
        self.lines += 1;
        self.push("", "\n");
        if self.lines >= LINES_OF_A_BLOCK || self.bytes >= BYTES_OF_A_BLOCK {
            // A `<pre>` shows no empty line for a line break at its end.
            self.blocks.push(std::mem::take(&mut self.block));
            (self.lines, self.bytes) = (0, 0);
        }
        self.push("", &"  ".repeat(indent));
    }

    fn plain(&mut self, text: &str) {
        for (number, line) in text.split('\n').enumerate() {
            if self.is_cut {
                return;
            }
            if number > 0 {
                self.end_line(0);
            }
            self.push("", line);
        }
    }

    /// Writes `text`, which must be valid JSON.
    fn json(&mut self, text: &str) {
        let (mut rest, mut depth) = (text.trim_start(), 0_usize);
        while let Some(first) = rest.chars().next() {
            if self.is_cut {
                return;
            }
            let length = match first {
                '"' => string_length(rest),
                '{' | '[' | '}' | ']' | ',' | ':' => 1,
                _ => rest.find([',', ':', '}', ']', ' ', '\n', '\r', '\t']).unwrap_or(rest.len()),
            };
            let (token, after) = rest.split_at(length);
            rest = after.trim_start();
            match first {
                '{' | '[' => {
                    self.push("", token);
                    if let Some(end) = rest.strip_prefix(if first == '{' { '}' } else { ']' }) {
                        self.push("", if first == '{' { "}" } else { "]" });
                        rest = end.trim_start();
                    } else {
                        depth += 1;
                        self.end_line(depth);
                    }
                }
                '}' | ']' => {
                    depth = depth.saturating_sub(1);
                    self.end_line(depth);
                    self.push("", token);
                }
                ',' => {
                    self.push("", ",");
                    self.end_line(depth);
                }
                ':' => self.push("", ": "),
                '"' => self.push(if rest.starts_with(':') { "j-key" } else { "j-text" }, token),
                't' | 'f' | 'n' => self.push("j-word", token),
                _ => self.push("j-number", token),
            }
        }
    }
}

/// The length in bytes of the JSON string at the start of `text`, with both quotes.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return index + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests;
