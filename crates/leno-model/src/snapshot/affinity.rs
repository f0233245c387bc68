//! What binds a request to an endpoint: a hash of what it has, or a session that names one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Name;

/// What binds requests for a destination to its endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Affinity {
    /// What of a request or connection decides, where the cluster's balancing hashes. Keys that it has are put together, in
    /// order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hash: Vec<HashKey>,
    /// Where requests name the endpoint that they had before, which comes first. Default nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// Where requests say which endpoints are for them. Default nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<SubsetKey>,
}

/// Where a request says which endpoints are for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubsetKey {
    /// A field; lower case.
    pub header: Name,
    /// The label that has its value.
    pub label: Name,
}

/// Where a request names its endpoint, and an answer one that is new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Session {
    /// In a cookie, which the proxy makes.
    Cookie(Cookie),
    /// In a field; lower case.
    Header(Name),
}

/// A part of what decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashKey {
    /// Where it stands.
    pub source: HashSource,
    /// Whether those behind it are left aside when there is something to decide by after it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
}

/// Where a part of what decides stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashSource {
    /// All values of a field; lower case.
    Header(Name),
    /// A cookie.
    Cookie(Cookie),
    /// The first parameter of this name in the query.
    Query(Name),
    /// The caller's address, without its port.
    SourceAddress,
}

/// A cookie by which requests find their endpoint again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cookie {
    /// Its name.
    pub name: Name,
    /// How long the one lasts that the proxy makes where requests lack it; 0 is for as long as the browser is open. None:
    /// the proxy makes none.
    pub ttl: Option<Duration>,
    /// The path for which clients send it back, of one that is made.
    pub path: Option<Name>,
}

// === impl Affinity ===

impl Affinity {
    /// Whether nothing binds.
    pub fn is_none(&self) -> bool {
        self.hash.is_empty() && self.session.is_none() && self.subset.is_none()
    }

    /// What of it binds connections, which have nothing but their caller.
    #[must_use]
    pub fn of_bytes(mut self) -> Self {
        self.hash.retain(|key| key.source == HashSource::SourceAddress);
        self.session = None;
        self.subset = None;
        self
    }
}
