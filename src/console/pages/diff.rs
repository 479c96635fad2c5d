//! The line diff of an edited body, which an operator reviews before the replay.

use std::time::Duration;

use similar::{ChangeTag, TextDiff};

use super::format::counted;

/// How many unchanged lines are shown around a change.
const CONTEXT_LINES: usize = 3;
/// The time to search for the smallest diff. After it, the diff is correct but may be larger.
const TIME_BUDGET: Duration = Duration::from_millis(300);
const MAX_LINES: usize = 4000;

/// One line of the diff: added (`+`), removed (`−`), unchanged, or a gap between changes (`…`).
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    pub sign: &'static str,
    pub class: &'static str,
    pub text: String,
}

/// The changed lines, with unchanged lines around them.
pub fn lines(before: &str, after: &str) -> Vec<Line> {
    let diff = TextDiff::configure().timeout(TIME_BUDGET).diff_lines(before, after);
    let mut lines = Vec::new();
    for (number, group) in diff.grouped_ops(CONTEXT_LINES).iter().enumerate() {
        if number > 0 {
            lines.push(line("", "gap", "…"));
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let (sign, class) = match change.tag() {
                ChangeTag::Delete => ("−", "del"),
                ChangeTag::Insert => ("+", "add"),
                ChangeTag::Equal => ("", ""),
            };
            lines.push(line(sign, class, change.value().trim_end_matches('\n')));
            if lines.len() == MAX_LINES {
                lines.push(line("", "gap", "… and more"));
                return lines;
            }
        }
    }
    lines
}

/// A sentence with the numbers of removed and added lines.
pub fn summary(lines: &[Line]) -> String {
    let count = |class| lines.iter().filter(|line| line.class == class).count() as u64;
    let (removed, added) = (count("del"), count("add"));
    format!("{} removed, {} added.", counted(removed, "line", "lines"), counted(added, "line", "lines"))
}

fn line(sign: &'static str, class: &'static str, text: &str) -> Line {
    Line { sign, class, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_shown_with_the_lines_around_them() {
        let before = (0..30).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n") + "\n";
        let after = before.replace("line 4\n", "line four\n").replace("line 25\n", "");
        let lines = lines(&before, &after);
        let changed: Vec<_> =
            lines.iter().filter(|l| !l.class.is_empty()).map(|l| (l.sign, l.text.as_str())).collect();
        assert_eq!(changed, [("−", "line 4"), ("+", "line four"), ("", "…"), ("−", "line 25")]);
        assert_eq!(lines.len(), 3 + 2 + 3 + 1 + 3 + 1 + 3);
        assert_eq!(summary(&lines), "2 lines removed, 1 line added.");
        assert!(super::lines("a", "a").is_empty());
    }
}
