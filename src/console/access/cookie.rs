//! The cookie of a session.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::{config::Origin, domain::access::RandomToken};

/// Over https with the prefix by which browsers take it from the host itself alone, and only over TLS.
const NAMES: [&str; 2] = ["__Host-provisiond", "provisiond"];

/// The session's token, as the browser sends it.
pub fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| NAMES.contains(name)).map(|(_, token)| token)
}

/// Sets it, until the browser is closed; the session may end before. None: takes it away.
///
/// Lax: a link in a chat leads to its page. No page that is only looked at changes anything, and what changes something is
/// refused unless a page of ours sends it (`origin`), whatever the browser does with the cookie.
pub fn set(public_url: Option<&Origin>, token: Option<&RandomToken>) -> Option<HeaderValue> {
    let [secure_name, plain_name] = NAMES;
    let (name, secure) = match public_url {
        Some(url) if url.is_https() => (secure_name, "; Secure"),
        _ => (plain_name, ""),
    };
    let value = token.map_or("", RandomToken::expose);
    let gone = if token.is_none() { "; Max-Age=0" } else { "" };
    HeaderValue::from_str(&format!("{name}={value}; HttpOnly; SameSite=Lax; Path=/{secure}{gone}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; xprovisiond=1"));
        assert_eq!(session(&headers), None);
        headers.append(header::COOKIE, HeaderValue::from_static("c=d;provisiond=abc"));
        assert_eq!(session(&headers), Some("abc"));
    }

    #[test]
    fn it_is_for_us_alone() {
        let token = RandomToken::generate();
        let plain = set(None, Some(&token)).expect("a header");
        let form = format!("provisiond={}; HttpOnly; SameSite=Lax; Path=/", token.expose());
        assert_eq!(plain.to_str().expect("text"), form);
        let https: Origin = "https://a.example".parse().expect("an origin");
        let secure = set(Some(&https), None).expect("a header");
        let form = "__Host-provisiond=; HttpOnly; SameSite=Lax; Path=/; Secure; Max-Age=0";
        assert_eq!(secure.to_str().expect("text"), form);
    }
}
