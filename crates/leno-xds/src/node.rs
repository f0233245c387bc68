//! Who subscribes: what a proxy says of itself in its first message. A hint, never a proof of identity.

use std::collections::BTreeMap;
use std::fmt;

use std::net::{IpAddr, Ipv4Addr};

use leno_model::name::{DEFAULT_NAMESPACE, ServiceName};

use crate::messages::core::{BuildVersion, Locality, Node, UserAgentVersion};
use crate::messages::wkt::Struct;
use crate::translate::Dialect;

/// The key of the object in a node's metadata that is read: `leno.mesh: {namespace: shop, bind: 0.0.0.0, …}`.
const METADATA_KEY: &str = "leno.mesh";
/// What leno's own proxies call themselves.
const USER_AGENT: &str = "leno";

/// What kind of program holds a subscription; it decides the dialect in which resources are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyKind {
    /// leno's own proxy.
    Leno,
    /// Envoy, or one that says nothing of itself: it is answered as Envoy is.
    Envoy,
    /// A gRPC library that needs no proxy.
    Grpc,
}

/// What a leno proxy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ProxyRole {
    /// Beside one workload.
    #[default]
    Sidecar,
    /// At the edge.
    Gateway,
}

/// A subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Unique among proxies, as `cart.shop/cart-1`.
    pub id: String,
    /// Envoy's `--service-cluster`; free text.
    pub cluster: String,
    /// The kind of program.
    pub proxy: ProxyKind,
    /// What it is for.
    pub role: ProxyRole,
    /// The namespace in which bare names are looked up and for which visibility is decided.
    pub namespace: String,
    /// The service of the workload beside it, if it has one.
    pub service: Option<ServiceName>,
    /// The gateway whose listeners it opens, as `namespace/name`, for gateways.
    pub gateway: Option<String>,
    /// Where it runs.
    pub region: Option<String>,
    /// Where it runs.
    pub zone: Option<String>,
    /// Labels of its own, by which instances may be near it: `leno.mesh.labels` in the node's metadata.
    pub labels: BTreeMap<String, String>,
    /// Where it opens listeners, for Envoys: `leno.mesh.bind` in the node's metadata, 127.0.0.1 when it says nothing.
    pub bind: IpAddr,
    /// The program's version, for people.
    pub version: String,
}

// === impl ProxyKind ===

impl fmt::Display for ProxyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProxyKind::Leno => "leno",
            ProxyKind::Envoy => "envoy",
            ProxyKind::Grpc => "grpc",
        })
    }
}

// === impl NodeInfo ===

impl NodeInfo {
    /// A leno sidecar that says nothing but its name, to be completed.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            cluster: String::new(),
            proxy: ProxyKind::Leno,
            role: ProxyRole::Sidecar,
            namespace: DEFAULT_NAMESPACE.to_owned(),
            service: None,
            gateway: None,
            region: None,
            zone: None,
            labels: BTreeMap::new(),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            version: String::new(),
        }
    }

    /// How resources for it are written.
    pub fn dialect(&self) -> Dialect {
        match self.proxy {
            ProxyKind::Leno => Dialect::Leno,
            ProxyKind::Envoy => Dialect::Envoy { bind: self.bind },
            ProxyKind::Grpc => Dialect::Grpc,
        }
    }

    /// What a client says of itself.
    pub fn from_message(node: &Node) -> Self {
        let mut info = Self::new(node.id.clone());
        info.cluster = node.cluster.clone();
        info.proxy = match node.user_agent_name.to_ascii_lowercase() {
            name if name == USER_AGENT => ProxyKind::Leno,
            name if name.contains("grpc") => ProxyKind::Grpc,
            _ => ProxyKind::Envoy,
        };
        info.version = version_of(node.user_agent_version.as_ref());
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        if let Some(locality) = &node.locality {
            (info.region, info.zone) = (text(&locality.region), text(&locality.zone));
        }
        if let Some(words) = node.metadata.as_ref().and_then(|metadata| metadata.object(METADATA_KEY)) {
            info.namespace = words.text("namespace").map_or(info.namespace, str::to_owned);
            info.service = words.text("service").and_then(|service| service.parse().ok());
            info.gateway = words.text("gateway").map(str::to_owned);
            info.role = if words.text("role") == Some("gateway") { ProxyRole::Gateway } else { ProxyRole::Sidecar };
            let labels = words.object("labels").into_iter().flat_map(|labels| labels.texts());
            info.labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            info.bind = words.text("bind").and_then(|bind| bind.parse().ok()).unwrap_or(info.bind);
        }
        info
    }

    /// What leno's client says of itself.
    pub(crate) fn to_message(&self) -> Node {
        let mut words = Struct::default();
        let mut say = |key: &str, value: &str| words.fields.insert(key.to_owned(), value.into());
        say("namespace", &self.namespace);
        if let Some(service) = &self.service {
            say("service", &service.to_string());
        }
        if let Some(gateway) = &self.gateway {
            say("gateway", gateway);
        }
        if self.role == ProxyRole::Gateway {
            say("role", "gateway");
        }
        if !self.labels.is_empty() {
            let mut labels = Struct::default();
            labels.fields.extend(self.labels.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
            words.fields.insert("labels".to_owned(), labels.into());
        }
        let mut metadata = Struct::default();
        metadata.fields.insert(METADATA_KEY.to_owned(), words.into());
        let locality = Locality {
            region: self.region.clone().unwrap_or_default(),
            zone: self.zone.clone().unwrap_or_default(),
            sub_zone: String::new(),
        };
        Node {
            id: self.id.clone(),
            cluster: self.cluster.clone(),
            metadata: Some(metadata),
            locality: (locality != Locality::default()).then_some(locality),
            user_agent_name: USER_AGENT.to_owned(),
            user_agent_version: Some(UserAgentVersion::Text(self.version.clone())),
            client_features: Vec::new(),
        }
    }
}

fn version_of(version: Option<&UserAgentVersion>) -> String {
    match version {
        Some(UserAgentVersion::Text(text)) => text.clone(),
        Some(UserAgentVersion::Build(BuildVersion { version: Some(v), .. })) => {
            format!("{}.{}.{}", v.major_number, v.minor_number, v.patch)
        }
        Some(UserAgentVersion::Build(BuildVersion { version: None, .. })) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_read_as_it_was_said() {
        let node = NodeInfo {
            cluster: "shop".into(),
            role: ProxyRole::Gateway,
            namespace: "shop".into(),
            service: Some(ServiceName::new("shop", "cart").unwrap()),
            gateway: Some("shop/edge".into()),
            region: Some("r".into()),
            zone: Some("z".into()),
            labels: [("rack".to_owned(), "7".to_owned())].into(),
            version: "0.1.0".into(),
            ..NodeInfo::new("cart-1")
        };
        assert_eq!(NodeInfo::from_message(&node.to_message()), node);
    }

    #[test]
    fn programs_are_known_by_their_user_agent() {
        let kind = |name: &str| NodeInfo::from_message(&Node { user_agent_name: name.into(), ..Node::default() }).proxy;
        assert_eq!((kind("leno"), kind("envoy"), kind("")), (ProxyKind::Leno, ProxyKind::Envoy, ProxyKind::Envoy));
        assert_eq!(
            (kind("gRPC Go"), kind("grpc-java"), kind("gRPC C-core")),
            (ProxyKind::Grpc, ProxyKind::Grpc, ProxyKind::Grpc)
        );
    }
}
