//! Parses the Markdown of descriptions, `code` and **strong**, into parts for the template.

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub struct Span {
    pub text: String,
    pub is_code: bool,
    pub is_strong: bool,
}

/// Splits a text into its parts, in order. Text between backticks is code, even if it contains `**`.
pub fn spans(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut is_strong = false;
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 {
            push(&mut spans, part, true, is_strong);
            continue;
        }
        for (index, part) in part.split("**").enumerate() {
            is_strong ^= index > 0;
            push(&mut spans, part, false, is_strong);
        }
    }
    spans
}

fn push(spans: &mut Vec<Span>, text: &str, is_code: bool, is_strong: bool) {
    if !text.is_empty() {
        spans.push(Span { text: text.to_owned(), is_code, is_strong });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_in_code_stay() {
        let actual: Vec<_> = spans("**Lists** are `***`, as `{a}`.")
            .into_iter()
            .map(|span| (span.text, span.is_code, span.is_strong))
            .collect();
        let expected = [
            ("Lists", false, true),
            (" are ", false, false),
            ("***", true, false),
            (", as ", false, false),
            ("{a}", true, false),
            (".", false, false),
        ];
        assert_eq!(actual, expected.map(|(text, code, strong)| (text.to_owned(), code, strong)));
    }
}
