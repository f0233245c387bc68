//! Gateways: their listeners, and which of them would take the same connections.

use super::{Check, text};
use crate::fault::FaultClass;
use crate::resource::gateway::*;
use crate::resource::kind::Kind;

const LISTENERS_MAX: usize = 64;
const CERTIFICATES_MAX: usize = 64;
const BUNDLES_MAX: usize = 8;

pub(super) fn check(check: &mut Check<'_, '_>, spec: &GatewaySpec) {
    check.count("spec.listeners", "listeners", spec.listeners.len(), 1, LISTENERS_MAX);
    for (i, listener) in spec.listeners.iter().enumerate() {
        let at = format!("spec.listeners[{i}]");
        text::subdomain(check, &format!("{at}.name"), &listener.name);
        let before = &spec.listeners[..i];
        if before.iter().any(|other| other.name == listener.name) {
            let message = format!("another listener is named `{}`", listener.name);
            check.error(FaultClass::DuplicateName, &format!("{at}.name"), message, "choose another name");
        }
        host(check, &at, listener);
        conflict(check, &at, listener, before);
        served(check, &at, listener);
        allowed_routes(check, &format!("{at}.allowedRoutes"), listener);
    }
    frontend(check, spec);
}

fn host(check: &mut Check<'_, '_>, at: &str, listener: &GatewayListener) {
    let Some(host) = &listener.hostname else { return };
    let path = format!("{at}.hostname");
    text::hostname(check, &path, host, true);
    if matches!(listener.protocol, GatewayProtocol::Tcp | GatewayProtocol::Udp) {
        let message = "a host name means nothing for TCP and UDP, which carry none";
        check.warn(FaultClass::IgnoredHostnames, &path, message, "remove it");
    }
}

/// On one port stand listeners of one protocol, told apart by host name.
fn conflict(check: &mut Check<'_, '_>, at: &str, listener: &GatewayListener, before: &[GatewayListener]) {
    let named = |l: &GatewayListener| !matches!(l.protocol, GatewayProtocol::Tcp | GatewayProtocol::Udp);
    // HTTPS and TLS may share a port: both begin with a server name. TCP and UDP are different ports of one number.
    let family = |l: &GatewayListener| match l.protocol {
        GatewayProtocol::Https | GatewayProtocol::Tls => GatewayProtocol::Tls,
        other => other,
    };
    let is_udp = |l: &GatewayListener| l.protocol == GatewayProtocol::Udp;
    for other in before.iter().filter(|other| other.port == listener.port && is_udp(other) == is_udp(listener)) {
        let message = if family(other) != family(listener) {
            format!("port {} speaks another protocol in listener `{}`", listener.port, other.name)
        } else if !named(listener) || other.hostname == listener.hostname {
            format!("listener `{}` takes the same connections", other.name)
        } else {
            continue;
        };
        let fix = "use another port, or another `hostname` of the same protocol";
        return check.error(FaultClass::ListenerConflict, &format!("{at}.port"), message, fix);
    }
}

fn served(check: &mut Check<'_, '_>, at: &str, listener: &GatewayListener) {
    let mode = listener.tls.as_ref().map(|tls| tls.mode);
    match (listener.protocol, mode) {
        (GatewayProtocol::Http | GatewayProtocol::Tcp | GatewayProtocol::Udp, Some(_)) => {
            let message = "`tls` belongs to listeners of protocol TLS or HTTPS";
            check.error(
                FaultClass::FilterMismatch,
                &format!("{at}.tls"),
                message,
                "remove `tls`, or change `protocol`",
            );
        }
        (GatewayProtocol::Https, Some(TlsMode::Passthrough)) => {
            let message = "HTTPS cannot be passed through: the gateway has to read it";
            check.error(FaultClass::FilterMismatch, &format!("{at}.tls.mode"), message, "use `protocol: TLS`");
        }
        (GatewayProtocol::Https, _) | (GatewayProtocol::Tls, None | Some(TlsMode::Terminate)) => {
            let refs = listener.tls.as_ref().map(|tls| tls.certificate_refs.as_slice()).unwrap_or_default();
            let at = format!("{at}.tls.certificateRefs");
            check.count(&at, "certificates", refs.len(), 1, CERTIFICATES_MAX);
            refs.iter().enumerate().for_each(|(i, one)| certificate(check, &format!("{at}[{i}]"), one, &["Secret"]));
        }
        _ => {}
    }
}

/// How clients are verified, on every port and on single ones.
fn frontend(check: &mut Check<'_, '_>, spec: &GatewaySpec) {
    let Some(frontend) = spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref()) else { return };
    validation(check, "spec.tls.frontend.default", &frontend.default);
    check.count("spec.tls.frontend.perPort", "ports", frontend.per_port.len(), 0, LISTENERS_MAX);
    for (i, one) in frontend.per_port.iter().enumerate() {
        let at = format!("spec.tls.frontend.perPort[{i}]");
        if frontend.per_port[..i].iter().any(|other| other.port == one.port) {
            let message = format!("port {} stands here twice", one.port);
            check.error(FaultClass::DuplicatePort, &format!("{at}.port"), message, "keep one of them");
        }
        validation(check, &format!("{at}.tls"), &one.tls);
    }
}

fn validation(check: &mut Check<'_, '_>, at: &str, tls: &ClientTls) {
    let Some(validation) = &tls.validation else { return };
    let at = format!("{at}.validation.caCertificateRefs");
    check.count(&at, "bundles of roots", validation.ca_certificate_refs.len(), 1, BUNDLES_MAX);
    for (i, one) in validation.ca_certificate_refs.iter().enumerate() {
        certificate(check, &format!("{at}[{i}]"), one, &["ConfigMap", "Secret"]);
    }
}

/// A reference to a file in the directory of certificates: of a name that is one, and of the Gateway's namespace, to which
/// the directory belongs.
pub(super) fn certificate(check: &mut Check<'_, '_>, at: &str, one: &CertificateRef, kinds: &[&str]) {
    if !one.group.is_empty() || !kinds.contains(&one.kind.as_str()) {
        let message = format!("{} of group {:?} is nothing that leno reads certificates from", one.kind, one.group);
        let fix = format!("use `kind: {}` of group `\"\"`", kinds[0]);
        check.error(FaultClass::UnsupportedReference, &format!("{at}.kind"), message, fix);
    }
    text::subdomain(check, &format!("{at}.name"), &one.name);
    let own = check.namespace().to_owned();
    if one.namespace.as_ref().is_some_and(|namespace| *namespace != own) {
        let message = "a certificate of another namespace";
        check.error(FaultClass::CrossNamespace, &format!("{at}.namespace"), message, format!("use one of `{own}`"));
    }
}

fn allowed_routes(check: &mut Check<'_, '_>, at: &str, listener: &GatewayListener) {
    let Some(allowed) = &listener.allowed_routes else { return };
    for (i, kind) in allowed.kinds.iter().enumerate() {
        let path = format!("{at}.kinds[{i}].kind");
        let routes = Kind::ALL.into_iter().filter(|kind| kind.is_route());
        let known = Kind::written(&kind.kind).filter(|known| known.is_route() && known.group() == kind.group);
        let Some(known) = known else {
            let message = format!("{} of group {:?} is no kind of route", kind.kind, kind.group);
            let fix = "use HTTPRoute, GRPCRoute, TCPRoute, TLSRoute or UDPRoute";
            check.error(FaultClass::UnsupportedReference, &path, message, fix);
            continue;
        };
        if !listener.carries(known) {
            let fitting: Vec<&str> = routes.filter(|kind| listener.carries(*kind)).map(Kind::as_str).collect();
            let message = format!("listener `{}` has a protocol that carries no {known}s", listener.name);
            let fix = format!("use {}, or another protocol", fitting.join(" or "));
            check.warn(FaultClass::UnsupportedReference, &path, message, fix);
        }
    }
    let Some(namespaces) = &allowed.namespaces else { return };
    let path = format!("{at}.namespaces");
    match (namespaces.from, &namespaces.selector) {
        (FromNamespaces::Selector, None) => {
            let fix = "add `selector: {matchLabels: {kubernetes.io/metadata.name: shop}}`";
            check.error(FaultClass::MissingField, &path, "`from: Selector` without a `selector`", fix);
        }
        (FromNamespaces::Same | FromNamespaces::All, Some(_)) => {
            let message = "a `selector` that is not used";
            check.error(
                FaultClass::FilterMismatch,
                &format!("{path}.selector"),
                message,
                "set `from: Selector`, or remove it",
            );
        }
        (FromNamespaces::Selector, Some(selector)) => {
            for label in selector.match_labels.keys().filter(|label| *label != NAMESPACE_LABEL) {
                let at = crate::document::join(&format!("{path}.selector.matchLabels"), label);
                let fix = "use `kubernetes.io/metadata.name`, or `from: All`";
                check.error(FaultClass::UnknownValue, &at, format!("namespaces have no label `{label}`"), fix);
            }
        }
        _ => {}
    }
}
