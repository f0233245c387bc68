//! Names: of namespaces, of services and the ways in which a caller may spell them.
//!
//! Inside leno a name is a lower-case DNS label (RFC 1123): it has to fit into a host name. Doors keep the spelling
//! of their own products beside it. A service is reached as `cart`, `cart.shop` or `cart.shop.mesh`; the bare form
//! is in the caller's namespace.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The last label of every mesh name: `cart.shop.mesh`.
pub const MESH_SUFFIX: &str = "mesh";

/// The namespace of whoever names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing stands where a name must stand.
    #[error("a name is empty")]
    Empty,
    /// More than 63 characters, the longest DNS label.
    #[error("{0:?} has {1} characters, a DNS label has at most 63")]
    TooLong(String, usize),
    /// A character that a DNS label cannot hold.
    #[error("{0:?} is not a DNS label: use lower-case letters, digits and inner hyphens")]
    NotALabel(String),
    /// More labels than a mesh name has.
    #[error("{0:?} is not a service name: write `cart`, `cart.shop` or `cart.shop.mesh`")]
    NotAService(String),
}

/// Checks that `label` is a lower-case DNS label.
pub fn check_label(label: &str) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::Empty);
    }
    if label.len() > 63 {
        return Err(NameError::TooLong(label.to_owned(), label.len()));
    }
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let bytes = label.as_bytes();
    let edges_ok = bytes[0] != b'-' && bytes[bytes.len() - 1] != b'-';
    if edges_ok && bytes.iter().all(|b| inner(*b)) { Ok(()) } else { Err(NameError::NotALabel(label.to_owned())) }
}

/// A service: a name in a namespace. Printed as `cart.shop`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// The namespace, a DNS label.
    pub namespace: Arc<str>,
    /// The service's own name, a DNS label.
    pub name: Arc<str>,
}

// === impl ServiceName ===

impl ServiceName {
    /// Both parts checked.
    pub fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
        check_label(namespace)?;
        check_label(name)?;
        Ok(Self { namespace: namespace.into(), name: name.into() })
    }

    /// Reads `cart`, `cart.shop` or `cart.shop.mesh`, in any case and with or without a final dot, as a caller in
    /// namespace `caller` means it. `None` where it cannot be a mesh name, as `example.com` or `10.0.0.1`.
    ///
    /// `cart.shop` may also be a name of the outside world; whoever asks decides by whether the service exists.
    pub fn from_host(host: &str, caller: &str) -> Option<Self> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let mut labels = host.split('.');
        let (name, second, third, rest) = (labels.next()?, labels.next(), labels.next(), labels.next());
        let namespace = match (second, third, rest) {
            (None, ..) => caller,
            (Some(namespace), None, _) => namespace,
            (Some(namespace), Some(MESH_SUFFIX), None) => namespace,
            _ => return None,
        };
        Self::new(namespace, name).ok()
    }

    /// The full host name, `cart.shop.mesh`.
    pub fn host(&self) -> String {
        format!("{}.{}.{MESH_SUFFIX}", self.name, self.namespace)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    /// Reads a service name as the command line and files spell it; the bare form is in namespace `default`.
    fn from_str(s: &str) -> Result<Self, NameError> {
        Self::from_host(s, DEFAULT_NAMESPACE).ok_or_else(|| NameError::NotAService(s.to_owned()))
    }
}

impl Serialize for ServiceName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServiceName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_names_a_service_in_three_spellings() {
        let cart = ServiceName::new("shop", "cart").unwrap();
        for host in ["cart", "cart.shop", "cart.shop.mesh", "CART.Shop.Mesh", "cart.shop.mesh."] {
            assert_eq!(ServiceName::from_host(host, "shop"), Some(cart.clone()), "{host}");
        }
    }

    #[test]
    fn a_host_of_the_outside_world_is_no_service() {
        for host in ["www.example.com", "10.0.0.1", "", ".", "cart..mesh", "a.b.c.mesh", "-x", "x_y", "[::1]"] {
            assert_eq!(ServiceName::from_host(host, "shop"), None, "{host}");
        }
    }

    #[test]
    fn a_label_longer_than_dns_allows_is_refused() {
        assert!(check_label(&"a".repeat(63)).is_ok());
        assert_eq!(check_label(&"a".repeat(64)), Err(NameError::TooLong("a".repeat(64), 64)));
    }
}
