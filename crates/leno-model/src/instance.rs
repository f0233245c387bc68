//! An instance: one running copy of a service, as the registry knows it. Control turns it into endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::ServiceName;

/// What a port speaks. `Detect` looks at the first bytes and never stalls a protocol in which the server speaks first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Not declared: found out per connection.
    #[default]
    Detect,
    /// HTTP/1.1 (RFC 9112); requests of other versions are delivered as HTTP/1.1.
    Http,
    /// HTTP/2 with prior knowledge (RFC 9113, section 3.3), and gRPC on it.
    Http2,
    /// gRPC: HTTP/2 whose refusals are gRPC statuses.
    Grpc,
    /// Bytes.
    Tcp,
    /// TLS that passes through; routed by SNI.
    Tls,
}

/// A port on which an instance listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct InstancePort {
    /// The application's port, 1 to 65535.
    pub number: u16,
    /// A name by which a `Service` port may refer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// What it speaks.
    #[serde(default)]
    pub protocol: Protocol,
    /// The port of the instance's proxy that leads to this one; none when it has no proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_port: Option<u16>,
}

/// Whether an instance takes traffic, as whoever registered it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceStatus {
    /// Takes traffic.
    #[default]
    Up,
    /// Alive and not ready yet.
    Starting,
    /// Ends soon: open requests are finished, new ones go elsewhere.
    Draining,
    /// Out of service by decision of an operator.
    Out,
}

/// How the registry probes an instance. Written flat: `{"type": "http", "path": "/healthz", "interval": 5000}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "FlatHealthCheck", into = "FlatHealthCheck")]
pub struct HealthCheck {
    /// What is sent.
    pub probe: Probe,
    /// The instance port that is probed; the first registered one when absent.
    pub port: Option<u16>,
    /// Time between two probes, 1 s to 1 h. Default 10 s.
    pub interval: Duration,
    /// Time after which a probe has failed, 10 ms to 1 min. Default 1 s.
    pub timeout: Duration,
    /// Failures in a row until the instance is unhealthy, 1 to 100. Default 3.
    pub unhealthy_threshold: u32,
    /// Successes in a row until it is healthy again, 1 to 100. Default 1.
    pub healthy_threshold: u32,
}

/// The kinds of active health check.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Probe {
    /// `GET path`; healthy for a status of 200 to 399, redirects are not followed.
    Http {
        /// The path, `/` by default.
        path: String,
    },
    /// Healthy when the connection is accepted.
    Tcp,
    /// `grpc.health.v1.Health/Check`; healthy for SERVING.
    Grpc {
        /// The service asked about; empty for the whole server.
        service: String,
    },
}

/// A health check as it is written. A struct of its own, because serde's `flatten` cannot refuse unknown fields.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FlatHealthCheck {
    r#type: ProbeType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default = "ten_seconds", with = "duration_ms")]
    interval: Duration,
    #[serde(default = "one_second", with = "duration_ms")]
    timeout: Duration,
    #[serde(default = "three")]
    unhealthy_threshold: u32,
    #[serde(default = "one")]
    healthy_threshold: u32,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum ProbeType {
    Http,
    Tcp,
    Grpc,
}

/// What the probes found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeResult {
    /// No probe is declared, or none has answered yet.
    #[default]
    Unknown,
    /// The last probes passed.
    Passing,
    /// The last probes failed.
    Failing,
}

/// Who sees a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Every namespace and every gateway.
    #[default]
    All,
    /// Gateways only.
    Gateway,
    /// Callers in these namespaces.
    Namespaces(Vec<Arc<str>>),
}

/// One running copy of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Instance {
    /// Unique within its service; chosen by whoever registers it, 1 to 128 characters of `A-Za-z0-9._:-`.
    pub id: Arc<str>,
    /// The service it is a copy of.
    pub service: ServiceName,
    /// Where the application listens.
    pub address: IpAddr,
    /// Its ports, at least one.
    pub ports: Vec<InstancePort>,
    /// Where its proxy listens; the application's address when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_address: Option<IpAddr>,
    /// Its share of traffic relative to the other instances, 0 to 10,000. Default 100; 0 takes none.
    #[serde(default = "hundred")]
    pub weight: u32,
    /// Its version, the `v2` of `cart@v2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// The zone it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,
    /// The region it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Arc<str>>,
    /// Whether it takes traffic.
    #[serde(default)]
    pub status: InstanceStatus,
    /// Who sees it.
    #[serde(default)]
    pub visibility: Visibility,
    /// Free text of whoever registered it: at most 64 entries, 8 KiB in all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// How it is probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// How long it stays without a renewal, 5 s to 1 h; none for a persistent instance, which stays until removed.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "option_duration_ms")]
    pub lease: Option<Duration>,
    /// Where it was registered: `api`, `run`, `file`, or a door's name.
    #[serde(default)]
    pub source: Arc<str>,
}

// === impl HealthCheck ===

impl TryFrom<FlatHealthCheck> for HealthCheck {
    type Error = &'static str;

    fn try_from(flat: FlatHealthCheck) -> Result<Self, Self::Error> {
        if flat.path.is_some() && flat.r#type != ProbeType::Http {
            return Err("`path` belongs to a probe of type http");
        }
        if flat.service.is_some() && flat.r#type != ProbeType::Grpc {
            return Err("`service` belongs to a probe of type grpc");
        }
        let probe = match flat.r#type {
            ProbeType::Http => Probe::Http { path: flat.path.unwrap_or_else(|| "/".to_owned()) },
            ProbeType::Tcp => Probe::Tcp,
            ProbeType::Grpc => Probe::Grpc { service: flat.service.unwrap_or_default() },
        };
        Ok(Self {
            probe,
            port: flat.port,
            interval: flat.interval,
            timeout: flat.timeout,
            unhealthy_threshold: flat.unhealthy_threshold,
            healthy_threshold: flat.healthy_threshold,
        })
    }
}

impl From<HealthCheck> for FlatHealthCheck {
    fn from(check: HealthCheck) -> Self {
        let (r#type, path, service) = match check.probe {
            Probe::Http { path } => (ProbeType::Http, Some(path), None),
            Probe::Tcp => (ProbeType::Tcp, None, None),
            Probe::Grpc { service } => (ProbeType::Grpc, None, Some(service)),
        };
        Self {
            r#type,
            path,
            service,
            port: check.port,
            interval: check.interval,
            timeout: check.timeout,
            unhealthy_threshold: check.unhealthy_threshold,
            healthy_threshold: check.healthy_threshold,
        }
    }
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}
fn one_second() -> Duration {
    Duration::from_secs(1)
}
fn one() -> u32 {
    1
}
fn three() -> u32 {
    3
}
fn hundred() -> u32 {
    100
}

/// Durations as whole milliseconds, the form of the registry's own wire.
mod duration_ms {
    use super::*;
    pub(super) fn serialize<S: serde::Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(value.as_millis() as u64)
    }
    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_millis)
    }
}

/// As `duration_ms`, for a duration that may be absent.
mod option_duration_ms {
    use super::*;
    pub(super) fn serialize<S: serde::Serializer>(value: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        value.map(|v| v.as_millis() as u64).serialize(s)
    }
    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(d)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_health_check_is_written_flat_and_read_back() {
        let text = r#"{"type":"http","path":"/up","interval":5000,"timeout":1000,"unhealthyThreshold":3,"healthyThreshold":1}"#;
        let check: HealthCheck = serde_json::from_str(text).unwrap();
        assert_eq!(check.probe, Probe::Http { path: "/up".to_owned() });
        assert_eq!(serde_json::to_string(&check).unwrap(), text);
    }

    #[test]
    fn a_health_check_refuses_what_its_probe_does_not_have() {
        for text in
            [r#"{"type":"tcp","path":"/"}"#, r#"{"type":"http","service":"a"}"#, r#"{"type":"tcp","intervall":1}"#]
        {
            assert!(serde_json::from_str::<HealthCheck>(text).is_err(), "{text}");
        }
    }
}
