//! The pages, embedded when the binary is built.
//!
//! Each file has an ETag, which is its hash, and is asked for again each time: on loopback a 304 costs nothing, and no
//! browser shows an old page after an upgrade. The policy allows scripts, styles and data of this origin only; no page
//! may frame it.

use std::sync::OnceLock;

use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};
use sha2::{Digest as _, Sha256};

/// What the pages may load: nothing but this origin's own files.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const ICON: &str = "image/svg+xml";

macro_rules! asset {
    ($path:literal, $kind:expr) => {
        Asset { path: $path, kind: $kind, bytes: include_bytes!(concat!("../assets/", $path)) }
    };
}

/// Every file that is served.
const ASSETS: &[Asset] = &[
    asset!("index.html", HTML),
    asset!("icon.svg", ICON),
    asset!("style.css", STYLE),
    asset!("app.js", SCRIPT),
    asset!("state.js", SCRIPT),
    asset!("format.js", SCRIPT),
    asset!("parts.js", SCRIPT),
    asset!("layout.js", SCRIPT),
    asset!("chart.js", SCRIPT),
    asset!("map.js", SCRIPT),
    asset!("services.js", SCRIPT),
    asset!("policies.js", SCRIPT),
    asset!("proxies.js", SCRIPT),
    asset!("changes.js", SCRIPT),
    asset!("vendor/preact.js", SCRIPT),
    asset!("vendor/hooks.js", SCRIPT),
    asset!("vendor/htm.js", SCRIPT),
    asset!("vendor/signals-core.js", SCRIPT),
    asset!("vendor/signals.js", SCRIPT),
];

/// `GET /dashboard/`.
pub(crate) async fn index(headers: HeaderMap) -> Response {
    serve("index.html", &headers)
}

/// `GET /dashboard/{path}`.
pub(crate) async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    serve(&path, &headers)
}

/// `GET /dashboard`: relative names need the slash.
pub(crate) async fn add_slash() -> Response {
    let mut response = empty(StatusCode::PERMANENT_REDIRECT);
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/dashboard/"));
    response
}

fn serve(path: &str, headers: &HeaderMap) -> Response {
    let found = ASSETS.iter().zip(etags()).find(|(asset, _)| asset.path == path);
    let Some((asset, etag)) = found else { return empty(StatusCode::NOT_FOUND) };
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == etag);
    let mut response = if known { empty(StatusCode::NOT_MODIFIED) } else { Response::new(Body::from(asset.bytes)) };
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    fields.insert(header::ETAG, etag.clone());
    response
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    secure(response.headers_mut());
    response
}

/// The fields that every answer of the dashboard has.
pub(crate) fn secure(fields: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        fields.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

fn etags() -> &'static [HeaderValue] {
    static ETAGS: OnceLock<Vec<HeaderValue>> = OnceLock::new();
    ETAGS.get_or_init(|| ASSETS.iter().map(|asset| etag(asset.bytes)).collect())
}

fn etag(bytes: &[u8]) -> HeaderValue {
    let hex: String = Sha256::digest(bytes).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&format!("\"{hex}\"")).expect("hexadecimal digits and quotes are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(asset: &Asset) -> &str {
        std::str::from_utf8(asset.bytes).unwrap()
    }

    #[test]
    fn vendored_files_are_those_of_the_table() {
        let table = include_str!("../assets/vendor/README.md");
        for asset in ASSETS.iter().filter(|asset| asset.path.starts_with("vendor/")) {
            let hash: String = Sha256::digest(asset.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            let name = asset.path.trim_start_matches("vendor/");
            let row = table.lines().find(|line| line.starts_with(&format!("| `{name}`"))).unwrap();
            assert!(row.contains(&hash), "{name} is {hash}");
        }
    }

    #[test]
    fn our_pages_never_write_markup_nor_load_from_elsewhere() {
        for asset in ASSETS.iter().filter(|asset| !asset.path.starts_with("vendor/")) {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacent",
                "dangerously",
                "document.write",
                "eval(",
                "new Function",
                "javascript:",
                "//cdn",
            ] {
                assert!(!text(asset).contains(word), "{word} in {}", asset.path);
            }
            // The only address is the name of SVG's vocabulary, which nobody loads.
            let addresses = text(asset).matches("://").count();
            assert_eq!(addresses, text(asset).matches("http://www.w3.org/").count(), "{}", asset.path);
        }
    }

    #[test]
    fn every_import_is_a_file_that_is_served() {
        for asset in ASSETS.iter().filter(|asset| asset.kind == SCRIPT) {
            let folder = asset.path.rfind('/').map_or("", |at| &asset.path[..=at]);
            for part in text(asset).split("from").skip(1) {
                let part = part.trim_start();
                let Some(quote) = part.chars().next().filter(|c| matches!(c, '\'' | '"')) else { continue };
                let Some(name) = part[1..].split(quote).next().and_then(|name| name.strip_prefix("./")) else {
                    continue;
                };
                let path = format!("{folder}{name}");
                assert!(ASSETS.iter().any(|other| other.path == path), "{} imports {path}", asset.path);
            }
        }
    }
}
