//! What a status other than 2xx means: whether and when to retry, and the error text.

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::{Timestamp, fmt::rfc2822};
use url::Url;

use crate::domain::{
    outcome::{Failure, FailureKind},
    retry::MAX_DELAY,
    task::{HttpTarget, MASK},
};

/// How much of a header's value an error quotes, in characters.
const MAX_QUOTE: usize = 60;
/// A number in `Retry-After` that is this close to the current Unix time is a time, not a delay.
const MAX_DATE_DISTANCE: Duration = Duration::from_hours(365 * 24);
/// How much of a redirect's target an error shows, in characters.
const MAX_LOCATION: usize = 200;

/// The failure that `status` means for a call of `url`.
pub fn failure_of(status: StatusCode, headers: &HeaderMap, url: &HttpTarget, now: SystemTime) -> Failure {
    let kind = match status.as_u16() {
        408 | 409 | 423 | 425 | 429 | 500..=599 => FailureKind::Transient,
        _ => FailureKind::Permanent,
    };
    let mut error = format!("answered {status}").replace(" <unknown status code>", "");
    match status {
        StatusCode::NOT_MODIFIED => error.push_str(
            " (not a redirect: 304 is for conditional requests, which provisiond does not send; \
             check the cache or proxy in front of the endpoint)",
        ),
        _ if status.is_redirection() => error.push_str(&redirect(headers, url.url())),
        _ => {}
    }
    let mut retry_after = None;
    if matches!(status.as_u16(), 429 | 503)
        && let Some(value) = headers.get(header::RETRY_AFTER)
    {
        match parse_retry_after(value, now) {
            Some(Wait::For(wait)) => {
                retry_after = Some(wait.min(MAX_DELAY));
                if wait > MAX_DELAY {
                    error.push_str(&too_long(value));
                }
            }
            Some(Wait::Past) => {}
            None => error.push_str(&not_understood(value)),
        }
    }
    Failure { kind, error, retry_after, gone: status == StatusCode::GONE }
}

/// The meaning of a `Retry-After` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    For(Duration),
    /// A date in the past, which asks for no delay.
    Past,
}

/// Parses `Retry-After`: seconds, also with a fraction, or a date in an unambiguous format. A number close to
/// the current Unix time, in seconds or milliseconds, is a date.
fn parse_retry_after(value: &HeaderValue, now: SystemTime) -> Option<Wait> {
    let text = value.to_str().ok()?.trim();
    let time = match seconds(text) {
        Some(seconds) => match unix_time(seconds, now) {
            Some(time) => time,
            None => return Some(Wait::For(seconds)),
        },
        None => date(text)?,
    };
    Some(time.duration_since(now).map_or(Wait::Past, Wait::For))
}

/// `number` as a Unix time, if that is within a year of `now`. As a delay it would be decades.
fn unix_time(number: Duration, now: SystemTime) -> Option<SystemTime> {
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let time = [number, number / 1000]
        .into_iter()
        .find(|candidate| candidate.abs_diff(since_1970) < MAX_DATE_DISTANCE)?;
    SystemTime::UNIX_EPOCH.checked_add(time)
}

/// Parses `120` or `120.5`. A number that is too large gives the longest duration.
fn seconds(text: &str) -> Option<Duration> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (integer, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !is_number(integer) || !is_number(fraction) {
        return None;
    }
    Some(text.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()).unwrap_or(Duration::MAX))
}

/// Parses an HTTP date in any of its three formats, the date of an e-mail (with `+0000` or another zone), or
/// RFC 3339.
fn date(text: &str) -> Option<SystemTime> {
    if let Ok(date) = httpdate::parse_http_date(text) {
        return Some(date);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.into());
    }
    let parser = rfc2822::DateTimeParser::new().relaxed_weekday(true);
    let zone = text.strip_suffix("UTC").map(|before| format!("{before}GMT"));
    let text = zone.as_deref().unwrap_or(text);
    // `21-Oct-2026` is the form in cookies.
    let without_dashes = text.replace('-', " ");
    let time = parser.parse_timestamp(text).or_else(|_| parser.parse_timestamp(&without_dashes)).ok()?;
    Some(time.into())
}

fn too_long(value: &HeaderValue) -> String {
    let (value, days) = (quote(value), MAX_DELAY.as_secs() / 86_400);
    format!(" (its Retry-After {value} is more than {days} days: the handler's max_interval applies)")
}

fn not_understood(value: &HeaderValue) -> String {
    let value = quote(value);
    format!(
        " (its Retry-After {value} was not understood, so the usual delay applies; \
         it must be seconds or an HTTP date)"
    )
}

/// The sentence about a redirect: its target, without what may be secret.
fn redirect(headers: &HeaderMap, url: &Url) -> String {
    let Some(value) = headers.get(header::LOCATION) else {
        return " (redirects are not followed; the answer has no Location)".to_owned();
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let Ok(mut target) = url.join(text.trim()) else {
        return " (redirects are not followed; the answer's Location is not a url)".to_owned();
    };
    target.set_fragment(None);
    let relation = relation(url, &target);
    // This fails for a url without a host, which has no user name either.
    let _ = target.set_username("");
    let _ = target.set_password(None);
    if !matches!(target.scheme(), "http" | "https") {
        let scheme = target.scheme();
        return format!(" (redirects are not followed; the answer's Location is a {scheme}: url)");
    }
    if target.path() != "/" || target.query().is_some() {
        target.set_path(MASK);
        target.set_query(None);
    }
    let target: String = target.as_str().chars().take(MAX_LOCATION).collect();
    format!(
        " (redirects are not followed; it points to {target}{relation}: if that is right, change the handler's url)"
    )
}

/// How `target` differs from `url`, if that can be said without showing its path.
fn relation(url: &Url, target: &Url) -> &'static str {
    if target.query() != url.query() {
        return "";
    }
    match (target.path(), url.path()) {
        _ if target.as_str() == url.as_str() => ", which is the same url",
        (to, from) if to == from && to != "/" => ", with the same path",
        (to, from) if to.strip_suffix('/') == Some(from) => ", with a / added to the path",
        (to, from) if from.strip_suffix('/') == Some(to) => ", without the / at the end of the path",
        _ => "",
    }
}

/// A header's value as an error shows it.
fn quote(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    let start: String = text.chars().take(MAX_QUOTE).collect();
    let dots = if start.len() < text.len() { "…" } else { "" };
    format!("{start:?}{dots}")
}
