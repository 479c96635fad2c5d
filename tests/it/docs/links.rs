//! Links between the documents lead somewhere.

use std::{collections::BTreeSet, path::Path};

use super::{Document, documents, root};

/// The targets of `[text](target)`, outside of code.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target).filter(|target| !target.contains("://")).collect()
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(document: &Document) -> BTreeSet<String> {
    let headings = document.lines(None).into_iter().filter(|line| line.text.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    };
    headings.map(|line| anchor(line.text)).collect()
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    let documents = documents();
    let mut broken = Vec::new();
    for document in &documents {
        let directory = Path::new(&document.path).parent().expect("a directory");
        for line in document.lines(None) {
            for link in links(line.text) {
                let (file, anchor) = link.split_once('#').map_or((link, None), |(f, a)| (f, Some(a)));
                let target = if file.is_empty() {
                    root().join(&document.path)
                } else {
                    root().join(directory).join(file)
                };
                let Ok(target) = target.canonicalize() else {
                    broken.push(format!("{}: {link} is not there", line.place));
                    continue;
                };
                let path =
                    target.strip_prefix(root().canonicalize().expect("the root")).expect("in the sources");
                let target_document = documents.iter().find(|other| Path::new(&other.path) == path);
                let is_there = |anchor| target_document.is_none_or(|other| anchors(other).contains(anchor));
                if anchor.is_some_and(|anchor| !is_there(anchor)) {
                    broken.push(format!("{}: {link} has no such heading", line.place));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
