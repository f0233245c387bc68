//! A service as callers see it: declared or only registered, with the ports by which it can be asked for.
//!
//! A declared service has the ports of its declaration. One that is only registered has those of its instances; where
//! every instance has a single port, any asked port leads to it, because then there is nothing to choose.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use leno_model::instance::{Instance, InstancePort, Protocol, Visibility};
use leno_model::name::ServiceName;
use leno_model::resource::rate_limit::LimitAt;
use leno_model::resource::reference::ParentRef;
use leno_model::resource::service::{ServicePort, ServiceSpec, TargetPort};
use leno_model::resource::traffic_policy::TrafficPolicySpec;
use leno_model::snapshot::{
    Affinity, BalancePolicy, Balancing, IDLE_TIMEOUT, Overload, ProxyProtocol, Resilience, Retry,
};
use leno_registry::{Registered, Routable};

use super::name::DEFAULT_PORT;
use super::{Caller, affinity, balancing, overload, rate_limit, resilience, retry};
use crate::merge::Entry;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A service at one moment.
pub(crate) struct ServiceView<'a> {
    pub(crate) name: ServiceName,
    declared: Option<&'a ServiceSpec>,
    pub(crate) instances: Vec<Arc<Registered>>,
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortView {
    /// As callers ask for it.
    pub(crate) number: u16,
    /// Its name, if it has one.
    pub(crate) name: Option<Arc<str>>,
    /// Which port of the instances that is.
    target: Target,
    /// What it speaks.
    pub(crate) protocol: Protocol,
    /// The PROXY header that its instances take.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Number(u16),
    Name(Arc<str>),
    /// The only one there is.
    Only,
}

/// What the policy of a service comes to, with defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) balance: BalancePolicy,
    pub(crate) affinity: Affinity,
    pub(crate) balancing: Balancing,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    /// As the policy says it, without a default.
    pub(crate) idle_timeout_written: Option<Duration>,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) try_timeout: Option<Duration>,
    pub(crate) retry: Option<Retry>,
    pub(crate) resilience: Resilience,
    pub(crate) rate_limits_at_service: rate_limit::Held,
    pub(crate) rate_limits_at_caller: rate_limit::Held,
    pub(crate) overload: Overload,
}

// === impl ServiceView ===

impl<'a> ServiceView<'a> {
    pub(crate) fn new(
        name: ServiceName,
        declared: Option<(&'a Arc<Entry>, &'a ServiceSpec)>,
        instances: Vec<Arc<Registered>>,
    ) -> Self {
        Self { name, declared: declared.map(|(_, spec)| spec), instances }
    }

    /// Whether anybody declared or registered it.
    pub(crate) fn exists(&self) -> bool {
        self.declared.is_some() || !self.instances.is_empty()
    }

    /// Whether a version has an instance that takes requests on a port.
    pub(crate) fn takes_requests(&self, version: &str, port: &PortView) -> bool {
        let mut declared = self.declared.into_iter().flat_map(|spec| &spec.endpoints);
        let is_able = |registered: &Arc<Registered>| {
            registered.instance.version.as_deref() == Some(version)
                && registered.routable() == Routable::Yes
                && self.instance_port(&registered.instance, port).is_some()
        };
        declared.any(|endpoint| endpoint.version.as_deref() == Some(version)) || self.instances.iter().any(is_able)
    }

    /// The declaration, if there is one.
    pub(crate) fn spec(&self) -> Option<&'a ServiceSpec> {
        self.declared
    }

    /// Whether `caller` sees it: as declared, else if any instance says so.
    pub(crate) fn is_visible_to(&self, caller: &Caller) -> bool {
        match self.declared.and_then(|spec| spec.visibility.as_ref()) {
            Some(visibility) => sees(visibility, caller),
            None if self.instances.is_empty() => true,
            None => self.instances.iter().any(|registered| sees(&registered.instance.visibility, caller)),
        }
    }

    /// The port that is meant by `asked`, or by a caller who names none; none when the service has no such port.
    pub(crate) fn port(&self, asked: Option<u16>) -> Option<PortView> {
        match self.declared {
            Some(spec) => {
                let port = match asked {
                    Some(number) => spec.ports.iter().find(|port| port.port.get() == number)?,
                    None => default_port(&spec.ports)?,
                };
                Some(self.declared_port(spec, port))
            }
            None if self.instances.is_empty() => None,
            None if self.has_single_port() => {
                let number = asked.unwrap_or(DEFAULT_PORT);
                Some(PortView {
                    number,
                    name: None,
                    target: Target::Only,
                    protocol: self.registered_protocol(&Target::Only),
                    proxy_protocol: None,
                })
            }
            None => {
                let numbers = self.registered_ports();
                let http = || self.named_port("http");
                let number = match asked {
                    Some(number) => numbers.contains(&number).then_some(number)?,
                    None if numbers.contains(&DEFAULT_PORT) => DEFAULT_PORT,
                    None => http().or_else(|| numbers.first().copied())?,
                };
                Some(self.registered_port(number))
            }
        }
    }

    /// Every port that can be listed: of a service that answers on any port, the default one.
    pub(crate) fn ports(&self) -> Vec<PortView> {
        match self.declared {
            Some(spec) => spec.ports.iter().map(|port| self.declared_port(spec, port)).collect(),
            None if self.has_single_port() => self.port(None).into_iter().collect(),
            None => self.registered_ports().into_iter().map(|number| self.registered_port(number)).collect(),
        }
    }

    /// The only port, of a service that has no other.
    pub(crate) fn only_port(&self) -> Option<PortView> {
        let mut ports = self.ports();
        if ports.len() == 1 { ports.pop() } else { None }
    }

    /// Whether a parent reference to this service is meant for `port`.
    pub(crate) fn is_meant(&self, parent: &ParentRef, port: &PortView) -> bool {
        let number = parent.port.is_none_or(|number| {
            // Where any port leads to the only one, the number under which that is registered means it as well.
            let registered = port.target == Target::Only && self.registered_ports().contains(&number.get());
            number.get() == port.number || registered
        });
        let section = parent.section_name.as_deref().is_none_or(|section| match &port.name {
            Some(name) => &**name == section,
            None => {
                self.declared.is_none()
                    && self
                        .named_port(section)
                        .is_some_and(|number| port.target == Target::Only || number == port.number)
            }
        });
        number && section
    }

    /// The port of an instance that is meant by a port of the service.
    pub(crate) fn instance_port<'i>(&self, instance: &'i Instance, port: &PortView) -> Option<&'i InstancePort> {
        match &port.target {
            Target::Only => instance.ports.first(),
            Target::Number(number) => instance.ports.iter().find(|p| p.number == *number),
            Target::Name(name) => instance.ports.iter().find(|p| p.name.as_ref() == Some(name)),
        }
    }

    fn declared_port(&self, spec: &ServiceSpec, port: &ServicePort) -> PortView {
        let target = match &port.target_port {
            None => Target::Number(port.port.get()),
            Some(TargetPort::Number(number)) => Target::Number(number.get()),
            Some(TargetPort::Name(name)) => Target::Name(name.as_str().into()),
        };
        let written = port.protocol.or(spec.protocol);
        let protocol = written.unwrap_or_else(|| self.registered_protocol(&target));
        let (number, name) = (port.port.get(), port.name.as_deref().map(Into::into));
        PortView { number, name, target, protocol, proxy_protocol: port.proxy_protocol }
    }

    fn registered_port(&self, number: u16) -> PortView {
        let target = Target::Number(number);
        let named = |registered: &Arc<Registered>| {
            let ports = registered.instance.ports.iter();
            ports.filter(|port| port.number == number).find_map(|port| port.name.clone())
        };
        let name = self.instances.iter().find_map(named);
        PortView { number, name, protocol: self.registered_protocol(&target), target, proxy_protocol: None }
    }

    /// What the instances say that a port speaks; found out per connection where they do not agree.
    fn registered_protocol(&self, target: &Target) -> Protocol {
        let (target, protocol) = (target.clone(), Protocol::Detect);
        let probe = PortView { number: 0, name: None, target, protocol, proxy_protocol: None };
        let of = |registered: &Arc<Registered>| Some(self.instance_port(&registered.instance, &probe)?.protocol);
        let protocols: BTreeSet<Protocol> = self.instances.iter().filter_map(of).collect();
        match (protocols.first(), protocols.len()) {
            (Some(protocol), 1) => *protocol,
            _ => Protocol::Detect,
        }
    }

    fn has_single_port(&self) -> bool {
        !self.instances.is_empty() && self.instances.iter().all(|registered| registered.instance.ports.len() == 1)
    }

    fn registered_ports(&self) -> BTreeSet<u16> {
        self.instances.iter().flat_map(|registered| registered.instance.ports.iter().map(|port| port.number)).collect()
    }

    fn named_port(&self, name: &str) -> Option<u16> {
        let ports = self.instances.iter().flat_map(|registered| &registered.instance.ports);
        ports.filter(|port| port.name.as_deref() == Some(name)).map(|port| port.number).min()
    }
}

/// The port of whoever names none: 80 if it is declared, else the first that may speak HTTP, else the first.
fn default_port(ports: &[ServicePort]) -> Option<&ServicePort> {
    let is_bytes = |port: &&ServicePort| matches!(port.protocol, Some(Protocol::Tcp | Protocol::Tls));
    let eighty = ports.iter().find(|port| port.port.get() == DEFAULT_PORT);
    eighty.or_else(|| ports.iter().find(|port| !is_bytes(port))).or(ports.first())
}

fn sees(visibility: &Visibility, caller: &Caller) -> bool {
    match visibility {
        Visibility::All => true,
        Visibility::Gateway => caller.is_gateway,
        Visibility::Namespaces(namespaces) => namespaces.contains(&caller.namespace),
    }
}

// === impl Policy ===

impl Policy {
    pub(crate) fn of(spec: Option<&TrafficPolicySpec>) -> Self {
        let time = |value: Option<leno_model::resource::duration::GatewayDuration>| value.map(|value| value.0);
        let balancer = spec.and_then(|spec| spec.load_balancer.as_ref());
        Self {
            balance: balancer.map(|balancer| balancer.policy).unwrap_or_default(),
            affinity: balancer.map(affinity::of).unwrap_or_default(),
            balancing: balancer.map(balancing::of).unwrap_or_default(),
            connect_timeout: time(spec.and_then(|spec| spec.connect_timeout)).unwrap_or(CONNECT_TIMEOUT),
            idle_timeout: time(spec.and_then(|spec| spec.idle_timeout)).unwrap_or(IDLE_TIMEOUT),
            idle_timeout_written: time(spec.and_then(|spec| spec.idle_timeout)),
            request_timeout: time(spec.and_then(|spec| spec.request_timeout)).filter(|time| !time.is_zero()),
            try_timeout: time(spec.and_then(|spec| spec.retry.as_ref()?.try_timeout)),
            retry: spec.and_then(retry::of_policy),
            resilience: spec.map(resilience::of).unwrap_or_default(),
            rate_limits_at_service: rate_limit::Held::at(spec, LimitAt::Service),
            rate_limits_at_caller: rate_limit::Held::at(spec, LimitAt::Caller),
            overload: spec.map(overload::of).unwrap_or_default(),
        }
    }
}
