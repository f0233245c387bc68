//! Between the messages and the model. What a message says wrongly is refused here with its field; what it says
//! validly may still break a rule of the registry.

use std::net::IpAddr;
use std::time::Duration;

use leno_http::grpc;
use leno_model::instance as model;
use leno_model::name::ServiceName;

use super::messages::{HealthCheck, Instance, InstanceKey, Port, Probe, Protocol, Status, Visibility};
use super::{SOURCE, invalid};
use crate::catalogue;

impl TryFrom<&InstanceKey> for catalogue::InstanceKey {
    type Error = grpc::Status;

    fn try_from(key: &InstanceKey) -> Result<Self, grpc::Status> {
        let service = ServiceName::new(&key.namespace, &key.service)
            .map_err(|error| invalid("service", error, "name a namespace and a service"))?;
        crate::check_id(&key.id)?;
        Ok(Self { service, id: key.id.as_str().into() })
    }
}

impl From<&catalogue::InstanceKey> for InstanceKey {
    fn from(key: &catalogue::InstanceKey) -> Self {
        let (namespace, service) = (key.service.namespace.to_string(), key.service.name.to_string());
        Self { namespace, service, id: key.id.to_string() }
    }
}

impl TryFrom<Instance> for model::Instance {
    type Error = grpc::Status;

    fn try_from(instance: Instance) -> Result<Self, grpc::Status> {
        let key = instance.key.as_ref().ok_or_else(|| invalid("key", "is absent", "name the instance"))?;
        let key = catalogue::InstanceKey::try_from(key)?;
        let proxy_address = Some(instance.proxy_address).filter(|address| !address.is_empty());
        Ok(Self {
            id: key.id,
            service: key.service,
            address: address("address", &instance.address)?,
            ports: instance.ports.into_iter().enumerate().map(|(i, p)| port(i, p)).collect::<Result<_, _>>()?,
            proxy_address: proxy_address.map(|text| address("proxyAddress", &text)).transpose()?,
            weight: instance.weight.unwrap_or(100),
            version: text(instance.version),
            zone: text(instance.zone),
            region: text(instance.region),
            status: status(instance.status)?,
            visibility: instance.visibility.map(model::Visibility::from).unwrap_or_default(),
            metadata: instance.metadata,
            health_check: instance.health_check.map(health_check).transpose()?,
            lease: Some(instance.lease_ms).filter(|ms| *ms > 0).map(Duration::from_millis),
            source: text(instance.source).unwrap_or_else(|| SOURCE.into()),
        })
    }
}

impl From<&model::Instance> for Instance {
    fn from(instance: &model::Instance) -> Self {
        let key = catalogue::InstanceKey { service: instance.service.clone(), id: instance.id.clone() };
        let owned = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
        Self {
            key: Some((&key).into()),
            address: instance.address.to_string(),
            ports: instance.ports.iter().map(Port::from).collect(),
            proxy_address: instance.proxy_address.map(|address| address.to_string()).unwrap_or_default(),
            weight: Some(instance.weight),
            version: owned(&instance.version),
            zone: owned(&instance.zone),
            region: owned(&instance.region),
            status: Status::from(instance.status).into(),
            visibility: visibility(&instance.visibility),
            metadata: instance.metadata.clone(),
            health_check: instance.health_check.as_ref().map(HealthCheck::from),
            lease_ms: instance.lease.map_or(0, |lease| lease.as_millis() as u64),
            source: instance.source.to_string(),
        }
    }
}

impl From<&model::InstancePort> for Port {
    fn from(port: &model::InstancePort) -> Self {
        let protocol = match port.protocol {
            model::Protocol::Detect => Protocol::Detect,
            model::Protocol::Http => Protocol::Http,
            model::Protocol::Http2 => Protocol::Http2,
            model::Protocol::Grpc => Protocol::Grpc,
            model::Protocol::Tcp => Protocol::Tcp,
            model::Protocol::Tls => Protocol::Tls,
        };
        Self {
            number: port.number.into(),
            name: port.name.as_deref().unwrap_or_default().to_owned(),
            protocol: protocol.into(),
            proxy_port: port.proxy_port.unwrap_or_default().into(),
        }
    }
}

impl From<&model::HealthCheck> for HealthCheck {
    fn from(check: &model::HealthCheck) -> Self {
        let probe = match &check.probe {
            model::Probe::Http { path } => Probe::HttpPath(path.clone()),
            model::Probe::Tcp => Probe::Tcp(true),
            model::Probe::Grpc { service } => Probe::GrpcService(service.clone()),
        };
        Self {
            probe: Some(probe),
            port: check.port.unwrap_or_default().into(),
            interval_ms: check.interval.as_millis() as u64,
            timeout_ms: check.timeout.as_millis() as u64,
            unhealthy_threshold: check.unhealthy_threshold,
            healthy_threshold: check.healthy_threshold,
        }
    }
}

impl From<Visibility> for model::Visibility {
    fn from(visibility: Visibility) -> Self {
        match visibility {
            Visibility { gateway: true, .. } => Self::Gateway,
            Visibility { namespaces, .. } if namespaces.is_empty() => Self::All,
            Visibility { namespaces, .. } => Self::Namespaces(namespaces.into_iter().map(Into::into).collect()),
        }
    }
}

impl From<model::InstanceStatus> for Status {
    fn from(status: model::InstanceStatus) -> Self {
        match status {
            model::InstanceStatus::Up => Self::Up,
            model::InstanceStatus::Starting => Self::Starting,
            model::InstanceStatus::Draining => Self::Draining,
            model::InstanceStatus::Out => Self::Out,
        }
    }
}

/// A status as the model knows it.
pub(super) fn status(number: i32) -> Result<model::InstanceStatus, grpc::Status> {
    match Status::try_from(number) {
        Ok(Status::Up) => Ok(model::InstanceStatus::Up),
        Ok(Status::Starting) => Ok(model::InstanceStatus::Starting),
        Ok(Status::Draining) => Ok(model::InstanceStatus::Draining),
        Ok(Status::Out) => Ok(model::InstanceStatus::Out),
        Err(_) => Err(invalid("status", format!("{number} is not known"), "give 0 to 3")),
    }
}

fn visibility(visibility: &model::Visibility) -> Option<Visibility> {
    match visibility {
        model::Visibility::All => None,
        model::Visibility::Gateway => Some(Visibility { gateway: true, namespaces: Vec::new() }),
        model::Visibility::Namespaces(names) => {
            Some(Visibility { gateway: false, namespaces: names.iter().map(ToString::to_string).collect() })
        }
    }
}

fn port(index: usize, port: Port) -> Result<model::InstancePort, grpc::Status> {
    let protocol = match Protocol::try_from(port.protocol) {
        Ok(Protocol::Detect) => model::Protocol::Detect,
        Ok(Protocol::Http) => model::Protocol::Http,
        Ok(Protocol::Http2) => model::Protocol::Http2,
        Ok(Protocol::Grpc) => model::Protocol::Grpc,
        Ok(Protocol::Tcp) => model::Protocol::Tcp,
        Ok(Protocol::Tls) => model::Protocol::Tls,
        Err(_) => {
            let field = format!("ports[{index}].protocol");
            return Err(invalid(&field, format!("{} is not known", port.protocol), "give 0 to 5"));
        }
    };
    let proxy_port = number(&format!("ports[{index}].proxyPort"), port.proxy_port)?;
    Ok(model::InstancePort {
        number: number(&format!("ports[{index}].number"), port.number)?,
        name: text(port.name),
        protocol,
        proxy_port: Some(proxy_port).filter(|port| *port > 0),
    })
}

fn health_check(check: HealthCheck) -> Result<model::HealthCheck, grpc::Status> {
    let probe = match check.probe {
        Some(Probe::HttpPath(path)) => model::Probe::Http { path },
        Some(Probe::Tcp(_)) => model::Probe::Tcp,
        Some(Probe::GrpcService(service)) => model::Probe::Grpc { service },
        None => return Err(invalid("healthCheck", "says not what to send", "give http, tcp or grpc")),
    };
    let port = number("healthCheck.port", check.port)?;
    let or = |value: u64, default: u64| Duration::from_millis(if value == 0 { default } else { value });
    Ok(model::HealthCheck {
        probe,
        port: Some(port).filter(|port| *port > 0),
        interval: or(check.interval_ms, 10_000),
        timeout: or(check.timeout_ms, 1000),
        unhealthy_threshold: if check.unhealthy_threshold == 0 { 3 } else { check.unhealthy_threshold },
        healthy_threshold: check.healthy_threshold.max(1),
    })
}

fn address(field: &str, text: &str) -> Result<IpAddr, grpc::Status> {
    text.parse().map_err(|_| invalid(field, "is not an IP address", "give one as 10.0.3.7 or 2001:db8::7"))
}

fn number(field: &str, port: u32) -> Result<u16, grpc::Status> {
    u16::try_from(port).map_err(|_| invalid(field, format!("{port} is no port"), "give 1 to 65535"))
}

fn text<T: for<'a> From<&'a str>>(text: String) -> Option<T> {
    (!text.is_empty()).then(|| text.as_str().into())
}
