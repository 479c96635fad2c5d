//! Styles, scripts and the icon, embedded in the binary.
//!
//! The URL of an asset contains a hash of all assets. Browsers can therefore cache it for ever, and load the new files
//! after an update. A script that imports another one by a relative path gets the file of the same version.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::problem::Problem;

struct Asset {
    name: &'static str,
    media_type: &'static str,
    content: &'static [u8],
}

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

macro_rules! asset {
    ($name:literal, $media_type:expr) => {
        Asset { name: $name, media_type: $media_type, content: include_bytes!(concat!("assets/", $name)) }
    };
}

const SVG: &str = "image/svg+xml";

const ASSETS: [Asset; 9] = [
    asset!("console.css", CSS),
    asset!("console.js", JS),
    asset!("dialog.js", JS),
    asset!("forms.js", JS),
    asset!("icon.svg", SVG),
    asset!("live.js", JS),
    asset!("page.js", JS),
    asset!("ui.js", JS),
    asset!("tail.js", JS),
];

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let hash = ASSETS.iter().fold(Sha256::new(), |hash, asset| {
        hash.chain_update(asset.name).chain_update([0]).chain_update(asset.content).chain_update([0])
    });
    BASE64_URL_SAFE_NO_PAD.encode(hash.finalize().get(..9).unwrap_or_default())
});

/// The path of an asset, for a page.
pub fn url(name: &str) -> String {
    format!("/assets/{}/{name}", *VERSION)
}

pub async fn serve(
    Path((version, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    let asset = asset.ok_or_else(|| Problem::not_found(format!("there is no asset {name}")))?;
    let etag = format!("\"{}\"", *VERSION);
    // During an update, a page of another version may ask for its own assets. It gets ours, uncached.
    let keep = if version == *VERSION { "public, max-age=31536000, immutable" } else { "no-cache" };
    let described = [(header::ETAG, etag.as_str()), (header::CACHE_CONTROL, keep)];
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| known.contains(&etag)) {
        return Ok((StatusCode::NOT_MODIFIED, described).into_response());
    }
    Ok((described, [(header::CONTENT_TYPE, asset.media_type)], asset.content).into_response())
}
