//! Pages of a list: their size, and the cursor of the next page.

use std::str::FromStr;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The largest number of items of a page: 1 to 500.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u16")]
pub struct Limit(u16);

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

impl TryFrom<u16> for Limit {
    type Error = &'static str;

    fn try_from(limit: u16) -> Result<Self, Self::Error> {
        if (1..=500).contains(&limit) { Ok(Self(limit)) } else { Err("must be 1 to 500") }
    }
}

impl Limit {
    pub fn rows(self) -> usize {
        usize::from(self.0)
    }
}

/// The parameters of a page, for the API document.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "they are read by `extract::Paged`")]
pub struct Paging {
    /// Return at most this many items; 50 if absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u16>,
    /// The `next` of the previous page.
    after: Option<String>,
}

/// A position in a list, as an opaque cursor. Its content may change with any version.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String", bound = "T: FromStr")]
pub struct After<T>(pub T);

impl<T: FromStr> TryFrom<String> for After<T> {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let place =
            bytes.and_then(|bytes| String::from_utf8(bytes).ok()).and_then(|place| place.parse().ok());
        place.map(Self).ok_or("must be the value of next from a page of this list")
    }
}

/// Encodes a position as a cursor.
pub fn cursor(place: &impl ToString) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(place.to_string())
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub struct PageOf<T> {
    pub items: Vec<T>,
    /// The cursor of the next page, for the parameter `after`; null at the end. A text search may return a page with
    /// fewer items than requested, even an empty one, and still have a next page.
    pub next: Option<String>,
}

impl<T> PageOf<T> {
    /// Makes a page of at most `limit` items. The caller reads one item more, which shows that there is a next page.
    pub fn of(mut items: Vec<T>, limit: Limit, place: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit.rows();
        items.truncate(limit.rows());
        let next = items.last().filter(|_| more).map(|last| cursor(&place(last)));
        Self { items, next }
    }
}

impl<T> From<crate::store::Page<T>> for PageOf<T> {
    fn from(page: crate::store::Page<T>) -> Self {
        Self { items: page.items, next: page.next.map(|place| cursor(&place)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_where_it_ended() {
        let limit = Limit::try_from(2).expect("a limit");
        let page = PageOf::of(vec![7, 8, 9], limit, ToString::to_string);
        assert_eq!(page.items, [7, 8]);
        let After(place) = After::<i64>::try_from(page.next.expect("more")).expect("a cursor");
        assert_eq!(place, 8);
        assert!(PageOf::of(vec![7, 8], limit, ToString::to_string).next.is_none());
        assert!(After::<i64>::try_from("8".to_owned()).is_err() && Limit::try_from(501).is_err());
    }
}
