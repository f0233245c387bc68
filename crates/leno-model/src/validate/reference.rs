//! References: parents of routes, backends, targets of policies.

use super::{Check, KnownPort, KnownService, text};
use crate::fault::{FaultClass, closest};
use crate::name;
use crate::resource::gateway::{GatewayListener, GatewayProtocol};
use crate::resource::kind::{GATEWAY_GROUP, Kind};
use crate::resource::reference::{BackendView, ParentRef, TargetRef};

const PARENTS_MAX: usize = 32;
const HOSTNAMES_MAX: usize = 16;

/// Parents and host names of a route.
pub(super) fn parents(check: &mut Check<'_, '_>, parents: &[ParentRef], hostnames: &[String]) {
    check.count("spec.parentRefs", "parents", parents.len(), 1, PARENTS_MAX);
    check.count("spec.hostnames", "host names", hostnames.len(), 0, HOSTNAMES_MAX);
    for (i, host) in hostnames.iter().enumerate() {
        text::hostname(check, &format!("spec.hostnames[{i}]"), host, true);
    }
    if !hostnames.is_empty() && !parents.is_empty() && parents.iter().all(ParentRef::is_service) {
        let message = "host names mean nothing where all parents are services: callers reach those by their own names";
        check.warn(FaultClass::IgnoredHostnames, "spec.hostnames", message, "remove them");
    }
    for (i, parent) in parents.iter().enumerate() {
        let path = format!("spec.parentRefs[{i}]");
        if let Some(first) = parents[..i].iter().position(|other| same_parent(check, other, parent)) {
            let message = format!("the same parent as spec.parentRefs[{first}]");
            check.error(FaultClass::DuplicateReference, &path, message, "remove one of the two");
        } else if parent.is_service() {
            service_parent(check, &path, parent);
        } else if parent.is_gateway() {
            gateway_parent(check, &path, parent, hostnames);
        } else {
            unsupported_parent(check, &path, parent);
        }
    }
}

fn same_parent(check: &Check<'_, '_>, a: &ParentRef, b: &ParentRef) -> bool {
    let parts = |parent: &ParentRef| {
        let namespace = parent.namespace.as_deref().unwrap_or(check.namespace()).to_owned();
        (
            parent.group.clone(),
            parent.kind.clone(),
            namespace,
            parent.name.clone(),
            parent.section_name.clone(),
            parent.port,
        )
    };
    parts(a) == parts(b)
}

fn unsupported_parent(check: &mut Check<'_, '_>, path: &str, parent: &ParentRef) {
    let message = format!("{} of group {:?} cannot be a parent", parent.kind, parent.group);
    let fix = match parent.kind.as_str() {
        "Service" => "write `group: \"\"` beside `kind: Service`".to_owned(),
        "Gateway" => format!("write `group: {GATEWAY_GROUP}`, or leave it out"),
        _ => "use `kind: Gateway`, or `group: \"\"` and `kind: Service`".to_owned(),
    };
    check.error(FaultClass::UnsupportedReference, &format!("{path}.kind"), message, fix);
}

fn service_parent(check: &mut Check<'_, '_>, path: &str, parent: &ParentRef) {
    if !text::label(check, FaultClass::InvalidName, &format!("{path}.name"), &parent.name) {
        return;
    }
    let namespace = parent.namespace.as_deref().unwrap_or(check.namespace()).to_owned();
    if !text::label(check, FaultClass::InvalidNamespace, &format!("{path}.namespace"), &namespace) {
        return;
    }
    let Some(service) = check.index.service(&namespace, &parent.name) else {
        return unknown_service(check, &format!("{path}.name"), &namespace, &parent.name);
    };
    let Some(ports) = &service.declared else { return };
    if let Some(section) = &parent.section_name
        && !ports.iter().any(|port| port.name.as_deref() == Some(section.as_str()))
    {
        let names: Vec<&str> = ports.iter().filter_map(|port| port.name.as_deref()).collect();
        unknown_section(check, path, section, &format!("service {namespace}/{}", parent.name), "port", &names);
    }
    if let Some(port) = parent.port {
        known_port(check, &format!("{path}.port"), port.get(), ports, &namespace, &parent.name);
    }
}

fn gateway_parent(check: &mut Check<'_, '_>, path: &str, parent: &ParentRef, hostnames: &[String]) {
    text::subdomain(check, &format!("{path}.name"), &parent.name);
    let namespace = parent.namespace.as_deref().unwrap_or(check.namespace()).to_owned();
    let whole = format!("gateway {namespace}/{}", parent.name);
    let Some(gateway) = check.index.gateway(&namespace, &parent.name) else {
        let message = format!("{whole} is not known");
        let fix = "the route waits for it; apply the Gateway, or check the name and namespace";
        return check.warn(FaultClass::UnknownGateway, &format!("{path}.name"), message, fix);
    };
    if let Some(section) = &parent.section_name
        && !gateway.listeners.iter().any(|listener| listener.name == *section)
    {
        let names: Vec<&str> = gateway.listeners.iter().map(|listener| listener.name.as_str()).collect();
        return unknown_section(check, path, section, &whole, "listener", &names);
    }
    if let Some(port) = parent.port
        && !gateway.listeners.iter().any(|listener| listener.port == port)
    {
        let ports: Vec<String> = gateway.listeners.iter().map(|listener| listener.port.to_string()).collect();
        let message = format!("{whole} has no listener on port {port}");
        let fix = format!("use one of {}", ports.join(", "));
        return check.error(FaultClass::UnknownPort, &format!("{path}.port"), message, fix);
    }
    let kind = check.written.resource.key.kind;
    let chosen: Vec<&GatewayListener> = gateway.listeners.iter().filter(|listener| parent.selects(listener)).collect();
    let fitting: Vec<&GatewayListener> = chosen.iter().copied().filter(|l| l.takes_kind(kind)).collect();
    if fitting.is_empty() {
        let takes: Vec<String> = chosen.iter().map(|l| format!("{} ({})", l.name, protocol(l.protocol))).collect();
        let message = format!("no listener of {whole} takes {kind}s: {}", takes.join(", "));
        let fix = format!("use a listener with protocol {}", protocols(kind));
        return check.error(FaultClass::UnsupportedReference, path, message, fix);
    }
    if !fitting.iter().any(|listener| listener.takes_namespace(&namespace, check.namespace())) {
        let message = format!("{whole} takes no routes of namespace `{}`", check.namespace());
        let fix = "set `allowedRoutes: {namespaces: {from: All}}` on its listener, or move the route";
        return check.error(FaultClass::CrossNamespace, path, message, fix);
    }
    let meet = |listener: &&GatewayListener| hosts_meet(listener.hostname.as_deref(), hostnames);
    if !hostnames.is_empty() && !fitting.iter().any(meet) {
        let message = format!("no listener of {whole} takes these host names");
        check.warn(
            FaultClass::HostnameMismatch,
            "spec.hostnames",
            message,
            "use names that the listener's `hostname` covers",
        );
    }
}

fn hosts_meet(listener: Option<&str>, hostnames: &[String]) -> bool {
    listener.is_none_or(|listener| hostnames.iter().any(|host| crate::resource::gateway::hosts_meet(listener, host)))
}

fn protocol(protocol: GatewayProtocol) -> &'static str {
    match protocol {
        GatewayProtocol::Http => "HTTP",
        GatewayProtocol::Https => "HTTPS",
        GatewayProtocol::Tls => "TLS",
        GatewayProtocol::Tcp => "TCP",
        GatewayProtocol::Udp => "UDP",
    }
}

fn protocols(kind: Kind) -> &'static str {
    match kind {
        Kind::TcpRoute => "TCP",
        Kind::TlsRoute => "TLS",
        Kind::UdpRoute => "UDP",
        _ => "HTTP",
    }
}

fn unknown_section(check: &mut Check<'_, '_>, path: &str, section: &str, whole: &str, what: &str, names: &[&str]) {
    let message = format!("{whole} has no {what} named `{section}`");
    let fix = match closest(section, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => format!("name the {what}, or leave `sectionName` out"),
        None => format!("use one of {}", names.join(", ")),
    };
    check.error(FaultClass::UnknownSection, &format!("{path}.sectionName"), message, fix);
}

pub(super) fn unknown_service(check: &mut Check<'_, '_>, path: &str, namespace: &str, name: &str) {
    let message = format!("service {namespace}/{name} is neither declared nor registered");
    let fix = "the reference resolves when it appears; check the name and namespace";
    check.warn(FaultClass::UnknownService, path, message, fix);
}

fn known_port(check: &mut Check<'_, '_>, path: &str, port: u16, ports: &[KnownPort], namespace: &str, name: &str) {
    if !ports.iter().any(|known| known.number == port) {
        let numbers: Vec<String> = ports.iter().map(|known| known.number.to_string()).collect();
        let message = format!("service {namespace}/{name} has no port {port}");
        check.error(FaultClass::UnknownPort, path, message, format!("use one of {}", numbers.join(", ")));
    }
}

/// One backend of a route or mirror. `parents` are the route's, from which a missing port is taken.
pub(super) fn backend(check: &mut Check<'_, '_>, path: &str, backend: BackendView<'_>, parents: &[ParentRef]) {
    let Some((service, version)) = backend.service() else {
        return unsupported_backend(check, path, backend);
    };
    let name_path = format!("{path}.name");
    if backend.kind == "Service" && service.contains('@') {
        let fix = "write `group: leno.mesh` and `kind: ServiceVersion` for one version of a service";
        return check.error(FaultClass::InvalidVersion, &name_path, format!("{service:?} is not a service"), fix);
    }
    if !text::label(check, FaultClass::InvalidName, &name_path, service) {
        return;
    }
    if version.is_some_and(|version| !text::label(check, FaultClass::InvalidVersion, &name_path, version)) {
        return;
    }
    let own = check.namespace().to_owned();
    let namespace = backend.namespace.unwrap_or(&own);
    // Back to the service that was asked for needs nobody's leave: that is where the request was going.
    let is_parent = |parent: &ParentRef| {
        parent.is_service() && parent.name == service && parent.namespace.as_deref().unwrap_or(&own) == namespace
    };
    if namespace != own && !parents.iter().any(is_parent) {
        // What stands in the other namespace is not for this route to learn without a grant.
        let path = format!("{path}.namespace");
        if text::label(check, FaultClass::InvalidNamespace, &path, namespace)
            && !check.index.permits(namespace, &check.written.resource.key, &backend)
        {
            let kind = check.written.resource.key.kind;
            let message =
                format!("no ReferenceGrant lets {kind}s of namespace `{own}` refer to {service} in `{namespace}`");
            let fix = format!(
                "its share is refused until there is one: apply a ReferenceGrant in namespace `{namespace}` from {kind} of `{own}` to Service {service}"
            );
            check.warn(FaultClass::CrossNamespace, &path, message, fix);
            return;
        }
    }
    match check.index.service(namespace, service) {
        None => unknown_service(check, &name_path, namespace, service),
        Some(KnownService { declared: None }) => {}
        Some(KnownService { declared: Some(ports) }) => match backend.port {
            Some(port) => known_port(check, &format!("{path}.port"), port, &ports, namespace, service),
            None => backend_port(check, path, service, &ports, parents),
        },
    }
}

fn backend_port(check: &mut Check<'_, '_>, path: &str, service: &str, ports: &[KnownPort], parents: &[ParentRef]) {
    let of_parent = |parent: &ParentRef| {
        parent.is_service()
            && (parent.name == service
                || parent.port.is_some_and(|p| ports.iter().any(|known| known.number == p.get())))
    };
    if ports.len() > 1 && !parents.iter().all(of_parent) {
        let numbers: Vec<String> = ports.iter().map(|known| known.number.to_string()).collect();
        let message = format!("service {service} has {} ports, and the reference names none", ports.len());
        check.error(FaultClass::MissingPort, path, message, format!("add `port:` with one of {}", numbers.join(", ")));
    }
}

fn unsupported_backend(check: &mut Check<'_, '_>, path: &str, backend: BackendView<'_>) {
    if backend.kind == "ServiceVersion" && backend.group == crate::resource::kind::LENO_GROUP {
        let message = format!("{:?} does not say which version of which service", backend.name);
        return check.error(
            FaultClass::InvalidVersion,
            &format!("{path}.name"),
            message,
            "write `name@version`, as `reviews@v2`",
        );
    }
    let message = format!("{} of group {:?} cannot be a backend", backend.kind, backend.group);
    let fix = match backend.kind {
        "ServiceVersion" => "write `group: leno.mesh` beside `kind: ServiceVersion`",
        "Service" => "write `group: \"\"`, or leave it out",
        _ => "use `kind: Service`, or `group: leno.mesh` and `kind: ServiceVersion`",
    };
    check.error(FaultClass::UnsupportedReference, &format!("{path}.kind"), message, fix);
}

/// Targets of a policy.
pub(super) fn targets(check: &mut Check<'_, '_>, targets: &[TargetRef]) {
    check.count("spec.targetRefs", "targets", targets.len(), 1, 16);
    for (i, target) in targets.iter().enumerate() {
        let path = format!("spec.targetRefs[{i}]");
        if targets[..i].contains(target) {
            check.error(FaultClass::DuplicateReference, &path, "the same target twice", "remove one of the two");
        } else {
            self::target(check, &path, target);
        }
    }
}

/// One service that a policy is for.
pub(super) fn target(check: &mut Check<'_, '_>, path: &str, target: &TargetRef) {
    if target.kind != "Service" || !["", "leno.mesh"].contains(&target.group.as_str()) {
        let message = format!("a policy cannot be for {} of group {:?}", target.kind, target.group);
        let fix = "use `group: \"\"` and `kind: Service`";
        check.error(FaultClass::UnsupportedReference, &format!("{path}.kind"), message, fix);
    } else if name::check_label(&target.name).is_err() {
        text::label(check, FaultClass::InvalidName, &format!("{path}.name"), &target.name);
    } else if check.index.service(check.namespace(), &target.name).is_none() {
        let namespace = check.namespace().to_owned();
        unknown_service(check, &format!("{path}.name"), &namespace, &target.name);
    }
}
