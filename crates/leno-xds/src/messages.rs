//! Envoy's messages: the subset in use, written by hand with the tags of the v3 API.
//!
//! Generated code for all of it is 89,000 lines; this is what leno says and reads. A field that stands here is read
//! or written somewhere; others are skipped when they come in. What a field means is said in Envoy's API reference.
//! Maps are ordered, so that equal messages have equal bytes.

#![allow(missing_docs, reason = "fields are named and documented by Envoy's API reference")]

pub mod cluster;
pub mod core;
pub mod discovery;
pub mod endpoint;
pub mod fault;
pub mod header_to_metadata;
pub mod listener;
pub mod note;
pub mod rate_limit;
pub mod route;
pub mod session;
pub mod wkt;

/// The URLs by which messages inside `Any` are named.
pub mod urls {
    pub const HTTP_CONNECTION_MANAGER: &str =
        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    pub const TCP_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    pub const TLS_INSPECTOR: &str =
        "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
    pub const HTTP_INSPECTOR: &str =
        "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector";
    pub const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    pub const CORS: &str = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors";
    pub const LOCAL_RATE_LIMIT: &str =
        "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
    pub const HEADER_TO_METADATA: &str =
        "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config";
    pub const HTTP_FAULT: &str = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
    pub const STATEFUL_SESSION: &str =
        "type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSession";
    pub const STATEFUL_SESSION_PER_ROUTE: &str =
        "type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute";
    pub const COOKIE_SESSION: &str =
        "type.googleapis.com/envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState";
    pub const HEADER_SESSION: &str =
        "type.googleapis.com/envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState";
    pub const CORS_POLICY: &str = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy";
    pub const HTTP_PROTOCOL_OPTIONS: &str =
        "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    pub const PREVIOUS_HOSTS: &str =
        "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
    pub const TYPED_STRUCT: &str = "type.googleapis.com/xds.type.v3.TypedStruct";
    pub const LEAST_REQUEST: &str =
        "type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest";
    pub const ROUND_ROBIN: &str =
        "type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin";
    pub const RANDOM: &str = "type.googleapis.com/envoy.extensions.load_balancing_policies.random.v3.Random";
    pub const RING_HASH: &str = "type.googleapis.com/envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash";
    pub const WEIGHTED_ROUND_ROBIN: &str = "type.googleapis.com/envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin";
    pub const MAGLEV: &str = "type.googleapis.com/envoy.extensions.load_balancing_policies.maglev.v3.Maglev";
    pub const WRR_LOCALITY: &str =
        "type.googleapis.com/envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality";

    pub const LISTENER_NOTE: &str = "type.googleapis.com/leno.mesh.v1.ListenerNote";
    pub const VIRTUAL_HOST_NOTE: &str = "type.googleapis.com/leno.mesh.v1.VirtualHostNote";
    pub const RULE_NOTE: &str = "type.googleapis.com/leno.mesh.v1.RuleNote";
    pub const CLUSTER_NOTE: &str = "type.googleapis.com/leno.mesh.v1.ClusterNote";
    pub const ENDPOINT_NOTE: &str = "type.googleapis.com/leno.mesh.v1.EndpointNote";
}
