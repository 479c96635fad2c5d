//! A time in a request.

use jiff::Timestamp;
use serde::Deserialize;

use crate::domain::time::{InvalidMoment, parse_moment};

/// A day, a time or an age; see [`parse_moment`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Moment(pub Timestamp);

impl TryFrom<String> for Moment {
    type Error = InvalidMoment;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        parse_moment(&text, Timestamp::now()).map(Self)
    }
}
