//! Answers that proxies make by themselves, as resources write them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filter::Header;
use super::number::HttpStatus;

/// What a request hears in place of what it asked for. A call of gRPC hears UNAVAILABLE (14) with the body as its message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StaticReply {
    /// The status, 200 to 599. Default 503.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<HttpStatus>,
    /// What the body is. Default `text/plain; charset=utf-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// More headers. Default none; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// The body, at most 4096 bytes; none for statuses 204 and 304, which have none. Default: a sentence that names the
    /// resource that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}
