//! What was sent or answered, ready to be shown: JSON indented and coloured, anything else as it is.
//!
//! Numbers, the order of members and members that are there twice stay what they were: the text is moved, never
//! read into values and written again. A body of a mebibyte is shown in blocks, which a browser lays out only once they
//! are scrolled to.

use super::format::size;

/// Of a body that is not shown whole, this much is, after indenting.
const SHOWN: usize = 64 << 10;
/// Colours cost an element each: what is longer goes without.
const COLOURED: usize = 256 << 10;
/// A body that would grow by more than this factor is shown as it is, whoever sent it.
const MAX_GROWTH: usize = 4;
const LINES_OF_A_BLOCK: usize = 200;
const BYTES_OF_A_BLOCK: usize = 32 << 10;

/// A text, and the class by which it is coloured, if any.
#[derive(Debug, PartialEq, Eq)]
pub struct Token {
    pub class: &'static str,
    pub text: String,
}

/// A body as `parts/body.html` shows it.
pub struct Body {
    pub id: &'static str,
    pub title: String,
    pub blocks: Vec<Vec<Token>>,
    pub is_cut: bool,
    /// Where all of it is shown, and where it is just what it is.
    pub whole: String,
    pub raw: String,
    bytes: usize,
    note: &'static str,
}

impl Body {
    /// `page` is where it is shown; `raw` where it is given as it is, if anywhere.
    pub fn new(id: &'static str, title: impl Into<String>, text: &str, page: &str, whole: bool) -> Self {
        let limit = if whole { usize::MAX } else { SHOWN };
        let (blocks, is_cut) = blocks(text, limit);
        let whole = format!("{page}?whole=yes");
        Self {
            id,
            title: title.into(),
            blocks,
            is_cut,
            whole,
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

    /// How large it is, and what else is to be known.
    pub fn told(&self) -> String {
        let cut = if self.is_cut { ", the beginning" } else { "" };
        let note = if self.note.is_empty() { String::new() } else { format!(", {}", self.note) };
        format!("{}{cut}{note}", size(self.bytes))
    }
}

/// `text` indented, if it is JSON that can be.
pub fn indented(text: &str) -> Option<String> {
    can_be_indented(text).then(|| {
        let mut writer = Writer::new(usize::MAX, false);
        writer.json(text);
        writer.blocks.into_iter().flatten().chain(writer.block).map(|token| token.text).collect()
    })
}

/// Whether `text` is JSON, and not nested so deep that it would be many times as large with every line indented.
fn can_be_indented(text: &str) -> bool {
    indented_size(text) <= text.len() * MAX_GROWTH + SHOWN
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// How large `text` is once it is indented, roughly and rather more.
fn indented_size(text: &str) -> usize {
    let (mut size, mut depth, mut rest) = (text.len(), 0_usize, text);
    while let Some(at) = rest.find(['"', '{', '[', '}', ']', ',']) {
        rest = rest.split_at(at).1;
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
    let mut writer = Writer::new(limit, text.len().min(limit) <= COLOURED);
    if can_be_indented(text) {
        writer.json(text);
    } else {
        writer.plain(text);
    }
    writer.finish()
}

/// Puts tokens into blocks, up to a limit.
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
            // (A line break at the end of a block makes no empty line.)
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

    /// `text` is JSON.
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

/// Of the string that `text` begins with, both quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests;
