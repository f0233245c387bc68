//! Bodies of requests: YAML, JSON, or several files in one.
//!
//! Content types that a web page can send without asking (`text/plain`, forms) are refused, which leaves cross-site
//! requests no way in.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use leno_model::document::{self, Parsed};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer::Refused;

/// How faults call a body that has no name.
const UNNAMED: &str = "-";

/// The most files in one request.
const FILES_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    files: Vec<File>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    text: String,
}

/// The resources in a body. `file` is how faults call it.
pub(super) fn parse(headers: &HeaderMap, body: &Bytes, file: Option<&str>) -> Result<Parsed, Refused> {
    let is_json = match content_type(headers) {
        "application/json" => true,
        "application/yaml" | "application/x-yaml" | "text/yaml" => false,
        other => return Err(Refused::media_type(other)),
    };
    if is_json && let Ok(Files { files }) = serde_json::from_slice(body) {
        if files.len() > FILES_MAX {
            return Err(Refused::usage(format!("{} files, at most {FILES_MAX}", files.len()), "split them"));
        }
        return Ok(document::parse_set(files.iter().map(|file| (file.name.as_str(), file.text.as_bytes()))));
    }
    let parsed = document::parse_bytes(file.unwrap_or(UNNAMED), body);
    if parsed.resources.is_empty() && parsed.faults.is_empty() {
        return Err(Refused::usage("no resource in the request", "send at least one document"));
    }
    Ok(parsed)
}

/// A body that is one JSON object.
pub(super) fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, Refused> {
    match content_type(headers) {
        "application/json" => {}
        other => return Err(Refused::media_type(other)),
    }
    serde_json::from_slice(body).map_err(|error| Refused::usage(error.to_string(), "send the fields of the reference"))
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}
