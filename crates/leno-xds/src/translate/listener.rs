//! Listeners. LDS.
//!
//! A destination has no socket: its HTTP goes by `api_listener`, as gRPC has it, its other bytes by filter chains.
//! Envoy gets a bound address and looks into connections by itself (`tls_inspector`, `http_inspector`).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use leno_model::snapshot::{
    HostPattern, Listener, Name, Origin, Overload, RateLimits, TlsRule, TlsTerms, WeightedCluster,
};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::endpoints::{address_from, address_to};
use super::route::{domain_from, domain_to};
use super::{
    Dialect, TranslateError, UNRESOLVED, affinity, by_ads, duration_of, exact_of, exact_text, injection, note,
    protocol_of, rate_limit, service_in_name, service_of, subset, unusable, with_note,
};
use crate::messages::core::Empty;
use crate::messages::listener::{
    ApiListener, Filter, FilterChain, FilterChainMatch, HttpConnectionManager, HttpFilter, Listener as EnvoyListener,
    ListenerFilter, Rds, RouteSpecifier, TcpClusterSpecifier, TcpClusterWeight, TcpProxy, TcpWeightedCluster,
    UpgradeConfig,
};
use crate::messages::note::{ListenerNote, ProtocolNote, RuleNote};
use crate::messages::urls;
use crate::messages::wkt::Any;
use crate::provide::Resource;

/// How long Envoy waits for a client's first bytes before it takes the connection for one whose server speaks first.
const INSPECT_TIMEOUT: Duration = Duration::from_millis(100);

/// What the message does not say as the model means it.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct Exact {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<Vec<WeightedCluster>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idle_timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    terms: Vec<TlsTerms>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    udp: bool,
    #[serde(default, skip_serializing_if = "RateLimits::is_none")]
    rate_limits: RateLimits,
    #[serde(default, skip_serializing_if = "Overload::is_none")]
    overload: Overload,
}

/// What a TLS rule's filter chain does not say as the model means it.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct ExactTls {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hostnames: Option<Vec<HostPattern>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clusters: Option<Vec<WeightedCluster>>,
}

/// Encodes a listener for subscribers of one dialect; none where the dialect has no word for it: gRPC knows only
/// HTTP, and Envoy only ports that it opens itself.
pub fn encode(listener: &Listener, dialect: Dialect) -> Option<Resource> {
    let message = to_envoy(listener, dialect)?;
    Some(Resource::new(listener.name.clone(), message.encode_to_vec().into()))
}

/// Reads a listener.
pub fn decode(body: &Bytes) -> Result<Listener, TranslateError> {
    from_envoy(EnvoyListener::decode(body.clone())?)
}

/// A listener as Envoy's message.
pub fn to_envoy(listener: &Listener, dialect: Dialect) -> Option<EnvoyListener> {
    match dialect {
        Dialect::Leno => {
            let mut message = unbound(listener, dialect);
            message.metadata = with_note(urls::LISTENER_NOTE, &note_of(listener, &message));
            Some(message)
        }
        Dialect::Grpc => listener.http.is_some().then(|| EnvoyListener {
            filter_chains: Vec::new(),
            default_filter_chain: None,
            ..unbound(listener, dialect)
        }),
        // Where TLS ends is no place for an Envoy: it would speak in clear, because leno gives no secrets out.
        Dialect::Envoy { .. } if !listener.terms.is_empty() => None,
        // Nor are datagrams, which Envoy proxies by other filters than connections.
        Dialect::Envoy { .. } if listener.udp => None,
        Dialect::Envoy { bind } => (listener.bind && listener.port > 0).then(|| bound(listener, bind, dialect)),
    }
}

/// Envoy's message as a listener.
pub fn from_envoy(message: EnvoyListener) -> Result<Listener, TranslateError> {
    let note: Option<ListenerNote> = note(urls::LISTENER_NOTE, message.metadata.as_ref())?;
    let mut listener = plain(message)?;
    if let Some(note) = note {
        let exact: Exact = exact_of(&note.exact)?;
        listener.service = (!note.service.is_empty()).then(|| service_of(&note.service)).transpose()?;
        listener.port = u16::try_from(note.port).map_err(|_| unusable("metadata", "names no port"))?;
        listener.bind = note.bind;
        listener.protocol = protocol_of(note.protocol);
        listener.tcp = exact.tcp.unwrap_or(listener.tcp);
        listener.idle_timeout = exact.idle_timeout.unwrap_or(listener.idle_timeout);
        listener.terms = exact.terms;
        listener.udp = exact.udp;
        listener.rate_limits = exact.rate_limits;
        listener.overload = exact.overload;
    }
    Ok(listener)
}

// To Envoy, below.

/// A listener that is reached in some other way than by a socket of its own.
fn unbound(listener: &Listener, dialect: Dialect) -> EnvoyListener {
    let http = listener.http.as_ref().map(|routes| http_manager(listener, routes, dialect));
    EnvoyListener {
        name: listener.name.to_string(),
        api_listener: http
            .map(|manager| ApiListener { api_listener: Some(Any::pack(urls::HTTP_CONNECTION_MANAGER, &manager)) }),
        filter_chains: listener.tls.iter().filter_map(|rule| tls_chain(listener, rule, dialect)).collect(),
        default_filter_chain: tcp_chain(listener),
        ..EnvoyListener::default()
    }
}

/// A listener with its socket: TLS by server name, HTTP by looking, everything else as bytes.
fn bound(listener: &Listener, bind: IpAddr, dialect: Dialect) -> EnvoyListener {
    let mut message = EnvoyListener {
        name: listener.name.to_string(),
        address: Some(address_to(SocketAddr::new(bind, listener.port))),
        ..EnvoyListener::default()
    };
    let mut seen = BTreeSet::new();
    for rule in &listener.tls {
        let chain = tls_chain(listener, rule, dialect).and_then(|chain| unseen(chain, &mut seen));
        message.filter_chains.extend(chain);
    }
    if !message.filter_chains.is_empty() {
        message.listener_filters.push(inspector("envoy.filters.listener.tls_inspector", urls::TLS_INSPECTOR));
    }
    let tcp = tcp_chain(listener);
    let http = listener.http.as_ref().map(|routes| http_chain(listener, routes, dialect));
    match (http, tcp) {
        (Some(mut http), Some(tcp)) => {
            http.filter_chain_match = Some(FilterChainMatch {
                application_protocols: ["http/1.0", "http/1.1", "h2c"].map(str::to_owned).to_vec(),
                ..FilterChainMatch::default()
            });
            message.filter_chains.push(http);
            message.default_filter_chain = Some(tcp);
            message.listener_filters.push(inspector("envoy.filters.listener.http_inspector", urls::HTTP_INSPECTOR));
        }
        (http, tcp) => message.default_filter_chain = http.or(tcp),
    }
    if !message.listener_filters.is_empty() {
        message.listener_filters_timeout = Some(INSPECT_TIMEOUT.into());
        message.continue_on_listener_filters_timeout = true;
    }
    message
}

/// The chain without the server names that earlier chains have, which Envoy would refuse; none when none is left.
fn unseen(mut chain: FilterChain, seen: &mut BTreeSet<String>) -> Option<FilterChain> {
    let names = &mut chain.filter_chain_match.as_mut()?.server_names;
    if names.is_empty() {
        return seen.insert(String::new()).then_some(chain);
    }
    names.retain(|name| seen.insert(name.clone()));
    (!names.is_empty()).then_some(chain)
}

fn inspector(name: &str, url: &str) -> ListenerFilter {
    ListenerFilter { name: name.to_owned(), typed_config: Some(Any::pack(url, &Empty {})) }
}

fn http_manager(listener: &Listener, routes: &Name, dialect: Dialect) -> HttpConnectionManager {
    let filter = |name: &str, url| HttpFilter {
        name: name.to_owned(),
        typed_config: Some(Any::pack(url, &Empty {})),
        is_optional: false,
    };
    let router = filter("envoy.filters.http.router", urls::ROUTER);
    let mut manager = HttpConnectionManager {
        stat_prefix: listener.name.to_string(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(by_ads()),
            route_config_name: routes.to_string(),
        })),
        http_filters: vec![router.clone()],
        stream_idle_timeout: Some(listener.idle_timeout.into()),
        ..HttpConnectionManager::default()
    };
    // What these do stands with routes.
    let faults = HttpFilter {
        name: injection::FILTER.to_owned(),
        typed_config: Some(injection::place()),
        is_optional: dialect == Dialect::Grpc,
    };
    if dialect == Dialect::Grpc {
        manager.http_filters = vec![faults, router];
    } else if matches!(dialect, Dialect::Envoy { .. }) {
        let sessions = filter(affinity::SESSION_FILTER, urls::STATEFUL_SESSION);
        let labels = filter(subset::FILTER, urls::HEADER_TO_METADATA);
        let limits = HttpFilter {
            name: rate_limit::FILTER.to_owned(),
            typed_config: Some(rate_limit::place()),
            is_optional: false,
        };
        manager.http_filters =
            vec![filter("envoy.filters.http.cors", urls::CORS), limits, faults, labels, sessions, router];
        manager.use_remote_address = Some(true);
        manager.upgrade_configs = vec![UpgradeConfig { upgrade_type: "websocket".to_owned() }];
    }
    manager
}

fn http_chain(listener: &Listener, routes: &Name, dialect: Dialect) -> FilterChain {
    let manager = Any::pack(urls::HTTP_CONNECTION_MANAGER, &http_manager(listener, routes, dialect));
    let filter =
        Filter { name: "envoy.filters.network.http_connection_manager".to_owned(), typed_config: Some(manager) };
    FilterChain { filters: vec![filter], name: "http".to_owned(), ..FilterChain::default() }
}

fn tcp_chain(listener: &Listener) -> Option<FilterChain> {
    let filters = vec![tcp_proxy(listener, &listener.tcp)?];
    Some(FilterChain { filters, name: "tcp".to_owned(), ..FilterChain::default() })
}

/// The chain of a TLS rule. A rule whose shares are all 0 gets one that leads nowhere: it must not fall through to
/// the next.
fn tls_chain(listener: &Listener, rule: &TlsRule, dialect: Dialect) -> Option<FilterChain> {
    let nowhere = [WeightedCluster {
        cluster: None,
        weight: 1,
        filters: Vec::new(),
        affinity: Default::default(),
        rate_limits: Default::default(),
        injections: Default::default(),
    }];
    let filter = tcp_proxy(listener, &rule.clusters).or_else(|| tcp_proxy(listener, &nowhere))?;
    let any = rule.hostnames.contains(&HostPattern::Any);
    let mut chain = FilterChain {
        name: format!("{}/{}", rule.origin.resource, rule.origin.rule),
        filter_chain_match: Some(FilterChainMatch {
            transport_protocol: "tls".to_owned(),
            server_names: if any { Vec::new() } else { rule.hostnames.iter().map(domain_to).collect() },
            ..FilterChainMatch::default()
        }),
        filters: vec![filter],
        metadata: None,
    };
    if dialect == Dialect::Leno {
        let plain = tls_rule(&chain, 0).ok();
        let hostnames = plain.as_ref().map(|plain| &plain.hostnames) != Some(&rule.hostnames);
        let clusters = plain.as_ref().map(|plain| &plain.clusters) != Some(&rule.clusters);
        let exact = ExactTls {
            hostnames: hostnames.then(|| rule.hostnames.clone()),
            clusters: clusters.then(|| rule.clusters.clone()),
        };
        chain.metadata = with_note(urls::RULE_NOTE, &rule_note(&rule.origin, exact_text(&exact)));
    }
    Some(chain)
}

/// The filter that passes bytes on; none when nothing has a share.
fn tcp_proxy(listener: &Listener, clusters: &[WeightedCluster]) -> Option<Filter> {
    let name = |cluster: &WeightedCluster| cluster.cluster.as_deref().unwrap_or(UNRESOLVED).to_owned();
    let specifier = match clusters {
        [only] if only.weight == 1 => TcpClusterSpecifier::Cluster(name(only)),
        _ => {
            // Envoy refuses a weight of 0 here.
            let clusters = clusters.iter().filter(|cluster| cluster.weight > 0);
            let clusters = clusters.map(|cluster| TcpClusterWeight { name: name(cluster), weight: cluster.weight });
            let clusters: Vec<_> = clusters.collect();
            if clusters.is_empty() {
                return None;
            }
            TcpClusterSpecifier::WeightedClusters(TcpWeightedCluster { clusters })
        }
    };
    let proxy = TcpProxy {
        stat_prefix: listener.name.to_string(),
        cluster_specifier: Some(specifier),
        idle_timeout: Some(listener.idle_timeout.into()),
        hash_policy: affinity::bytes_to(clusters),
    };
    Some(Filter {
        name: "envoy.filters.network.tcp_proxy".to_owned(),
        typed_config: Some(Any::pack(urls::TCP_PROXY, &proxy)),
    })
}

fn note_of(listener: &Listener, message: &EnvoyListener) -> ListenerNote {
    let plain = plain(message.clone()).ok();
    let tcp = plain.as_ref().map(|plain| &plain.tcp) != Some(&listener.tcp);
    let idle = plain.as_ref().map(|plain| plain.idle_timeout) != Some(listener.idle_timeout);
    let exact = Exact {
        tcp: tcp.then(|| listener.tcp.clone()),
        idle_timeout: idle.then_some(listener.idle_timeout),
        terms: listener.terms.clone(),
        udp: listener.udp,
        rate_limits: listener.rate_limits.clone(),
        overload: listener.overload.clone(),
    };
    ListenerNote {
        service: listener.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        port: listener.port.into(),
        bind: listener.bind,
        protocol: ProtocolNote::from(listener.protocol).into(),
        exact: exact_text(&exact),
    }
}

/// A rule's origin as a note.
pub(super) fn rule_note(origin: &Origin, exact: String) -> RuleNote {
    RuleNote {
        resource: origin.resource.to_string(),
        rule: origin.rule,
        name: origin.name.as_deref().map(str::to_owned),
        exact,
    }
}

/// A note as a rule's origin.
pub(super) fn origin_of(note: &RuleNote) -> Origin {
    Origin { resource: note.resource.as_str().into(), rule: note.rule, name: note.name.as_deref().map(Name::from) }
}

// From Envoy, below.

/// What the message says to whoever does not read the listener's note.
fn plain(message: EnvoyListener) -> Result<Listener, TranslateError> {
    if message.name.is_empty() {
        return Err(unusable("name", "is empty"));
    }
    let known = service_in_name(&message.name);
    let mut listener = Listener {
        service: known.as_ref().map(|(service, _)| service.clone()),
        port: known.map_or(0, |(_, port)| port),
        ..Listener::named(message.name)
    };
    if message.address.is_some() && message.api_listener.is_none() {
        listener.port = address_from(message.address)?.port();
        listener.bind = message.bind_to_port != Some(false);
    }
    if let Some(any) = message.api_listener.and_then(|api| api.api_listener) {
        let manager = any.unpack(urls::HTTP_CONNECTION_MANAGER);
        let manager = manager.ok_or_else(|| unusable("api_listener", "is not an HTTP connection manager"))??;
        take_http(&mut listener, manager).map_err(|error| error.within("api_listener"))?;
    }
    for (index, chain) in message.filter_chains.iter().enumerate() {
        take_chain(&mut listener, chain, index).map_err(|error| error.within(&format!("filter_chains[{index}]")))?;
    }
    if let Some(chain) = &message.default_filter_chain {
        take_chain(&mut listener, chain, 0).map_err(|error| error.within("default_filter_chain"))?;
    }
    Ok(listener)
}

fn take_http(listener: &mut Listener, manager: HttpConnectionManager) -> Result<(), TranslateError> {
    let Some(RouteSpecifier::Rds(rds)) = manager.route_specifier else {
        return Err(unusable("route_specifier", "leno takes routes by RDS only"));
    };
    if let Some(idle) = manager.stream_idle_timeout {
        listener.idle_timeout = duration_of("stream_idle_timeout", idle)?;
    }
    listener.http = Some(rds.route_config_name.into());
    Ok(())
}

fn take_chain(listener: &mut Listener, chain: &FilterChain, index: usize) -> Result<(), TranslateError> {
    let is_tls =
        chain.filter_chain_match.as_ref().is_some_and(|m| m.transport_protocol == "tls" || !m.server_names.is_empty());
    if let Some(manager) = filter_of(chain, urls::HTTP_CONNECTION_MANAGER)? {
        return if is_tls {
            Err(unusable("filter_chain_match", "leno passes TLS through and does not read HTTP inside"))
        } else {
            take_http(listener, manager)
        };
    }
    if is_tls {
        listener.tls.push(tls_rule(chain, index)?);
        return Ok(());
    }
    let proxy = filter_of::<TcpProxy>(chain, urls::TCP_PROXY)?;
    let proxy = proxy.ok_or_else(|| unusable("filters", "has neither an HTTP connection manager nor a TCP proxy"))?;
    if let Some(idle) = proxy.idle_timeout {
        listener.idle_timeout = duration_of("idle_timeout", idle)?;
    }
    listener.tcp = clusters_of(proxy);
    Ok(())
}

fn tls_rule(chain: &FilterChain, index: usize) -> Result<TlsRule, TranslateError> {
    let proxy: TcpProxy = filter_of(chain, urls::TCP_PROXY)?.ok_or_else(|| unusable("filters", "has no TCP proxy"))?;
    let names = chain.filter_chain_match.as_ref().map(|m| m.server_names.as_slice()).unwrap_or_default();
    let note: Option<RuleNote> = note(urls::RULE_NOTE, chain.metadata.as_ref())?;
    let exact: ExactTls = note.as_ref().map(|note| exact_of(&note.exact)).transpose()?.unwrap_or_default();
    let hostnames = match exact.hostnames {
        Some(hostnames) => hostnames,
        None => names.iter().map(|name| domain_from(name)).collect::<Result<_, _>>()?,
    };
    let resource = if chain.name.is_empty() { "xds" } else { &chain.name };
    let origin = Origin { resource: resource.into(), rule: index as u32, name: None };
    Ok(TlsRule {
        hostnames,
        clusters: exact.clusters.unwrap_or_else(|| clusters_of(proxy)),
        origin: note.as_ref().map_or(origin, origin_of),
    })
}

/// The chain's last filter, if it is of this type. Those before it are other servers' and mean nothing to leno.
fn filter_of<M: Message + Default>(chain: &FilterChain, url: &str) -> Result<Option<M>, TranslateError> {
    let config = chain.filters.last().and_then(|filter| filter.typed_config.as_ref());
    Ok(config.and_then(|config| config.unpack(url)).transpose()?)
}

fn clusters_of(proxy: TcpProxy) -> Vec<WeightedCluster> {
    let affinity = affinity::bytes_from(&proxy.hash_policy);
    let cluster = |name: String, weight| WeightedCluster {
        cluster: (name != UNRESOLVED).then(|| name.into()),
        weight,
        filters: Vec::new(),
        affinity: affinity.clone(),
        rate_limits: RateLimits::default(),
        injections: Default::default(),
    };
    match proxy.cluster_specifier {
        Some(TcpClusterSpecifier::Cluster(name)) => vec![cluster(name, 1)],
        Some(TcpClusterSpecifier::WeightedClusters(weighted)) => {
            weighted.clusters.into_iter().map(|share| cluster(share.name, share.weight)).collect()
        }
        None => Vec::new(),
    }
}
