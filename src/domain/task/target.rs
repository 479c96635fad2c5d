//! The URL of an HTTP task, and the typing errors that are rejected.

#[cfg(test)]
mod tests;

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{InvalidTask, MASK};
use crate::domain::invisible::is_invisible;

/// The absolute `http` or `https` URL of an HTTP task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 2048, example = "120.0.0.1:5000/api")]
pub struct HttpTarget(Url);

impl HttpTarget {
    pub const MAX_BYTES: usize = 2048;

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub const fn url(&self) -> &Url {
        &self.0
    }

    /// Whether both have the same scheme, host and port.
    pub fn has_origin_of(&self, other: &Self) -> bool {
        self.0.origin() == other.0.origin()
    }

    /// Masks everything except scheme, host and port.
    pub(super) fn mask(&mut self) {
        if self.0.path() != "/" || self.0.query().is_some() {
            self.0.set_path(MASK);
            self.0.set_query(None);
        }
    }

    /// Masks a URL that another program may have stored.
    pub fn masked(text: &str) -> String {
        Self::stored(text).map_or_else(
            |_| MASK.to_owned(),
            |mut url| {
                url.mask();
                url.into()
            },
        )
    }

    /// Parses a URL that any version stored. Probable typing errors are rejected only in typed URLs.
    fn stored(text: &str) -> Result<Self, InvalidTask> {
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidTask(format!("a url must have at most {} bytes", Self::MAX_BYTES)));
        }
        let text = text.trim();
        let absolute = if scheme(text).is_some() { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&absolute).map_err(|error| invalid_url(text, &error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid_url(text, "only http and https are supported"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(credentials_error());
        }
        if url.fragment().is_some() {
            return Err(invalid_url(text, "a #fragment is never sent: remove it"));
        }
        Ok(Self(url))
    }
}

impl FromStr for HttpTarget {
    type Err = InvalidTask;

    /// Parses a typed URL. Without a scheme it gets `http://`, because integrators type `120.0.0.1:5000/api`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(error) = find_typo(text.trim()) {
            return Err(error);
        }
        let target = Self::stored(text)?;
        check_host(text, &target.0)?;
        Ok(target)
    }
}

/// Reads a URL from the database, or from JSON that was checked before.
impl TryFrom<String> for HttpTarget {
    type Error = InvalidTask;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::stored(&text)
    }
}

impl From<HttpTarget> for String {
    fn from(target: HttpTarget) -> Self {
        target.0.into()
    }
}

fn invalid_url(text: &str, why: &str) -> InvalidTask {
    // The text may contain a user and password, so do not repeat it.
    let subject = if text.contains('@') { "the value".to_owned() } else { format!("{text:?}") };
    InvalidTask(format!("{subject} is not a valid url: {why}"))
}

/// Rejects credentials in a URL, because lists, logs and executions show the URL.
fn credentials_error() -> InvalidTask {
    InvalidTask("a url must not contain a user or password: give an Authorization header instead".into())
}

/// The text before `://`, if it may be a scheme.
fn scheme(text: &str) -> Option<&str> {
    let (before, _) = text.split_once("://")?;
    let is_scheme = before.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    is_scheme.then_some(before)
}

/// Detects a typing error that the URL parser would accept as another URL, and suggests the likely meaning.
fn find_typo(text: &str) -> Option<InvalidTask> {
    if let Some(invalid) = text.chars().find(|&c| c.is_control() || is_invisible(c)) {
        let invalid = u32::from(invalid);
        return Some(invalid_url(
            text,
            &format!("it has an invisible character (U+{invalid:04X}): type it again"),
        ));
    }
    // The path may contain a whole URL (a relay), and the query anything.
    let end = text.find(['/', '\\', '?', '#']).unwrap_or(text.len());
    let (head, rest) = text.split_at(end);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    if path.contains('\\') {
        return Some(suggest(text, "it has a backslash", head, rest));
    }
    if head.is_empty() {
        return Some(suggest(
            text,
            "it names no host (a url is host:port/path, or begins with http:// or https://)",
            "",
            rest,
        ));
    }
    if let Some(why) = why_no_host(head, rest) {
        return Some(invalid_url(text, why));
    }
    if head == ":" {
        return Some(suggest(text, "it has no scheme before ://", "", rest));
    }
    let word: String = head.chars().filter(char::is_ascii_alphabetic).collect();
    let is_http = ["http", "https"].iter().any(|name| word.eq_ignore_ascii_case(name));
    let port = head.split_once(':').map(|(_, port)| port);
    match (head.strip_suffix(':'), path.starts_with("//")) {
        (Some(name), true) if ["http", "https"].iter().any(|http| name.eq_ignore_ascii_case(http)) => {
            find_typo_after_scheme(text, name, path, rest)
        }
        (_, true) if nearly_http(head).is_some() => Some(suggest(text, "its scheme is misspelt", head, rest)),
        (Some(_), true) => Some(invalid_url(text, "only http and https are supported")),
        // `http:/x` and `http:x` are misspelt; `http:80/x` and `http/x` are on a host named http.
        (Some(_), false) if is_http => Some(suggest(text, "its scheme is misspelt", head, rest)),
        _ if port.is_some_and(|port| !is_port(port)) && nearly_http(head.split(':').next()?).is_some() => {
            let (name, after) = head.split_once(':')?;
            Some(suggest(text, "its scheme is misspelt", name, &format!("{after}{rest}")))
        }
        (Some(_), false) => Some(invalid_url(text, "there is no port after the colon")),
        (None, _) => head.contains('@').then(credentials_error),
    }
}

/// Why a single word is probably not a host, although it could be the name of one.
fn why_no_host(head: &str, rest: &str) -> Option<&'static str> {
    if !rest.is_empty() {
        return None;
    }
    if ["http", "https"].iter().any(|name| head.eq_ignore_ascii_case(name)) {
        return Some("it names no host");
    }
    let (name, extension) = head.split_once('.')?;
    let is_file = !name.is_empty()
        && ["bash", "bat", "cgi", "exe", "js", "php", "ps1", "py", "rb", "sh"].contains(&extension);
    is_file.then_some(
        "it looks like a script's file: use a script task; if it is a host, write http:// before it",
    )
}

/// Detects a typing error after `http://`.
fn find_typo_after_scheme(text: &str, name: &str, path: &str, rest: &str) -> Option<InvalidTask> {
    let after = path.strip_prefix("//")?;
    if after.starts_with('/') {
        return Some(suggest(text, "it has too many slashes", name, rest));
    }
    let authority = after.split('/').next().unwrap_or_default();
    if authority.is_empty() {
        return Some(invalid_url(text, "it names no host"));
    }
    if authority.contains('@') {
        return Some(credentials_error());
    }
    let inner = authority.split(':').next().unwrap_or_default();
    let has_second_scheme = ["http", "https"].iter().any(|http| inner.eq_ignore_ascii_case(http))
        && (authority.ends_with(':') || after.get(authority.len()..)?.starts_with("//"));
    if has_second_scheme {
        let rest = rest.get(2 + inner.len()..)?;
        return Some(suggest(text, "it has two schemes", inner, rest));
    }
    // `http://www.http://x`
    let path = after.get(authority.len()..)?;
    let label = authority.strip_suffix(':')?.rsplit('.').next().unwrap_or_default();
    path.starts_with("//").then(|| suggest(text, "it has two schemes", label, path))
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The scheme that `word` almost is: `htttp`, `ht!tp`, `https;`.
fn nearly_http(word: &str) -> Option<&'static str> {
    let word = word.trim_end_matches(':').to_ascii_lowercase();
    let letters: String = word.chars().filter(char::is_ascii_alphabetic).collect();
    let is_letter_short = word.len() <= letters.len() + 1;
    ["https", "http"]
        .into_iter()
        .find(|name| letters == *name && is_letter_short)
        .or_else(|| ["https", "http"].into_iter().find(|name| strsim::damerau_levenshtein(&word, name) == 1))
}

/// Rejects `text`, and suggests `rest` with the scheme that `head` resembles, if that is a valid URL.
fn suggest(text: &str, why: &str, head: &str, rest: &str) -> InvalidTask {
    let scheme = nearly_http(head).or(head.is_empty().then_some("http"));
    let rest = rest.trim_start_matches(['/', '\\', ':']).replace('\\', "/");
    let suggestion = scheme.map(|scheme| format!("{scheme}://{rest}"));
    // `/api` has no host at all, so there is nothing to suggest.
    let can_suggest = !head.is_empty() || text.starts_with("//") || text.starts_with("://");
    match suggestion {
        Some(url) if can_suggest && url.parse::<HttpTarget>().is_ok() => {
            invalid_url(text, &format!("{why}; did you mean {url}?"))
        }
        _ => invalid_url(text, why),
    }
}

/// Rejects port 0 and host names that cannot exist.
fn check_host(text: &str, url: &Url) -> Result<(), InvalidTask> {
    if url.port() == Some(0) {
        return Err(invalid_url(text, "there is no port 0"));
    }
    let Some(name) = url.domain() else { return Ok(()) };
    if let Some(invalid) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'))
    {
        return Err(invalid_url(text, &format!("a host name cannot contain {invalid:?}")));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > 253 || name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err(invalid_url(
            text,
            "each part of a host name must have 1 to 63 characters, and the whole name at most 253",
        ));
    }
    Ok(())
}
