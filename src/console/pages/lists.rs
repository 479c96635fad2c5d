//! Parts that all list pages share: search chips, the pager, and the options of drop-downs.

use super::{fields::Fields, format::counted};
use crate::store::{EventType, HandlerFilter, Page, Store, StoreError};

/// One active search field, with a link that removes it.
pub struct Chip {
    pub label: &'static str,
    pub value: String,
    /// The URL of the search without this field.
    pub without: String,
}

/// The line below a list: the count, and links to the first and the next page.
#[derive(Default)]
pub struct Pager {
    pub shown: bool,
    pub count_text: String,
    pub first: Option<String>,
    pub next: Option<String>,
    pub next_word: &'static str,
}

/// An option of a drop-down.
pub struct Choice {
    pub value: String,
    pub label: String,
}

/// A group of event types and its heading.
pub struct Group {
    pub title: String,
    pub types: Vec<EventType>,
}

/// One chip for each search field that is not blank, in the order of `labels`.
pub fn chips(
    search: &Fields,
    path: &str,
    labels: &[(&'static str, &'static str)],
    value: impl Fn(&str, &str) -> String,
) -> Vec<Chip> {
    let active = labels.iter().filter(|(name, _)| search.has(name));
    active
        .map(|(name, label)| Chip {
            label,
            value: value(name, search.get(name)),
            without: search.without(name).href(path),
        })
        .collect()
}

impl Pager {
    /// The pager of a list that is paged by cursor. `after` is false on the first page.
    pub fn of<T>(page: &Page<T>, search: &Fields, path: &str, after: bool, noun: (&str, &str)) -> Self {
        let count = u64::try_from(page.items.len()).unwrap_or(u64::MAX);
        let next = page.next.map(|next| search.with("after", next.to_string()).href(path));
        Self::new(count, next, search, path, after, noun)
    }

    pub fn new(
        count: u64,
        next: Option<String>,
        search: &Fields,
        path: &str,
        after: bool,
        (one, many): (&str, &str),
    ) -> Self {
        let count_text = if next.is_some() || after {
            format!("{} on this page", counted(count, one, many))
        } else {
            counted(count, one, many)
        };
        let first = after.then(|| search.href(path));
        Self { shown: count > 0 || after || next.is_some(), count_text, first, next, next_word: "Next page" }
    }
}

/// Groups event types by heading, in the order of the catalogue.
pub fn groups(types: Vec<EventType>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for event_type in types {
        match groups.iter_mut().find(|group| group.title == event_type.group_title) {
            Some(group) => group.types.push(event_type),
            None => groups.push(Group { title: event_type.group_title.clone(), types: vec![event_type] }),
        }
    }
    groups
}

/// One option for each value of an enum.
pub fn choices<T: Copy>(
    all: &[T],
    value: fn(T) -> &'static str,
    label: impl Fn(&'static str) -> String,
) -> Vec<Choice> {
    all.iter().map(|one| Choice { value: value(*one).to_owned(), label: label(value(*one)) }).collect()
}

/// The most handlers in the drop-down of a search. For any other handler, follow its link in the list of handlers.
const MAX_HANDLERS: usize = 500;

/// The handlers as options, sorted by name. The chosen handler is always included.
pub async fn handler_choices(store: &Store, chosen: &str) -> Result<Vec<Choice>, StoreError> {
    let handlers = store.list_handlers(&HandlerFilter::default(), MAX_HANDLERS).await?;
    let mut choices: Vec<Choice> = handlers
        .into_iter()
        .map(|h| Choice { value: h.id.to_string(), label: h.spec.name.to_string() })
        .collect();
    choices.sort_by_key(|choice| choice.label.to_lowercase());
    if !chosen.is_empty() && !choices.iter().any(|choice| choice.value == chosen) {
        let named = match chosen.parse() {
            Ok(id) => store.handler(id).await.ok().map(|handler| handler.spec.name.to_string()),
            Err(_) => None,
        };
        let label = named.unwrap_or_else(|| format!("handler {chosen}"));
        choices.push(Choice { value: chosen.to_owned(), label });
    }
    Ok(choices)
}
