//! What every resource says about itself.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::DEFAULT_NAMESPACE;

/// What every resource says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Metadata {
    /// The name, unique for the kind in its namespace: lower-case letters, digits, hyphens and dots, at most 253
    /// characters; for a `Service` a DNS label of at most 63 without dots, because callers use it as a host name.
    pub name: String,
    /// The namespace: a DNS label. Default `default`.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Names and values by which people and tools select resources. Default none; at most 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Free text for tools and people. Default none; at most 256 KiB in all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

// === impl Metadata ===

impl Metadata {
    /// The label whose value `true` keeps switches from a route or service.
    pub const PROTECTED: &str = "leno.mesh/protected";

    /// Whether no switch may degrade the resource.
    pub fn is_protected(&self) -> bool {
        self.labels.get(Self::PROTECTED).is_some_and(|value| value == "true")
    }
}

fn default_namespace() -> String {
    DEFAULT_NAMESPACE.to_owned()
}
