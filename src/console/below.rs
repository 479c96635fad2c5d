//! Serves the console below a path of its host, such as `https://tools.example/provisiond`.
//!
//! Pages and redirects contain URLs as if the console were at the root of the host. Only this module adds the path, so
//! new pages need no code for it. A proxy may forward the path or remove it; both work.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, Uri, header, uri::PathAndQuery},
    middleware::{Next, from_fn},
    response::Response,
};
use http_body_util::BodyExt as _;
use tower::{ServiceBuilder, util::MapRequestLayer};

/// HTML attributes that contain a path. Text and attribute values have no unescaped quote, so they never match.
const ATTRIBUTES: [&str; 7] =
    ["href", "src", "action", "formaction", "data-href", "data-sample", "data-tail"];

/// For each attribute: the start of a link in a page, and its replacement.
type Links = [(String, String); ATTRIBUTES.len()];

fn links(path: &str) -> Links {
    ATTRIBUTES.map(|name| (format!(" {name}=\"/"), format!(" {name}=\"{path}/")))
}

/// Serves `app` below `path`, or at the root if `path` is empty.
pub fn path(path: String, app: Router) -> Router {
    if path.is_empty() {
        return app;
    }
    let below = path.clone();
    let enter = MapRequestLayer::new(move |request| enter(&below, request));
    let links = Arc::new(links(&path));
    let leave = from_fn(move |request: Request, next: Next| {
        let (path, links) = (path.clone(), Arc::clone(&links));
        async move { leave(&path, &links, next.run(request).await) }
    });
    Router::new().fallback_service(ServiceBuilder::new().layer(enter).service(app.layer(leave)))
}

/// Removes the path from the URL of a request, unless a proxy has removed it.
fn enter(path: &str, mut request: Request) -> Request {
    let rest = request.uri().path_and_query().and_then(|target| target.as_str().strip_prefix(path));
    let rest = match rest {
        Some(rest) if rest.starts_with('/') => rest.parse::<PathAndQuery>().ok(),
        Some(rest) if rest.is_empty() || rest.starts_with('?') => format!("/{rest}").parse().ok(),
        _ => None,
    };
    if let Some(rest) = rest {
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = Some(rest);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

fn leave(path: &str, links: &Arc<Links>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    if let Some(location) = headers.get(header::LOCATION).and_then(|location| prefixed(path, location)) {
        headers.insert(header::LOCATION, location);
    }
    if !has_links(headers) {
        return response;
    }
    headers.remove(header::CONTENT_LENGTH);
    let links = Arc::clone(links);
    // Each page is one body frame, and so is each event of a live page. No link is split between two frames.
    response
        .map(|body| Body::new(body.map_frame(move |frame| frame.map_data(|data| prefix_links(&links, data)))))
}

fn prefixed(path: &str, location: &HeaderValue) -> Option<HeaderValue> {
    let location = location.to_str().ok().filter(|to| to.starts_with('/') && !to.starts_with("//"))?;
    HeaderValue::from_str(&format!("{path}{location}")).ok()
}

fn has_links(headers: &HeaderMap) -> bool {
    let media = headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
    media.starts_with("text/html") || media.starts_with("text/event-stream")
}

fn prefix_links(links: &Links, data: Bytes) -> Bytes {
    let Ok(text) = std::str::from_utf8(&data) else { return data };
    links.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OWN_PATHS;

    fn entered(uri: &str) -> String {
        let request = Request::builder().uri(uri).body(Body::empty()).expect("a request");
        enter("/ops", request).uri().to_string()
    }

    #[test]
    fn a_proxy_may_keep_or_remove_the_path() {
        for (requested, expected) in [
            ("/ops", "/"),
            ("/ops/", "/"),
            ("/ops?period=day", "/?period=day"),
            ("/ops/handlers/3?a=/ops/b", "/handlers/3?a=/ops/b"),
            ("/handlers", "/handlers"),
            ("/", "/"),
            ("/opsx/handlers", "/opsx/handlers"),
            ("http://a.example/ops/handlers", "http://a.example/handlers"),
        ] {
            assert_eq!(entered(requested), expected, "{requested}");
        }
    }

    #[test]
    fn redirects_within_the_console_get_the_path() {
        let to = |location: &'static str| prefixed("/ops", &HeaderValue::from_static(location));
        assert_eq!(to("/sign-in?next=%2F").expect("prefixed"), "/ops/sign-in?next=%2F");
        assert_eq!(to("//a.example/"), None);
        assert_eq!(to("https://a.example/"), None);
    }

    #[test]
    fn links_get_the_path_and_texts_do_not() {
        let page = r#"<a href="/">x</a><a href="/handlers#a"><form action="/a"><input value="/a"> href=&#34;/b <b data-on="/c">"#;
        let expected = r#"<a href="/ops/">x</a><a href="/ops/handlers#a"><form action="/ops/a"><input value="/a"> href=&#34;/b <b data-on="/c">"#;
        assert_eq!(prefix_links(&links("/ops"), page.into()), expected);
    }

    #[test]
    fn public_url_cannot_be_a_path_of_the_console() {
        for path in OWN_PATHS {
            assert!(
                format!("https://a.example/{path}/x").parse::<crate::config::PublicUrl>().is_err(),
                "{path}"
            );
        }
    }
}
