//! Versions of handlers, so that a worker can wait until it knows the versions that a caller saw.

use std::{fmt, str::FromStr};

use super::{HandlerId, InvalidField};

/// Ids of handlers with the version that a caller saw. The text form is `12@3,14@1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandlerVersions(Vec<(HandlerId, i64)>);

impl HandlerVersions {
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (HandlerId, i64)> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<(HandlerId, i64)> for HandlerVersions {
    fn from_iter<I: IntoIterator<Item = (HandlerId, i64)>>(seen: I) -> Self {
        Self(seen.into_iter().collect())
    }
}

impl fmt::Display for HandlerVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (id, version)) in self.iter().enumerate() {
            write!(f, "{}{id}@{version}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for HandlerVersions {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse_pair = |pair: &str| {
            let (id, version) = pair.split_once('@')?;
            Some((id.parse().ok()?, version.parse().ok()?))
        };
        let pairs: Option<_> = text.split(',').filter(|pair| !pair.is_empty()).map(parse_pair).collect();
        pairs.map(Self).ok_or(InvalidField("handler versions must be id@version, joined by commas"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_round_trips() {
        for text in ["", "12@3", "12@3,14@1"] {
            assert_eq!(text.parse::<HandlerVersions>().expect(text).to_string(), text);
        }
        for text in ["12", "12@", "@3", "12@3,x@1"] {
            assert!(text.parse::<HandlerVersions>().is_err(), "{text}");
        }
    }
}
