//! Endpoints: the instances of a cluster that take traffic, finish theirs, or fail their probes.
//!
//! An instance that is starting, was taken out or whose lease is over without a passing probe is no endpoint at all.

use std::net::SocketAddr;
use std::sync::Arc;

use leno_model::expression::Expression;
use leno_model::resource::number::{EndpointWeight, Port};
use leno_model::resource::service::{ServiceEndpoint, TargetPort};
use leno_model::snapshot::{Endpoint, EndpointHealth, Endpoints, Name};
use leno_registry::{Registered, Routable};

use super::locality::{self, Labelled, Standpoint};
use super::name::ClusterName;
use super::service::{PortView, ServiceView};
use super::{View, lane};

const WEIGHT: u32 = 100;

pub(super) fn build(view: &View<'_>, name: &ClusterName, own: Option<&Standpoint>) -> Option<Endpoints> {
    let service = view.service(&name.service);
    let port = service.port(Some(name.port))?;
    let registered = service.instances.iter().filter_map(|registered| {
        let endpoint = endpoint(&service, &port, registered)?;
        Some(Labelled { endpoint, labels: Some(&registered.instance.metadata) })
    });
    let spec = service.spec();
    let declared = spec.into_iter().flat_map(|spec| {
        let target = spec.ports.iter().find(|p| p.port.get() == port.number).and_then(|p| match &p.target_port {
            Some(TargetPort::Number(number)) => Some(number.get()),
            _ => None,
        });
        spec.endpoints.iter().map(move |endpoint| (endpoint, target))
    });
    let declared = declared.map(|(endpoint, target)| Labelled {
        endpoint: static_endpoint(endpoint, target.unwrap_or(port.number)),
        labels: None,
    });
    let mut labelled: Vec<Labelled<'_>> = registered.chain(declared).collect();
    match &name.version {
        Some(version) => labelled.retain(|labelled| labelled.endpoint.version.as_ref() == Some(version)),
        None => leave_lanes(view, name, &mut labelled),
    }
    let balancing = view.policy_of(&name.service).balancing;
    if let Some(subsets) = &balancing.subsets {
        labelled.iter_mut().for_each(|labelled| labelled.endpoint.subset = subset(labelled, &subsets.label));
    }
    if let Some(expression) = balancing.expression.and_then(|of| Expression::read(&of.text).ok()) {
        let names = expression.labels();
        labelled.iter_mut().for_each(|labelled| labelled.endpoint.labels = labels(labelled, &names));
    }
    let mut endpoints = match (view.locality_of(&name.service), own) {
        (Some(policy), Some(own)) => locality::arrange(policy, own, labelled),
        _ => labelled.into_iter().map(|labelled| labelled.endpoint).collect(),
    };
    endpoints.sort_by(|a, b| a.id.cmp(&b.id));
    Some(Endpoints { cluster: name.render(), endpoints })
}

/// Versions in lanes get requests of their lanes alone, unless there are no others that stay.
fn leave_lanes(view: &View<'_>, name: &ClusterName, labelled: &mut Vec<Labelled<'_>>) {
    let lanes = view.merged.lanes_of(&name.service);
    let versions: Vec<&str> = lanes.iter().filter_map(|(_, spec)| lane::version_of(spec, &name.service)).collect();
    let is_base =
        |labelled: &Labelled<'_>| !labelled.endpoint.version.as_deref().is_some_and(|own| versions.contains(&own));
    let stays = |one: &Labelled<'_>| is_base(one) && one.endpoint.health != EndpointHealth::Draining;
    if labelled.iter().any(stays) {
        labelled.retain(is_base);
    }
}

/// The label by which an endpoint is in a subset, if it has it.
fn subset(labelled: &Labelled<'_>, label: &Name) -> Option<(Name, Name)> {
    let value = match &**label {
        "version" => labelled.endpoint.version.clone(),
        _ => labelled.labels.and_then(|labels| labels.get(&**label)).map(|value| value.as_str().into()),
    };
    value.map(|value| (label.clone(), value))
}

/// The labels of these names that it has.
fn labels(labelled: &Labelled<'_>, names: &[&str]) -> Vec<(Name, Name)> {
    let own = |name: &&str| Some((Name::from(*name), labelled.labels?.get(*name)?.as_str().into()));
    names.iter().filter_map(own).collect()
}

fn endpoint(service: &ServiceView<'_>, port: &PortView, registered: &Arc<Registered>) -> Option<Endpoint> {
    let health = match registered.routable() {
        Routable::Yes => EndpointHealth::Healthy,
        Routable::Failing => EndpointHealth::Unhealthy,
        Routable::Draining => EndpointHealth::Draining,
        Routable::Starting | Routable::Out | Routable::Expired => return None,
    };
    let instance = &registered.instance;
    let listens = service.instance_port(instance, port)?;
    let proxy_address = instance.proxy_address.unwrap_or(instance.address);
    Some(Endpoint {
        proxy: listens.proxy_port.map(|port| SocketAddr::new(proxy_address, port)),
        weight: instance.weight,
        health,
        version: instance.version.clone(),
        zone: instance.zone.clone(),
        region: instance.region.clone(),
        ..Endpoint::at(instance.id.clone(), SocketAddr::new(instance.address, listens.number))
    })
}

fn static_endpoint(written: &ServiceEndpoint, port: u16) -> Endpoint {
    let address = SocketAddr::new(written.address, written.port.map_or(port, Port::get));
    Endpoint {
        weight: written.weight.map_or(WEIGHT, EndpointWeight::get),
        version: written.version.as_deref().map(Into::into),
        zone: written.zone.as_deref().map(Into::into),
        region: written.region.as_deref().map(Into::into),
        ..Endpoint::at(format!("static-{address}"), address)
    }
}
