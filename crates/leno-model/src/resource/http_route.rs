//! HTTPRoute: routing of HTTP requests by host, path, header, query parameter and method.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::GatewayDuration;
use super::filter::HttpFilter;
use super::number::{Attempts, RetryCode};
use super::reference::{HttpBackendRef, ParentRef};

/// Routing of HTTP requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// What the route belongs to: Services for traffic inside the mesh, Gateways for traffic from outside. 1 to 32.
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    /// Host names of requests, exact or `*.example.com`; only for Gateway parents. Default: every name that the listener
    /// takes. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// The rules. Default: one that sends everything nowhere. 1 to 16.
    #[serde(default)]
    pub rules: Vec<HttpRule>,
}

/// When it applies and what happens then.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRule {
    /// A name, unique in the route; a proxy's table in force shows it. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Any one of these. Default: every request. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpMatch>,
    /// Changes to requests and answers. Default none; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<HttpFilter>,
    /// Where requests go, by weight. A rule with neither backends nor a redirect answers 500. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<HttpBackendRef>,
    /// How long requests may take. Default: without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<HttpTimeouts>,
    /// What is tried again beyond what is always safe. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<HttpRetry>,
}

/// Conditions on a request, all of which must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpMatch {
    /// On the path. Default: every path (`PathPrefix` `/`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// On headers. Default none; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// On query parameters. Default none; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query_params: Vec<QueryMatch>,
    /// The method, in upper case. Default: every method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// A condition on the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PathMatch {
    /// How `value` is compared. Default `PathPrefix`.
    #[serde(default)]
    pub r#type: PathMatchType,
    /// A path that begins with `/`, or a regular expression (RE2 syntax) for the whole path. Default `/`.
    #[serde(default = "slash")]
    pub value: String,
}

/// How a path is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// The whole path.
    Exact,
    /// Whole segments: `/a` matches `/a` and `/a/b`, not `/ab`.
    #[default]
    PathPrefix,
    /// A regular expression (RE2 syntax) for the whole path.
    RegularExpression,
}

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum ValueMatchType {
    /// The whole value.
    #[default]
    Exact,
    /// A regular expression (RE2 syntax) for the whole value.
    RegularExpression,
}

/// A condition on a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HeaderMatch {
    /// How `value` is compared. Default `Exact`.
    #[serde(default)]
    pub r#type: ValueMatchType,
    /// The name, in any case.
    pub name: String,
    /// The value.
    pub value: String,
}

/// A condition on a query parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct QueryMatch {
    /// How `value` is compared. Default `Exact`.
    #[serde(default)]
    pub r#type: ValueMatchType,
    /// The name, compared exactly; of a repeated parameter the first counts.
    pub name: String,
    /// The value.
    pub value: String,
}

/// How long requests may take.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpTimeouts {
    /// For the whole request with all tries; `0s` is without limit. Default: without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<GatewayDuration>,
    /// For one try, at most `request`; `0s` is without limit. Default: without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<GatewayDuration>,
}

/// What is tried again, within the retry budget of the service: retries are at most a fifth of its requests of the last
/// ten seconds, or 3 a second where that is more. What is beyond gets the answer that there is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRetry {
    /// Statuses of answers that are tried again, 400 to 599. Default none: only connection errors are. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<RetryCode>,
    /// Tries after the first, 0 to 10: as many as the budget has left. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Attempts>,
    /// The shortest wait between two tries; doubled each time, with jitter. Default 25ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<GatewayDuration>,
}

fn slash() -> String {
    "/".to_owned()
}
