//! The names in snapshots: how they are made and read back.
//!
//! | kind | names |
//! | --- | --- |
//! | listener | as a caller spells the authority, `cart`, `cart.shop.mesh:8080`; `gateway/shop/edge:80`, of UDP `gateway/shop/edge:53/udp`; `inbound/cart.shop.mesh`; `outbound` |
//! | route configuration | `cart.shop.mesh:8080`, of a consumer route `cart.shop.mesh:8080/from/web`; `gateway/shop/edge:80`; `outbound/shop` |
//! | cluster, endpoints | `cart.shop.mesh:8080`, `cart.shop.mesh:8080@v2` |

use std::sync::Arc;

use leno_model::name::ServiceName;
use leno_model::snapshot::Name;

use super::Caller;

/// The listener that a subscriber to everything gets for its outbound traffic.
pub const OUTBOUND: &str = "outbound";

/// The port of [`OUTBOUND`].
pub const OUTBOUND_PORT: u16 = 15001;

/// The longest name that is read: a host name with a port, a version or a namespace behind it.
const NAME_MAX: usize = 512;

/// Behind the port of a gateway's listener of datagrams: UDP has ports of its own.
const UDP: &str = "/udp";

/// Before the service beside whose instance a proxy stands.
const INBOUND: &str = "inbound/";

/// The port of whoever names none.
pub(crate) const DEFAULT_PORT: u16 = 80;

/// What a listener is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Service { service: ServiceName, port: Option<u16> },
    Gateway { namespace: Arc<str>, name: Arc<str>, port: u16, udp: bool },
    Inbound { service: ServiceName },
    Everything,
}

/// What a route configuration is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Routes {
    Service { service: ServiceName, port: u16, consumer: Option<Arc<str>> },
    Gateway { namespace: Arc<str>, name: Arc<str>, port: u16 },
    Everything { caller: Caller },
}

/// A cluster's name in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterName {
    pub(crate) service: ServiceName,
    pub(crate) port: u16,
    pub(crate) version: Option<Arc<str>>,
}

pub(crate) fn gateway(namespace: &str, name: &str, port: u16) -> Name {
    format!("gateway/{namespace}/{name}:{port}").into()
}

pub(crate) fn gateway_udp(namespace: &str, name: &str, port: u16) -> Name {
    format!("gateway/{namespace}/{name}:{port}{UDP}").into()
}

pub(crate) fn routes(service: &ServiceName, port: u16, consumer: Option<&str>) -> Name {
    match consumer {
        None => format!("{}:{port}", service.host()).into(),
        Some(namespace) => format!("{}:{port}/from/{namespace}", service.host()).into(),
    }
}

pub(crate) fn outbound_routes(caller: &Caller) -> Name {
    let role = if caller.is_gateway { "/gateway" } else { "" };
    format!("{OUTBOUND}/{}{role}", caller.namespace).into()
}

// === impl Asked ===

impl Asked {
    pub(crate) fn listener(name: &str, caller: &Caller) -> Option<Self> {
        if name.len() > NAME_MAX {
            return None;
        }
        if name == OUTBOUND {
            return Some(Self::Everything);
        }
        if let Some(host) = name.strip_prefix(INBOUND) {
            let service = ServiceName::from_host(host, "").filter(|service| service.host() == host)?;
            return Some(Self::Inbound { service });
        }
        let (of_tcp, udp) = name.strip_suffix(UDP).map_or((name, false), |name| (name, true));
        if let Some((namespace, name, port)) = parse_gateway(of_tcp) {
            return Some(Self::Gateway { namespace, name, port, udp });
        }
        let (host, port) = match name.rsplit_once(':') {
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (name, None),
        };
        Some(Self::Service { service: ServiceName::from_host(host, &caller.namespace)?, port })
    }
}

// === impl Routes ===

impl Routes {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        if name.len() > NAME_MAX {
            return None;
        }
        if let Some(rest) = name.strip_prefix("outbound/") {
            let (namespace, is_gateway) = match rest.strip_suffix("/gateway") {
                Some(namespace) => (namespace, true),
                None => (rest, false),
            };
            return Some(Self::Everything { caller: Caller { namespace: namespace.into(), is_gateway } });
        }
        if let Some((namespace, name, port)) = parse_gateway(name) {
            return Some(Self::Gateway { namespace, name, port });
        }
        let (canonical, consumer) = match name.split_once("/from/") {
            Some((canonical, namespace)) => (canonical, Some(namespace.into())),
            None => (name, None),
        };
        let (service, port) = parse_canonical(canonical)?;
        Some(Self::Service { service, port, consumer })
    }
}

// === impl ClusterName ===

impl ClusterName {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        if name.len() > NAME_MAX {
            return None;
        }
        let (canonical, version) = match name.split_once('@') {
            Some((canonical, version)) => (canonical, Some(version.into())),
            None => (name, None),
        };
        let (service, port) = parse_canonical(canonical)?;
        Some(Self { service, port, version })
    }

    pub(crate) fn render(&self) -> Name {
        match &self.version {
            None => format!("{}:{}", self.service.host(), self.port).into(),
            Some(version) => format!("{}:{}@{version}", self.service.host(), self.port).into(),
        }
    }
}

fn parse_gateway(text: &str) -> Option<(Arc<str>, Arc<str>, u16)> {
    let (whole, port) = text.strip_prefix("gateway/")?.rsplit_once(':')?;
    let (namespace, name) = whole.split_once('/')?;
    Some((namespace.into(), name.into(), parse_port(port)?))
}

/// Reads `cart.shop.mesh:8080`, and nothing that is only nearly so: a name has one spelling.
fn parse_canonical(text: &str) -> Option<(ServiceName, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let service = ServiceName::from_host(host, "")?;
    (service.host() == host).then_some((service, parse_port(port)?))
}

fn parse_port(text: &str) -> Option<u16> {
    let port: u16 = text.parse().ok().filter(|port| *port > 0)?;
    (port.to_string() == text).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_asked_for_as_callers_spell_it() {
        let caller = Caller { namespace: "shop".into(), is_gateway: false };
        let cart = ServiceName::new("shop", "cart").unwrap();
        for (name, port) in [("cart", None), ("cart.shop:80", Some(80)), ("CART.shop.mesh.:8080", Some(8080))] {
            let asked = Asked::listener(name, &caller);
            assert_eq!(asked, Some(Asked::Service { service: cart.clone(), port }), "{name}");
        }
        for name in ["www.example.com", "cart:", "cart:0", "cart:70000", "cart:080", "10.0.0.1:80", "[::1]:80"] {
            assert_eq!(Asked::listener(name, &caller), None, "{name}");
        }
    }

    #[test]
    fn the_ports_of_udp_are_others_than_those_of_tcp() {
        let caller = Caller { namespace: "shop".into(), is_gateway: true };
        let asked = |name: &str| match Asked::listener(name, &caller) {
            Some(Asked::Gateway { port, udp, .. }) => Some((port, udp)),
            _ => None,
        };
        assert_eq!(asked(&gateway("shop", "edge", 53)), Some((53, false)));
        assert_eq!(asked(&gateway_udp("shop", "edge", 53)), Some((53, true)));
        assert_eq!(asked("cart.shop:53/udp"), None);
    }

    #[test]
    fn what_a_proxy_holds_beside_an_instance_has_one_name() {
        let caller = Caller { namespace: "shop".into(), is_gateway: false };
        let cart = ServiceName::new("shop", "cart").unwrap();
        assert_eq!(Asked::listener("inbound/cart.shop.mesh", &caller), Some(Asked::Inbound { service: cart }));
        for name in ["inbound/cart", "inbound/Cart.shop.mesh", "inbound/cart.shop.mesh:80", "inbound/"] {
            assert_eq!(Asked::listener(name, &caller), None, "{name}");
        }
    }

    #[test]
    fn canonical_names_have_one_spelling() {
        for name in ["cart.shop.mesh:8080", "cart.shop.mesh:8080@v2"] {
            assert_eq!(&*ClusterName::parse(name).unwrap().render(), name);
        }
        for name in ["cart:80", "cart.shop:80", "Cart.shop.mesh:80", "cart.shop.mesh", "cart.shop.mesh:080"] {
            assert_eq!(ClusterName::parse(name), None, "{name}");
        }
        let consumer = Routes::parse("cart.shop.mesh:80/from/web");
        assert!(matches!(consumer, Some(Routes::Service { consumer: Some(namespace), .. }) if &*namespace == "web"));
    }
}
