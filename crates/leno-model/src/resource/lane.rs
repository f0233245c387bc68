//! Lane: versions of several services that tagged requests stay in, so that a release of all of them is tried as one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Versions of services of its namespace that tagged requests stay in on every hop, and that get no others; where a version
/// has no instance that takes requests, the others of the service do. The tag goes along the call chain as far as the
/// applications pass it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LaneSpec {
    /// What a request of the lane has.
    pub tag: LaneTag,
    /// The versions of the lane. 1 to 64, one for a service.
    #[serde(default)]
    pub versions: Vec<LaneVersion>,
}

/// What tells a request of a lane: a field, or an entry of the baggage that tracing passes on. One of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LaneTag {
    /// The name of a field, as `x-lane`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The key of an entry in the field `baggage` (W3C Baggage), as `lane`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baggage: Option<String>,
    /// Its value: letters, digits, `-`, `_` and `.`, at most 63.
    pub value: String,
}

/// A version of a service that belongs to a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LaneVersion {
    /// The service.
    pub name: String,
    /// Its version, as instances have it (`leno run --version v2`).
    pub version: String,
}
