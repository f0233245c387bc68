//! Endpoints and `ClusterLoadAssignment`. EDS.
//!
//! leno's proxies get the application's address and, in a note, the way through the instance's proxy; others get the
//! way that is to be taken. Endpoints of one place and priority stand together, and each place has its
//! weight, or the sum of theirs, without which gRPC ignores it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use leno_model::snapshot::{Endpoint, EndpointHealth, Endpoints, Name};
use prost::Message;

use super::{Dialect, TranslateError, note, subset, unusable, with_note};
use crate::messages::core::{Address, AddressKind, Locality, PortSpecifier, SocketAddress};
use crate::messages::endpoint::{
    ClusterLoadAssignment, Endpoint as EnvoyEndpoint, HealthStatus, HostIdentifier, LbEndpoint, LocalityLbEndpoints,
};
use crate::messages::note::EndpointNote;
use crate::messages::urls;
use crate::provide::Resource;

/// Weight of an endpoint whose server does not say; instances have it by default.
const WEIGHT_DEFAULT: u32 = 1;

/// Encodes endpoints for subscribers of one dialect.
pub fn encode(endpoints: &Endpoints, dialect: Dialect) -> Resource {
    Resource::new(endpoints.cluster.clone(), to_envoy(endpoints, dialect).encode_to_vec().into())
}

/// Reads endpoints, sorted by id.
pub fn decode(body: &Bytes) -> Result<Endpoints, TranslateError> {
    from_envoy(ClusterLoadAssignment::decode(body.clone())?)
}

/// Endpoints as Envoy's message.
pub fn to_envoy(endpoints: &Endpoints, dialect: Dialect) -> ClusterLoadAssignment {
    let mut places: BTreeMap<(u32, Locality), Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in &endpoints.endpoints {
        // Envoy has no weight 0; whoever cannot be told otherwise is not told of the endpoint.
        if endpoint.weight > 0 || dialect == Dialect::Leno {
            places.entry((endpoint.priority, locality_to(endpoint))).or_default().push(endpoint);
        }
    }
    let places = places.into_iter().map(|((priority, locality), members)| LocalityLbEndpoints {
        locality: Some(locality),
        load_balancing_weight: weight_of(&members, dialect),
        lb_endpoints: members.into_iter().map(|endpoint| endpoint_to(endpoint, dialect)).collect(),
        priority,
    });
    ClusterLoadAssignment { cluster_name: endpoints.cluster.to_string(), endpoints: places.collect() }
}

/// Envoy's message as endpoints.
pub fn from_envoy(message: ClusterLoadAssignment) -> Result<Endpoints, TranslateError> {
    if message.cluster_name.is_empty() {
        return Err(unusable("cluster_name", "is empty"));
    }
    let mut endpoints = Vec::new();
    for (p, place) in message.endpoints.into_iter().enumerate() {
        let locality = place.locality.unwrap_or_default();
        for (e, endpoint) in place.lb_endpoints.into_iter().enumerate() {
            let endpoint = endpoint_from(endpoint, &locality);
            let endpoint = endpoint.map_err(|error| error.within(&format!("endpoints[{p}].lb_endpoints[{e}]")))?;
            let (priority, locality_weight) = (place.priority, place.load_balancing_weight);
            endpoints.push(Endpoint { priority, locality_weight, ..endpoint });
        }
    }
    endpoints.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(Endpoints { cluster: message.cluster_name.into(), endpoints })
}

/// A socket address as Envoy's message.
pub(super) fn address_to(address: SocketAddr) -> Address {
    Address {
        address: Some(AddressKind::Socket(SocketAddress {
            protocol: 0,
            address: address.ip().to_string(),
            port_specifier: Some(PortSpecifier::Value(address.port().into())),
        })),
    }
}

/// Envoy's message as a socket address.
pub(super) fn address_from(address: Option<Address>) -> Result<SocketAddr, TranslateError> {
    let Some(AddressKind::Socket(socket)) = address.and_then(|address| address.address) else {
        return Err(unusable("address", "is not an IP address and port"));
    };
    let ip: IpAddr = socket.address.parse().map_err(|_| {
        unusable("address", format!("{:?} is not an IP address; names are resolved by the server", socket.address))
    })?;
    let port = match socket.port_specifier {
        Some(PortSpecifier::Value(port)) => u16::try_from(port).ok(),
        Some(PortSpecifier::Named(_)) | None => None,
    };
    Ok(SocketAddr::new(ip, port.ok_or_else(|| unusable("address", "has no port from 0 to 65535"))?))
}

fn locality_to(endpoint: &Endpoint) -> Locality {
    let text = |name: &Option<Name>| name.as_deref().unwrap_or_default().to_owned();
    Locality { region: text(&endpoint.region), zone: text(&endpoint.zone), sub_zone: String::new() }
}

/// The weight of a place; where nobody says one, at least 1, and small enough that the weights of all places have a sum.
/// leno's proxies look at none that nobody says.
fn weight_of(members: &[&Endpoint], dialect: Dialect) -> Option<u32> {
    let said = members.first().and_then(|endpoint| endpoint.locality_weight);
    if said.is_some() || dialect == Dialect::Leno {
        return said;
    }
    let sum: u64 = members.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
    Some(u32::try_from(sum).unwrap_or(u32::MAX / 64).clamp(1, u32::MAX / 64))
}

fn endpoint_to(endpoint: &Endpoint, dialect: Dialect) -> LbEndpoint {
    let (address, metadata) = match dialect {
        Dialect::Leno => {
            let note = EndpointNote {
                id: endpoint.id.to_string(),
                proxy: endpoint.proxy.map(|proxy| proxy.to_string()),
                version: endpoint.version.as_deref().map(str::to_owned),
                weightless: endpoint.weight == 0,
                labels: endpoint.labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            };
            (endpoint.address, with_note(urls::ENDPOINT_NOTE, &note))
        }
        Dialect::Envoy { .. } | Dialect::Grpc => (endpoint.proxy.unwrap_or(endpoint.address), None),
    };
    let health = match endpoint.health {
        EndpointHealth::Healthy => HealthStatus::Healthy,
        EndpointHealth::Unhealthy => HealthStatus::Unhealthy,
        EndpointHealth::Draining => HealthStatus::Draining,
    };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(EnvoyEndpoint { address: Some(address_to(address)) })),
        health_status: health.into(),
        metadata: if dialect == Dialect::Grpc { metadata } else { subset::endpoint_to(endpoint, metadata) },
        load_balancing_weight: (endpoint.weight > 0).then_some(endpoint.weight),
    }
}

fn endpoint_from(message: LbEndpoint, locality: &Locality) -> Result<Endpoint, TranslateError> {
    let note: Option<EndpointNote> = note(urls::ENDPOINT_NOTE, message.metadata.as_ref())?;
    let Some(HostIdentifier::Endpoint(endpoint)) = message.host_identifier else {
        return Err(unusable("endpoint", "is missing"));
    };
    let address = address_from(endpoint.address).map_err(|error| error.within("endpoint"))?;
    let health = match HealthStatus::try_from(message.health_status).unwrap_or(HealthStatus::Unknown) {
        HealthStatus::Unknown | HealthStatus::Healthy | HealthStatus::Degraded => EndpointHealth::Healthy,
        HealthStatus::Unhealthy | HealthStatus::Timeout => EndpointHealth::Unhealthy,
        HealthStatus::Draining => EndpointHealth::Draining,
    };
    let text = |text: &str| (!text.is_empty()).then(|| Name::from(text));
    let mut endpoint = Endpoint {
        weight: message.load_balancing_weight.unwrap_or(WEIGHT_DEFAULT),
        health,
        zone: text(&locality.zone),
        region: text(&locality.region),
        subset: subset::endpoint_from(message.metadata.as_ref()),
        ..Endpoint::at(address.to_string(), address)
    };
    if let Some(note) = note {
        endpoint.id = note.id.into();
        endpoint.version = note.version.map(Name::from);
        endpoint.labels = note.labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        if note.weightless {
            endpoint.weight = 0;
        }
        let proxy = note.proxy.map(|proxy| proxy.parse().map_err(|_| unusable("metadata", "names no proxy address")));
        endpoint.proxy = proxy.transpose()?;
    }
    Ok(endpoint)
}
