//! Which endpoints are for a request: Envoy's `lb_subset_config`, which goes by metadata of endpoints and of requests. What a
//! request has in a field becomes its metadata by a filter of Envoy's, whose rules stand with routes. To leno's proxies the
//! terms stand in a note; gRPC has none of it.

use std::collections::BTreeMap;

use leno_model::snapshot::{Endpoint, Fallback, Name, Subsets, WeightedCluster};

use crate::messages::cluster::{LbSubsetConfig, LbSubsetFallbackPolicy, LbSubsetSelector};
use crate::messages::core::Metadata;
use crate::messages::header_to_metadata::{HeaderToMetadata, KeyValuePair, Rule};
use crate::messages::route::Route;
use crate::messages::urls;
use crate::messages::wkt::{Any, Struct};

/// The filter that makes metadata of fields, and the key of its configuration among a route's.
pub(super) const FILTER: &str = "envoy.filters.http.header_to_metadata";
/// Where Envoy's balancers look.
const NAMESPACE: &str = "envoy.lb";

/// What a cluster has.
pub(super) fn config(subsets: &Subsets) -> LbSubsetConfig {
    let (policy, default_subset) = match &subsets.fallback {
        Fallback::Any => (LbSubsetFallbackPolicy::AnyEndpoint, None),
        Fallback::Nobody => (LbSubsetFallbackPolicy::NoFallback, None),
        Fallback::To(value) => (LbSubsetFallbackPolicy::DefaultSubset, Some(entry(&subsets.label, value))),
    };
    LbSubsetConfig {
        fallback_policy: policy.into(),
        default_subset,
        subset_selectors: vec![LbSubsetSelector { keys: vec![subsets.label.to_string()] }],
    }
}

/// Says in a route what of a request is looked at, where all its destinations look at the same.
pub(super) fn write(clusters: &[WeightedCluster], route: &mut Route) {
    let Some(first) = clusters.first().and_then(|cluster| cluster.affinity.subset.as_ref()) else { return };
    if clusters.iter().any(|cluster| cluster.affinity.subset.as_ref() != Some(first)) {
        return;
    }
    let present = KeyValuePair { metadata_namespace: NAMESPACE.to_owned(), key: first.label.to_string() };
    let rule = Rule { header: first.header.to_string(), on_header_present: Some(present) };
    let config = Any::pack(urls::HEADER_TO_METADATA, &HeaderToMetadata { request_rules: vec![rule] });
    route.typed_per_filter_config.insert(FILTER.to_owned(), config);
}

/// Adds to the metadata of an endpoint in which subset it is.
pub(super) fn endpoint_to(endpoint: &Endpoint, metadata: Option<Metadata>) -> Option<Metadata> {
    let Some((label, value)) = &endpoint.subset else { return metadata };
    let mut metadata = metadata.unwrap_or_default();
    metadata.filter_metadata.insert(NAMESPACE.to_owned(), entry(label, value));
    Some(metadata)
}

/// In which subset an endpoint is; one label is looked at.
pub(super) fn endpoint_from(metadata: Option<&Metadata>) -> Option<(Name, Name)> {
    let (label, value) = metadata?.filter_metadata.get(NAMESPACE)?.texts().next()?;
    Some((label.into(), value.into()))
}

fn entry(label: &str, value: &str) -> Struct {
    Struct { fields: BTreeMap::from([(label.to_owned(), value.into())]) }
}
