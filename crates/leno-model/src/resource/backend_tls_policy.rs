//! BackendTLSPolicy: TLS towards the instances of a service.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gateway::CertificateRef;

/// TLS towards the instances of a service, for requests and for bytes. What a client sends as TLS of its own goes on as it
/// is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BackendTlsPolicySpec {
    /// The services it is for, in its own namespace. 1 to 16.
    #[serde(default)]
    pub target_refs: Vec<PortTargetRef>,
    /// How the certificates of instances are verified.
    pub validation: BackendValidation,
    /// Further options, none of which leno has. Default none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// A service, or one of its ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PortTargetRef {
    /// The group of the target's kind: `""` or `leno.mesh`. Default `""`.
    #[serde(default)]
    pub group: String,
    /// The target's kind: `Service`. Default `Service`.
    #[serde(default = "service_kind")]
    pub kind: String,
    /// The target's name.
    pub name: String,
    /// The name of one of its ports, for which this comes before what is for the whole service. Default: every port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// How certificates of instances are verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BackendValidation {
    /// The name that is asked for (SNI), and that the certificate must have unless `subjectAltNames` says otherwise.
    pub hostname: String,
    /// Bundles of roots that are believed, of kind `ConfigMap` or `Secret`: `NAME.ca.crt` or `NAME/ca.crt` in the directory of
    /// certificates of each proxy that calls (`leno proxy --certificates`). Up to 8; this or `wellKnownCACertificates`.
    #[serde(default, rename = "caCertificateRefs", skip_serializing_if = "Vec::is_empty")]
    pub ca_certificate_refs: Vec<CertificateRef>,
    /// `System`: the roots of the operating system that the proxy runs on. Default none.
    #[serde(default, rename = "wellKnownCACertificates", skip_serializing_if = "Option::is_none")]
    pub well_known_ca_certificates: Option<WellKnown>,
    /// Names and identities of which the certificate must have one, instead of `hostname`. Up to 5. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<SubjectAltName>,
}

/// Roots that need no bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WellKnown {
    /// Those of the operating system.
    System,
}

/// A name or an identity of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SubjectAltName {
    /// The type: `Hostname` or `URI`.
    #[serde(rename = "type")]
    pub r#type: SubjectAltNameType,
    /// The name, without a wildcard; for `Hostname`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The URI, compared letter by letter: `spiffe://example.org/cart`; for `URI`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// The types of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SubjectAltNameType {
    /// A name of DNS.
    Hostname,
    /// A URI, as SPIFFE's identities are.
    #[serde(rename = "URI")]
    Uri,
}

// === impl SubjectAltName ===

impl SubjectAltName {
    /// What the certificate must have: the name or the URI.
    pub fn value(&self) -> Option<&str> {
        match self.r#type {
            SubjectAltNameType::Hostname => self.hostname.as_deref(),
            SubjectAltNameType::Uri => self.uri.as_deref(),
        }
    }
}

fn service_kind() -> String {
    "Service".to_owned()
}
