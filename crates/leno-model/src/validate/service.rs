//! Services: ports, endpoints, who sees them.

use std::net::IpAddr;

use super::{Check, text};
use crate::fault::FaultClass;
use crate::instance::{Protocol, Visibility};
use crate::resource::service::{ServiceSpec, TargetPort};

const PORTS_MAX: usize = 64;
const ENDPOINTS_MAX: usize = 1000;

pub(super) fn check(check: &mut Check<'_, '_>, spec: &ServiceSpec) {
    ports(check, spec);
    endpoints(check, spec);
    if let Some(Visibility::Namespaces(namespaces)) = &spec.visibility {
        check.count("spec.visibility.namespaces", "namespaces", namespaces.len(), 1, 1000);
        for (i, namespace) in namespaces.iter().enumerate() {
            text::label(check, FaultClass::InvalidNamespace, &format!("spec.visibility.namespaces[{i}]"), namespace);
        }
    }
}

fn ports(check: &mut Check<'_, '_>, spec: &ServiceSpec) {
    check.count("spec.ports", "ports", spec.ports.len(), 1, PORTS_MAX);
    for (i, port) in spec.ports.iter().enumerate() {
        let at = format!("spec.ports[{i}]");
        let before = &spec.ports[..i];
        if before.iter().any(|other| other.port == port.port) {
            let message = format!("port {} stands twice", port.port);
            check.error(FaultClass::DuplicatePort, &format!("{at}.port"), message, "remove one of the two");
        }
        if let Some(name) = &port.name {
            let path = format!("{at}.name");
            text::label(check, FaultClass::InvalidName, &path, name);
            if before.iter().any(|other| other.name.as_ref() == Some(name)) {
                let message = format!("another port is named `{name}`");
                check.error(FaultClass::DuplicateName, &path, message, "choose another name");
            }
        }
        let protocol = port.protocol.or(spec.protocol);
        if port.proxy_protocol.is_some() && !matches!(protocol, Some(Protocol::Tcp | Protocol::Tls)) {
            let message =
                "a PROXY header says for whom a connection is, and only byte streams are for one client alone";
            let fix = "add `protocol: tcp`, or `protocol: tls` for TLS that passes through, and lead to the port with a TCPRoute or TLSRoute";
            check.error(FaultClass::ProtocolMismatch, &format!("{at}.proxyProtocol"), message, fix);
        }
        if let Some(TargetPort::Name(name)) = &port.target_port {
            let path = format!("{at}.targetPort");
            if text::label(check, FaultClass::InvalidName, &path, name) && !spec.endpoints.is_empty() {
                let message = "endpoints that are written down have no named ports";
                check.error(FaultClass::UnknownPort, &path, message, "write the number of the port");
            }
        }
    }
}

fn endpoints(check: &mut Check<'_, '_>, spec: &ServiceSpec) {
    check.count("spec.endpoints", "endpoints", spec.endpoints.len(), 0, ENDPOINTS_MAX);
    let mut seen = std::collections::BTreeSet::new();
    for (i, endpoint) in spec.endpoints.iter().enumerate() {
        let at = format!("spec.endpoints[{i}]");
        let address = endpoint.address;
        if let Some(what) = unusable(address) {
            let message = format!("{address} is {what}");
            check.error(FaultClass::InvalidAddress, &format!("{at}.address"), message, "write the address of one host");
        }
        if !seen.insert((address, endpoint.port)) {
            let message = format!("{address} stands twice");
            check.error(FaultClass::DuplicateReference, &at, message, "remove one of the two, or raise its weight");
        }
        if endpoint.port.is_some() && spec.ports.len() > 1 {
            let message = "the service has several ports: it is not clear to which of them this one belongs";
            let fix = "remove it and use `targetPort`, or make it a service of its own";
            check.error(FaultClass::UnknownPort, &format!("{at}.port"), message, fix);
        }
        if let Some(version) = &endpoint.version {
            text::label(check, FaultClass::InvalidVersion, &format!("{at}.version"), version);
        }
    }
}

/// Why nothing can or may be sent to an address.
fn unusable(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_unspecified() {
        Some("no host's address")
    } else if address.is_multicast() {
        Some("an address of many hosts")
    } else if link_local {
        Some("link-local, which the mesh never sends to")
    } else {
        None
    }
}
