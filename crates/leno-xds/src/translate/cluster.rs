//! Clusters. CDS. Their endpoints always come by EDS over the same stream.

use std::time::Duration;

use bytes::Bytes;
use leno_model::expression::Expression;
use leno_model::instance::Protocol;
use leno_model::name::ServiceName;
use leno_model::snapshot::{
    BalancePolicy, Balancing, Cluster, Gives, IDLE_TIMEOUT, ProxyProtocol, Resilience, UpstreamTls,
};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::{
    Dialect, TranslateError, balancing, by_ads, duration_of, exact_of, exact_text, note, protocol_of, resilience,
    service_in_name, service_of, subset, unusable, with_note,
};
use crate::messages::cluster::{
    Cluster as EnvoyCluster, ClusterDiscoveryType, CommonHttpProtocolOptions, DiscoveryType, EdsClusterConfig,
    ExplicitHttpConfig, HttpProtocolOptions, LbPolicy, LoadBalancingPolicy, Policy, ProtocolConfig, RingHash,
    UpstreamProtocolOptions, UseDownstreamHttpConfig, WrrLocality,
};
use crate::messages::core::{Empty, TypedExtensionConfig, TypedStruct};
use crate::messages::note::{ClusterNote, ProtocolNote};
use crate::messages::urls;
use crate::messages::wkt::Any;
use crate::provide::Resource;

/// Our balancing policies by the names under which others list theirs, and by their types; gRPC looks for a policy of the
/// name after the slash, does not find it and takes the next.
const OURS: [(BalancePolicy, &str, &str); 4] = [
    (BalancePolicy::Expression, "leno.mesh/expression", "type.googleapis.com/leno.mesh.Expression"),
    (BalancePolicy::PeakEwma, "leno.mesh/peak_ewma", "type.googleapis.com/leno.mesh.PeakEwma"),
    (BalancePolicy::BestAvailable, "leno.mesh/best_available", "type.googleapis.com/leno.mesh.BestAvailable"),
    (
        BalancePolicy::WeightedResponseTime,
        "leno.mesh/weighted_response_time",
        "type.googleapis.com/leno.mesh.WeightedResponseTime",
    ),
];
/// The key of the HTTP options among a cluster's protocol options.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// What the message does not say as the model means it.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct Exact {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connect_timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idle_timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls: Option<UpstreamTls>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proxy_protocol: Option<ProxyProtocol>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resilience: Option<Resilience>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    balancing: Option<Balancing>,
}

/// Encodes a cluster for subscribers of one dialect.
pub fn encode(cluster: &Cluster, dialect: Dialect) -> Resource {
    Resource::new(cluster.name.clone(), to_envoy(cluster, dialect).encode_to_vec().into())
}

/// Reads a cluster.
pub fn decode(body: &Bytes) -> Result<Cluster, TranslateError> {
    from_envoy(EnvoyCluster::decode(body.clone())?)
}

/// A cluster as Envoy's message.
pub fn to_envoy(cluster: &Cluster, dialect: Dialect) -> EnvoyCluster {
    let (lb_policy, load_balancing_policy) = balance_to(cluster, dialect);
    let mut message = EnvoyCluster {
        name: cluster.name.to_string(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(by_ads()), service_name: String::new() }),
        // Envoy refuses 0.
        connect_timeout: (!cluster.connect_timeout.is_zero()).then(|| cluster.connect_timeout.into()),
        lb_policy: lb_policy.into(),
        load_balancing_policy,
        ..EnvoyCluster::default()
    };
    resilience::write(&cluster.resilience, dialect, &mut message);
    balancing::write(balance_of(cluster, dialect), &cluster.balancing, dialect, &mut message);
    if let (Dialect::Envoy { .. }, Some(subsets)) = (dialect, &cluster.balancing.subsets) {
        message.lb_subset_config = Some(subset::config(subsets));
    }
    if let Some(options) = http_options(cluster) {
        let options = Any::pack(urls::HTTP_PROTOCOL_OPTIONS, &options);
        message.typed_extension_protocol_options.insert(HTTP_OPTIONS.to_owned(), options);
    }
    if (cluster.tls.is_some() || cluster.proxy_protocol.is_some()) && dialect != Dialect::Leno {
        // Whoever cannot be told how to speak TLS there must not speak in clear, and who cannot be told how to begin is not
        // understood: it gets nobody to speak to.
        message.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into()));
        message.eds_cluster_config = None;
    }
    if dialect == Dialect::Leno {
        message.metadata = with_note(urls::CLUSTER_NOTE, &note_of(cluster, &message));
    }
    message
}

/// Envoy's message as a cluster.
pub fn from_envoy(message: EnvoyCluster) -> Result<Cluster, TranslateError> {
    let note: Option<ClusterNote> = note(urls::CLUSTER_NOTE, message.metadata.as_ref())?;
    let mut cluster = plain(message)?;
    if let Some(note) = note {
        let exact: Exact = exact_of(&note.exact)?;
        cluster.service = service_of(&note.service)?;
        cluster.port = u16::try_from(note.port).map_err(|_| unusable("metadata", "names no port"))?;
        cluster.protocol = protocol_of(note.protocol);
        cluster.connect_timeout = exact.connect_timeout.unwrap_or(cluster.connect_timeout);
        cluster.idle_timeout = exact.idle_timeout.unwrap_or(cluster.idle_timeout);
        cluster.tls = exact.tls;
        cluster.proxy_protocol = exact.proxy_protocol;
        cluster.resilience = exact.resilience.unwrap_or(cluster.resilience);
        cluster.balancing = exact.balancing.unwrap_or(cluster.balancing);
        if let Some(size) = cluster.balancing.table_size {
            balancing::table_size_of("metadata.table_size", size.into())?;
        }
    }
    match (&cluster.balancing.expression, cluster.balance) {
        (Some(expression), _) => {
            let read = Expression::read(&expression.text);
            read.map_err(|error| unusable("metadata.expression", error.to_string()))?;
        }
        (None, BalancePolicy::Expression) => {
            return Err(unusable("load_balancing_policy", "names no expression to balance by"));
        }
        (None, _) => {}
    }
    Ok(cluster)
}

fn note_of(cluster: &Cluster, message: &EnvoyCluster) -> ClusterNote {
    let plain = plain(message.clone()).ok();
    let connect = plain.as_ref().map(|plain| plain.connect_timeout) != Some(cluster.connect_timeout);
    let idle = plain.as_ref().map(|plain| plain.idle_timeout) != Some(cluster.idle_timeout);
    let exact = Exact {
        connect_timeout: connect.then_some(cluster.connect_timeout),
        idle_timeout: idle.then_some(cluster.idle_timeout),
        tls: cluster.tls.clone(),
        proxy_protocol: cluster.proxy_protocol,
        resilience: (plain.as_ref().map(|plain| &plain.resilience) != Some(&cluster.resilience))
            .then(|| cluster.resilience.clone()),
        balancing: (plain.as_ref().map(|plain| &plain.balancing) != Some(&cluster.balancing))
            .then(|| cluster.balancing.clone()),
    };
    ClusterNote {
        service: cluster.service.to_string(),
        port: cluster.port.into(),
        protocol: ProtocolNote::from(cluster.protocol).into(),
        exact: exact_text(&exact),
    }
}

/// What the message says to whoever does not read notes.
fn plain(message: EnvoyCluster) -> Result<Cluster, TranslateError> {
    if message.name.is_empty() {
        return Err(unusable("name", "is empty"));
    }
    match message.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) if kind == i32::from(DiscoveryType::Eds) => {}
        _ => return Err(unusable("type", "leno takes endpoints by EDS only")),
    }
    if message.eds_cluster_config.as_ref().is_some_and(|eds| !eds.service_name.is_empty()) {
        return Err(unusable("eds_cluster_config.service_name", "leno asks for endpoints by the cluster's name"));
    }
    let (service, port) = service_in_name(&message.name).unwrap_or_else(|| (foreign_service(&message.name), 0));
    let options = match message.typed_extension_protocol_options.get(HTTP_OPTIONS) {
        Some(any) => any.unpack::<HttpProtocolOptions>(urls::HTTP_PROTOCOL_OPTIONS).transpose()?,
        None => None,
    };
    let connect = message.connect_timeout.map(|timeout| duration_of("connect_timeout", timeout)).transpose()?;
    let idle = options.as_ref().and_then(|o| o.common_http_protocol_options).and_then(|common| common.idle_timeout);
    let idle = idle.map(|timeout| duration_of("idle_timeout", timeout)).transpose()?;
    Ok(Cluster {
        service,
        port,
        protocol: protocol_from(options.as_ref()),
        balance: balance_from(&message)?,
        connect_timeout: connect.unwrap_or(CONNECT_TIMEOUT_DEFAULT),
        idle_timeout: idle.unwrap_or(IDLE_TIMEOUT),
        tls: None,
        proxy_protocol: None,
        resilience: resilience::read(&message)?,
        balancing: balancing::read(&message)?,
        name: message.name.into(),
    })
}

/// The service of a cluster whose server does not know of services: a label made from its name.
fn foreign_service(name: &str) -> ServiceName {
    let mut label: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).take(63).collect();
    label = label.trim_matches('-').to_owned();
    let label = if label.is_empty() { "unnamed" } else { &label };
    ServiceName { namespace: "external".into(), name: label.into() }
}

fn http_options(cluster: &Cluster) -> Option<HttpProtocolOptions> {
    let explicit = |protocol| UpstreamProtocolOptions::Explicit(ExplicitHttpConfig { protocol_config: Some(protocol) });
    let protocol = match cluster.protocol {
        Protocol::Http => explicit(ProtocolConfig::Http1(Empty {})),
        Protocol::Http2 | Protocol::Grpc => explicit(ProtocolConfig::Http2(Empty {})),
        Protocol::Detect => UpstreamProtocolOptions::UseDownstream(UseDownstreamHttpConfig {
            http_protocol_options: Some(Empty {}),
            http2_protocol_options: Some(Empty {}),
        }),
        Protocol::Tcp | Protocol::Tls => return None,
    };
    Some(HttpProtocolOptions {
        common_http_protocol_options: Some(CommonHttpProtocolOptions {
            idle_timeout: Some(cluster.idle_timeout.into()),
        }),
        upstream_protocol_options: Some(protocol),
    })
}

fn protocol_from(options: Option<&HttpProtocolOptions>) -> Protocol {
    match options.and_then(|options| options.upstream_protocol_options) {
        Some(UpstreamProtocolOptions::Explicit(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::Http2(_)),
        })) => Protocol::Http2,
        Some(UpstreamProtocolOptions::Explicit(_)) => Protocol::Http,
        Some(UpstreamProtocolOptions::UseDownstream(_)) | None => Protocol::Detect,
    }
}

/// The policy by number, for whoever reads no lists, and the list: ours first, then one that the subscriber knows.
fn balance_to(cluster: &Cluster, dialect: Dialect) -> (LbPolicy, Option<LoadBalancingPolicy>) {
    let balance = balance_of(cluster, dialect);
    let (number, url) = match balance {
        BalancePolicy::PeakEwma
        | BalancePolicy::BestAvailable
        | BalancePolicy::WeightedResponseTime
        | BalancePolicy::Expression
        | BalancePolicy::LeastRequest => (LbPolicy::LeastRequest, urls::LEAST_REQUEST),
        BalancePolicy::RoundRobin | BalancePolicy::WeightedRoundRobin => (LbPolicy::RoundRobin, urls::ROUND_ROBIN),
        BalancePolicy::Random => (LbPolicy::Random, urls::RANDOM),
        BalancePolicy::RingHash => (LbPolicy::RingHash, urls::RING_HASH),
        BalancePolicy::Maglev => (LbPolicy::Maglev, urls::MAGLEV),
    };
    let ours = OURS.iter().find(|(policy, ..)| *policy == balance).map(|(_, name, url)| our_policy(name, url));
    if dialect == Dialect::Grpc {
        // Not every gRPC knows the others' numbers, and one that it does not know costs the whole cluster.
        let theirs = match balance {
            // Places first, as with round robin.
            BalancePolicy::WeightedRoundRobin => {
                let within = policies(weighted_round_robin(cluster));
                Some(policy(urls::WRR_LOCALITY, &WrrLocality { endpoint_picking_policy: Some(within) }))
            }
            BalancePolicy::LeastRequest | BalancePolicy::BestAvailable | BalancePolicy::WeightedResponseTime => {
                Some(policy(url, &Empty {}))
            }
            // It has no Maglev, and a ring keeps requests of one key together too.
            BalancePolicy::RingHash | BalancePolicy::Maglev => {
                Some(policy(urls::RING_HASH, &RingHash { hash_function: 1 }))
            }
            _ => None,
        };
        let in_turn = policies([policy(urls::ROUND_ROBIN, &Empty {})]);
        let in_turn = policy(urls::WRR_LOCALITY, &WrrLocality { endpoint_picking_policy: Some(in_turn) });
        return (LbPolicy::RoundRobin, Some(policies(ours.into_iter().chain(theirs).chain([in_turn]))));
    }
    if cluster.balancing.subsets.is_some() && dialect != Dialect::Leno {
        // Envoy looks at no subsets where it takes its policy from a list.
        return (number, None);
    }
    if balance == BalancePolicy::WeightedRoundRobin {
        return (number, Some(policies(weighted_round_robin(cluster))));
    }
    (number, ours.map(|ours| policies([ours, policy(url, &balancing::least_request(&cluster.balancing))])))
}

/// The policy, or the nearest one for those who evaluate no expression.
fn balance_of(cluster: &Cluster, dialect: Dialect) -> BalancePolicy {
    let gives = cluster.balancing.expression.as_ref().map(|expression| expression.gives);
    match (cluster.balance, dialect, gives) {
        (BalancePolicy::Expression, Dialect::Envoy { .. } | Dialect::Grpc, Some(Gives::Weight)) => {
            BalancePolicy::RoundRobin
        }
        (BalancePolicy::Expression, Dialect::Envoy { .. } | Dialect::Grpc, _) => BalancePolicy::LeastRequest,
        (balance, ..) => balance,
    }
}

/// Whoever does not know it takes them in turn.
fn weighted_round_robin(cluster: &Cluster) -> [Policy; 2] {
    let config = balancing::weighted_round_robin(&cluster.balancing);
    [policy(urls::WEIGHTED_ROUND_ROBIN, &config), policy(urls::ROUND_ROBIN, &Empty {})]
}

fn balance_from(message: &EnvoyCluster) -> Result<BalancePolicy, TranslateError> {
    let listed = message.load_balancing_policy.iter().flat_map(|list| &list.policies);
    let listed = listed.filter_map(|policy| policy.typed_extension_config.as_ref()?.typed_config.as_ref());
    if let Some(policy) = listed.filter_map(known_policy).next() {
        return Ok(policy);
    }
    match LbPolicy::try_from(message.lb_policy) {
        Ok(LbPolicy::LeastRequest) => Ok(BalancePolicy::LeastRequest),
        Ok(LbPolicy::RoundRobin) => Ok(BalancePolicy::RoundRobin),
        Ok(LbPolicy::Random) => Ok(BalancePolicy::Random),
        Ok(LbPolicy::RingHash) => Ok(BalancePolicy::RingHash),
        Ok(LbPolicy::Maglev) => Ok(BalancePolicy::Maglev),
        _ => Err(unusable(
            "lb_policy",
            "leno has peak EWMA, LEAST_REQUEST, ROUND_ROBIN, RANDOM, RING_HASH, MAGLEV and weighted round robin",
        )),
    }
}

fn known_policy(any: &Any) -> Option<BalancePolicy> {
    match any.type_url.as_str() {
        urls::TYPED_STRUCT => {
            let inner: TypedStruct = any.unpack(urls::TYPED_STRUCT)?.ok()?;
            OURS.iter().find(|(.., url)| *url == inner.type_url).map(|(policy, ..)| *policy)
        }
        urls::LEAST_REQUEST => Some(BalancePolicy::LeastRequest),
        urls::ROUND_ROBIN => Some(BalancePolicy::RoundRobin),
        urls::RANDOM => Some(BalancePolicy::Random),
        urls::WEIGHTED_ROUND_ROBIN => Some(BalancePolicy::WeightedRoundRobin),
        urls::RING_HASH => Some(BalancePolicy::RingHash),
        urls::MAGLEV => Some(BalancePolicy::Maglev),
        // Which endpoint, once the place is chosen, is what leno decides.
        urls::WRR_LOCALITY => {
            let inner: WrrLocality = any.unpack(urls::WRR_LOCALITY)?.ok()?;
            let mut inner = inner.endpoint_picking_policy?.policies.into_iter();
            inner.find_map(|policy| match policy.typed_extension_config?.typed_config?.type_url.as_str() {
                urls::LEAST_REQUEST => Some(BalancePolicy::LeastRequest),
                urls::ROUND_ROBIN => Some(BalancePolicy::RoundRobin),
                urls::RANDOM => Some(BalancePolicy::Random),
                urls::WEIGHTED_ROUND_ROBIN => Some(BalancePolicy::WeightedRoundRobin),
                _ => None,
            })
        }
        _ => None,
    }
}

fn policies(policies: impl IntoIterator<Item = Policy>) -> LoadBalancingPolicy {
    LoadBalancingPolicy { policies: policies.into_iter().collect() }
}

fn our_policy(name: &str, url: &str) -> Policy {
    let config = TypedStruct { type_url: url.to_owned(), value: Some(Default::default()) };
    named_policy(name, Any::pack(urls::TYPED_STRUCT, &config))
}

fn policy(url: &str, config: &impl Message) -> Policy {
    named_policy(url.rsplit('/').next().unwrap_or(url), Any::pack(url, config))
}

fn named_policy(name: &str, config: Any) -> Policy {
    Policy { typed_extension_config: Some(TypedExtensionConfig { name: name.to_owned(), typed_config: Some(config) }) }
}
