//! Keyset pages: the next page starts after a row, not after a number of rows.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use uuid::Uuid;

/// A page of a list, newest first.
#[derive(Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Where the next page starts; `None` at the end. A text search that runs out of time returns fewer rows than
    /// requested, or none, and a cursor to continue.
    pub next: Option<Cursor>,
}

/// The place after one row of a list. As text: `2026-01-01T00:00:00.123456Z_<uuid>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub at: Timestamp,
    pub id: Uuid,
}

/// The text is not a cursor.
#[derive(Debug, thiserror::Error)]
#[error("not a valid cursor: copy it unchanged from the previous page")]
pub struct InvalidCursor;

impl<T> Page<T> {
    /// Makes a page from up to `limit + 1` rows; the extra row shows that there are more.
    pub(super) fn of(mut items: Vec<T>, limit: usize, cursor_of: impl Fn(&T) -> Cursor) -> Self {
        let has_more = items.len() > limit;
        items.truncate(limit);
        let next = if has_more { items.last().map(cursor_of) } else { None };
        Self { items, next }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.at, self.id)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (at, id) = text.split_once('_').ok_or(InvalidCursor)?;
        let at = at.parse().map_err(|_| InvalidCursor)?;
        Ok(Self { at, id: id.parse().map_err(|_| InvalidCursor)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_as_text() {
        let cursor = Cursor { at: "2026-01-01T00:00:00.123456Z".parse().expect("a time"), id: Uuid::max() };
        assert_eq!(cursor.to_string().parse::<Cursor>().expect("a cursor"), cursor);
        for bad in ["", "_", "2026-01-01T00:00:00Z", "x_y"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_full_page_has_a_next_page() {
        let cursor_of =
            |n: &i64| Cursor { at: Timestamp::UNIX_EPOCH, id: Uuid::from_u128(u128::from(n.unsigned_abs())) };
        let page = Page::of(vec![1, 2, 3], 2, cursor_of);
        assert_eq!((page.items.len(), page.next.map(|c| c.id.as_u128())), (2, Some(2)));
        assert_eq!(Page::of(vec![1, 2], 2, cursor_of).next, None);
    }
}
