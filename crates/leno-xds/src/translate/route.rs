//! Route configurations: hosts and, per host, rules in the order in which they are tried. RDS.

use std::collections::BTreeSet;

use bytes::Bytes;
use leno_model::snapshot::{HostPattern, RouteConfig, VirtualHost};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::rule::{routes_to, rule_from};
use super::{Dialect, TranslateError, exact_of, exact_text, note, unusable, with_note};
use crate::messages::note::VirtualHostNote;
use crate::messages::route::{RouteConfiguration, VirtualHost as EnvoyHost};
use crate::messages::urls;
use crate::provide::Resource;

/// Stands where a host has no names, which Envoy's messages cannot say; `.invalid` names nothing (RFC 6761).
const NO_HOST: &str = "leno-mesh-no-host.invalid";

/// What a virtual host's domains do not say as the model means it.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct Exact {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hostnames: Option<Vec<HostPattern>>,
}

/// Encodes a route configuration for subscribers of one dialect.
pub fn encode(config: &RouteConfig, dialect: Dialect) -> Resource {
    Resource::new(config.name.clone(), to_envoy(config, dialect).encode_to_vec().into())
}

/// Reads a route configuration.
pub fn decode(body: &Bytes) -> Result<RouteConfig, TranslateError> {
    from_envoy(RouteConfiguration::decode(body.clone())?)
}

/// A route configuration as Envoy's message.
pub fn to_envoy(config: &RouteConfig, dialect: Dialect) -> RouteConfiguration {
    let mut seen = BTreeSet::new();
    let hosts = config.hosts.iter().enumerate();
    RouteConfiguration {
        name: config.name.to_string(),
        virtual_hosts: hosts.filter_map(|(index, host)| host_to(config, index, host, dialect, &mut seen)).collect(),
        ignore_port_in_host_matching: matches!(dialect, Dialect::Envoy { .. }),
        metadata: None,
    }
}

/// Envoy's message as a route configuration.
pub fn from_envoy(message: RouteConfiguration) -> Result<RouteConfig, TranslateError> {
    if message.name.is_empty() {
        return Err(unusable("name", "is empty"));
    }
    let mut hosts = Vec::with_capacity(message.virtual_hosts.len());
    for (index, host) in message.virtual_hosts.into_iter().enumerate() {
        hosts.push(host_from(host, &message.name).map_err(|error| error.within(&format!("virtual_hosts[{index}]")))?);
    }
    Ok(RouteConfig { name: message.name.into(), hosts })
}

/// A host pattern as Envoy writes it.
pub(super) fn domain_to(host: &HostPattern) -> String {
    match host {
        HostPattern::Any => "*".to_owned(),
        HostPattern::Exact(name) => name.to_string(),
        HostPattern::Suffix(suffix) => format!("*.{suffix}"),
    }
}

/// A host pattern as Envoy writes it, with or without a port.
pub(super) fn domain_from(domain: &str) -> Result<HostPattern, TranslateError> {
    let host = match domain.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit() || b == b'*') => host,
        _ => domain,
    };
    let host = host.to_ascii_lowercase();
    match host.strip_prefix("*.") {
        _ if host == "*" => Ok(HostPattern::Any),
        Some(suffix) if !suffix.contains('*') => Ok(HostPattern::Suffix(suffix.into())),
        None if !host.contains('*') => Ok(HostPattern::Exact(host.into())),
        _ => Err(unusable("domains", format!("{domain:?} is neither a name nor `*.` before one"))),
    }
}

fn host_to(
    config: &RouteConfig,
    index: usize,
    host: &VirtualHost,
    dialect: Dialect,
    seen: &mut BTreeSet<String>,
) -> Option<EnvoyHost> {
    let mut message = EnvoyHost {
        name: format!("{}/{index}", config.name),
        domains: host.hostnames.iter().map(domain_to).collect(),
        routes: host.rules.iter().flat_map(|rule| routes_to(rule, dialect)).collect(),
        metadata: None,
    };
    if dialect == Dialect::Leno {
        if message.domains.is_empty() {
            message.domains.push(NO_HOST.to_owned());
        }
        if hosts_from(&message.domains).ok().as_ref() != Some(&host.hostnames) {
            let exact = exact_text(&Exact { hostnames: Some(host.hostnames.clone()) });
            message.metadata = with_note(urls::VIRTUAL_HOST_NOTE, &VirtualHostNote { exact });
        }
        return Some(message);
    }
    if dialect == Dialect::Grpc {
        // gRPC compares with its target, port included.
        message.domains = message.domains.iter().flat_map(|domain| with_port(domain, &config.name)).collect();
    }
    // Both refuse a domain that stands twice, and a host without one.
    message.domains.retain(|domain| seen.insert(domain.clone()));
    (!message.domains.is_empty()).then_some(message)
}

/// The domain, and the domain with the port of the configuration's canonical name.
fn with_port(domain: &str, config: &str) -> impl Iterator<Item = String> {
    let port = config.rsplit_once(':').map(|(_, port)| port).filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let ported = port.filter(|_| domain != "*").map(|port| format!("{domain}:{port}"));
    std::iter::once(domain.to_owned()).chain(ported)
}

fn host_from(message: EnvoyHost, config: &str) -> Result<VirtualHost, TranslateError> {
    let note: Option<VirtualHostNote> = note(urls::VIRTUAL_HOST_NOTE, message.metadata.as_ref())?;
    let exact: Exact = note.map(|note| exact_of(&note.exact)).transpose()?.unwrap_or_default();
    let hostnames = match exact.hostnames {
        Some(hostnames) => hostnames,
        None => hosts_from(&message.domains)?,
    };
    let within = format!("{config}/{}", message.name);
    let mut rules = Vec::with_capacity(message.routes.len());
    for (index, route) in message.routes.into_iter().enumerate() {
        rules.push(rule_from(route, index, &within).map_err(|error| error.within(&format!("routes[{index}]")))?);
    }
    Ok(VirtualHost { hostnames, rules })
}

/// Domains as host patterns; those that differ in their port only are one.
fn hosts_from(domains: &[String]) -> Result<Vec<HostPattern>, TranslateError> {
    let mut hosts: Vec<HostPattern> = Vec::with_capacity(domains.len());
    for domain in domains {
        let host = domain_from(domain)?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}
