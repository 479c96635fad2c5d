//! The frame around every page: the navigation, the user, and a notice about the last change.

use std::fmt::Display;

use axum::response::{IntoResponse, Redirect, Response};

use super::fields::Fields;
use crate::console::{access::Identity, assets};

/// The data of the template `layout.html`, which every page extends.
pub struct Frame {
    pub title: String,
    /// The user. `None` on pages that need no authentication.
    pub identity: Option<Identity>,
    pub css: String,
    pub js: String,
    pub icon: String,
    pub version: &'static str,
    pub notice: Option<String>,
    section: Option<Section>,
}

/// A section of the console. The order is that of the navigation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Overview,
    Handlers,
    Executions,
    DeadLetters,
    Events,
}

/// An entry of the navigation.
pub struct Item {
    pub href: &'static str,
    pub title: &'static str,
    pub icon: &'static str,
    pub is_here: bool,
}

impl Section {
    const ALL: [Self; 5] =
        [Self::Overview, Self::Handlers, Self::Executions, Self::DeadLetters, Self::Events];

    const fn nav_item(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Overview => ("/", "Overview", "overview"),
            Self::Handlers => ("/handlers", "Handlers", "handlers"),
            Self::Executions => ("/executions", "Execution Logs", "logs"),
            Self::DeadLetters => ("/dead-letters", "Dead Letters", "dead"),
            Self::Events => ("/events", "Events", "events"),
        }
    }
}

impl Frame {
    pub fn of(title: &str, identity: Option<&Identity>) -> Self {
        Self {
            title: title.to_owned(),
            identity: identity.cloned(),
            css: assets::url("console.css"),
            js: assets::url("console.js"),
            icon: assets::url("icon.svg"),
            version: env!("CARGO_PKG_VERSION"),
            notice: None,
            section: None,
        }
    }

    /// The frame of a page that belongs to a section.
    pub fn in_section(section: Section, title: &str, identity: &Identity) -> Self {
        Self { section: Some(section), ..Self::of(title, Some(identity)) }
    }

    /// Adds the notice about the last change, if the query string names one.
    #[must_use]
    pub fn with_notice(self, query: &Fields) -> Self {
        Self { notice: notice(query), ..self }
    }

    pub fn sections(&self) -> [Item; 5] {
        Section::ALL.map(|section| {
            let (href, title, icon) = section.nav_item();
            Item { href, title, icon, is_here: self.section == Some(section) }
        })
    }

    /// Whether the page shows buttons and forms for changes.
    pub fn is_operator(&self) -> bool {
        self.identity.as_ref().is_some_and(Identity::may_change)
    }

    pub fn csrf(&self) -> &str {
        self.identity.as_ref().map_or("", Identity::csrf)
    }
}

/// Redirects to `path` after a change. The page there shows the notice of `action`; `number` is an id or a count in it.
pub fn done(path: &str, action: &str, number: &dyn Display) -> Response {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let fields = Fields::parse(query.as_bytes()).with("done", action).with("what", number.to_string());
    Redirect::to(&fields.href(path)).into_response()
}

/// The notice about the last change.
///
/// Anybody can write a link to the console. The query string therefore selects one of these sentences and a number, and
/// contains no text that is shown.
fn notice(query: &Fields) -> Option<String> {
    let number: u64 = query.get("what").parse().ok()?;
    Some(match query.get("done") {
        "created" => format!("Handler {number} was created. It is live on every worker within a second."),
        "saved" => format!("Handler {number} was saved. The change is live on every worker within a second."),
        "enabled" => format!("Handler {number} is enabled."),
        "disabled" => format!("Handler {number} is disabled. Its pending retries are skipped."),
        "back" => {
            format!("Handler {number} is back in the list and disabled. Enable it so that it is called.")
        }
        "archived" => format!("Handler {number} is archived. To find it, search with Status = Archived."),
        "deleted" => format!("Handler {number} was deleted. Its executions stay."),
        "unsigned" => format!("Requests of handler {number} are no longer signed."),
        "discarded" if number == 1 => "1 dead letter was discarded.".to_owned(),
        "discarded" => format!("{number} dead letters were discarded."),
        "published" => "The event was published. Its executions appear here as they end.".to_owned(),
        "added" => "The event type was added, and its queue was declared.".to_owned(),
        "removed" => "The event type was removed.".to_owned(),
        "replayed" if number == 1 => {
            "It was replayed; its executions appear in the Execution Logs.".to_owned()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_notices_are_shown() {
        let notice_of = |query: &str| notice(&Fields::parse(query.as_bytes()));
        assert_eq!(notice_of("done=enabled&what=3").as_deref(), Some("Handler 3 is enabled."));
        for bad in ["done=Your+account+is+closed&what=1", "done=enabled&what=<b>", "done=enabled", ""] {
            assert_eq!(notice_of(bad), None, "{bad}");
        }
    }
}
