//! leno's own words, in `typed_filter_metadata` under `leno.mesh`: what Envoy's messages cannot say. Only leno's
//! proxies are sent them; whoever does not know them loses nothing that it could have used.
//!
//! `exact` is JSON of the parts of the model whose Envoy form says something else or less; it is empty for everything
//! that people usually write.

/// Of a listener.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListenerNote {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(uint32, tag = "2")]
    pub port: u32,
    #[prost(bool, tag = "3")]
    pub bind: bool,
    #[prost(enumeration = "ProtocolNote", tag = "4")]
    pub protocol: i32,
    #[prost(string, tag = "15")]
    pub exact: String,
}

/// Of a virtual host.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VirtualHostNote {
    #[prost(string, tag = "15")]
    pub exact: String,
}

/// Of a route, and of a filter chain made from a rule.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RuleNote {
    #[prost(string, tag = "1")]
    pub resource: String,
    #[prost(uint32, tag = "2")]
    pub rule: u32,
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
    #[prost(string, tag = "15")]
    pub exact: String,
}

/// Of a cluster.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClusterNote {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(uint32, tag = "2")]
    pub port: u32,
    #[prost(enumeration = "ProtocolNote", tag = "3")]
    pub protocol: i32,
    #[prost(string, tag = "15")]
    pub exact: String,
}

/// Of an endpoint.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EndpointNote {
    #[prost(string, tag = "1")]
    pub id: String,
    /// The way through the instance's proxy, as `address:port`.
    #[prost(string, optional, tag = "2")]
    pub proxy: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub version: Option<String>,
    /// Its weight is 0, which Envoy has no number for.
    #[prost(bool, tag = "4")]
    pub weightless: bool,
    /// Its labels that the cluster's expression looks at.
    #[prost(btree_map = "string, string", tag = "5")]
    pub labels: std::collections::BTreeMap<String, String>,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ProtocolNote {
    Detect = 0,
    Http = 1,
    Http2 = 2,
    Grpc = 3,
    Tcp = 4,
    Tls = 5,
}
