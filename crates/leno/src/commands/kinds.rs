//! Kinds and keys of resources as people type them: `hr`, `httproutes`, `httproute/cart`, `httproute/shop/cart`.

use leno_model::fault::closest;
use leno_model::name::DEFAULT_NAMESPACE;
use leno_model::resource::kind::{Kind, ResourceKey};

use super::failure::Failure;

/// Short names, as `kubectl` has them where it does.
const SHORT: [(&str, Kind); 10] = [
    ("gtw", Kind::Gateway),
    ("gw", Kind::Gateway),
    ("hr", Kind::HttpRoute),
    ("gr", Kind::GrpcRoute),
    ("refgrant", Kind::ReferenceGrant),
    ("btlspolicy", Kind::BackendTlsPolicy),
    ("svc", Kind::Service),
    ("sw", Kind::Switch),
    ("tp", Kind::TrafficPolicy),
    ("fp", Kind::FaultPolicy),
];

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All, or all of a kind.
    Many(Option<Kind>),
    /// One.
    One(ResourceKey),
}

/// A kind, in full, plural or short, with or without its group.
pub fn kind(text: &str) -> Result<Kind, Failure> {
    let word = text.split('.').next().unwrap_or(text).to_ascii_lowercase();
    if let Some((_, kind)) = SHORT.iter().find(|(short, _)| *short == word) {
        return Ok(*kind);
    }
    word.parse().map_err(|_| {
        let lower: Vec<&str> = Kind::ALL.iter().map(|kind| kind.lower()).collect();
        let fix = match closest(&word, lower.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("use one of {}", lower.join(", ")),
        };
        Failure::usage(format!("{text:?} is no kind of resource"), fix)
    })
}

/// What `KIND`, `KIND NAME`, `KIND/NAME` or `KIND/NAMESPACE/NAME` asks for.
pub fn wanted(what: Option<&str>, name: Option<&str>, namespace: Option<&str>) -> Result<Wanted, Failure> {
    let Some(what) = what else { return Ok(Wanted::Many(None)) };
    let in_namespace = namespace.unwrap_or(DEFAULT_NAMESPACE);
    let parts: Vec<&str> = what.split('/').collect();
    match (&parts[..], name) {
        ([one], None) => kind(one).map(|kind| Wanted::Many(Some(kind))),
        ([one], Some(name)) => Ok(Wanted::One(ResourceKey::new(kind(one)?, in_namespace, name))),
        ([one, name], None) if !name.is_empty() => Ok(Wanted::One(ResourceKey::new(kind(one)?, in_namespace, name))),
        ([one, own, name], None) if !name.is_empty() && namespace.is_none_or(|namespace| namespace == *own) => {
            Ok(Wanted::One(ResourceKey::new(kind(one)?, own, name)))
        }
        _ => Err(Failure::usage(
            format!("{what:?} names no resource"),
            "write KIND, KIND NAME, KIND/NAME or KIND/NAMESPACE/NAME",
        )),
    }
}

/// One resource, named in one of those ways.
pub fn one(what: &str, name: Option<&str>, namespace: Option<&str>) -> Result<ResourceKey, Failure> {
    match wanted(Some(what), name, namespace)? {
        Wanted::One(key) => Ok(key),
        Wanted::Many(_) => Err(Failure::usage(format!("which {what}?"), format!("write {what} NAME or {what}/NAME"))),
    }
}

/// Where the API has it.
pub fn path(key: &ResourceKey) -> String {
    use crate::client::encode;
    format!("/api/v1/resources/{}/{}/{}", key.kind.lower(), encode(&key.namespace), encode(&key.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_short_and_plural_names() {
        for text in ["hr", "httproute", "HTTPRoutes", "httproutes.gateway.networking.k8s.io"] {
            assert_eq!(kind(text).unwrap(), Kind::HttpRoute, "{text}");
        }
        assert_eq!(kind("trafficpolicies").unwrap(), Kind::TrafficPolicy);
        assert_eq!(kind("httprout").unwrap_err().fix, "did you mean `httproute`?");
    }

    #[test]
    fn a_resource_is_named_in_three_ways() {
        let cart = |namespace| Wanted::One(ResourceKey::new(Kind::HttpRoute, namespace, "cart"));
        assert_eq!(wanted(Some("hr/cart"), None, None).unwrap(), cart("default"));
        assert_eq!(wanted(Some("hr"), Some("cart"), Some("shop")).unwrap(), cart("shop"));
        assert_eq!(wanted(Some("hr/shop/cart"), None, None).unwrap(), cart("shop"));
        for (what, name, namespace) in [("hr/", None, None), ("hr/a", Some("b"), None), ("hr/a/b", None, Some("c"))] {
            assert!(wanted(Some(what), name, namespace).is_err(), "{what}");
        }
    }
}
