//! The session cookie.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::{config::PublicUrl, domain::access::RandomToken};

/// Names of the cookie: on https for the whole host, on https below a path, and on http. With either prefix, browsers
/// accept the cookie over TLS only; with `__Host-`, also only from the host itself.
const NAMES: [&str; 3] = ["__Host-provisiond", "__Secure-provisiond", "provisiond"];

/// The session token that the browser sent.
pub fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| NAMES.contains(name)).map(|(_, token)| token)
}

/// The header that sets the cookie; `None` deletes it. The browser keeps the cookie until it is closed; the session may
/// end earlier.
///
/// `SameSite=Lax` sends the cookie when someone follows a link in a chat. That is safe: GET changes nothing, and a
/// change must come from one of our pages (`origin`), whatever the browser does with the cookie.
pub fn set(public_url: Option<&PublicUrl>, token: Option<&RandomToken>) -> Option<HeaderValue> {
    let [of_host, below, plain] = NAMES;
    let path = public_url.map(PublicUrl::path).filter(|path| !path.is_empty());
    let (name, secure) = match (public_url, path) {
        (Some(url), None) if url.is_https() => (of_host, "; Secure"),
        (Some(url), Some(_)) if url.is_https() => (below, "; Secure"),
        _ => (plain, ""),
    };
    let path = path.unwrap_or("/");
    let value = token.map_or("", RandomToken::expose);
    let expiry = if token.is_none() { "; Max-Age=0" } else { "" };
    HeaderValue::from_str(&format!("{name}={value}; HttpOnly; SameSite=Lax; Path={path}{secure}{expiry}"))
        .ok()
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
        let https: PublicUrl = "https://a.example".parse().expect("an origin");
        let secure = set(Some(&https), None).expect("a header");
        let form = "__Host-provisiond=; HttpOnly; SameSite=Lax; Path=/; Secure; Max-Age=0";
        assert_eq!(secure.to_str().expect("text"), form);
        let below: PublicUrl = "https://a.example/ops/".parse().expect("a url");
        let secure = set(Some(&below), None).expect("a header");
        let form = "__Secure-provisiond=; HttpOnly; SameSite=Lax; Path=/ops; Secure; Max-Age=0";
        assert_eq!(secure.to_str().expect("text"), form);
    }
}
