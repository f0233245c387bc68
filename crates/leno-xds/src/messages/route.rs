//! `envoy.config.route.v3` and the CORS policy.

use std::collections::BTreeMap;

use super::core::{
    DataSource, HeaderValueOption, Metadata, RegexMatchAndSubstitute, RegexMatcher, RuntimeFractionalPercent,
    StringMatcher,
};
use super::wkt::{Any, Duration};

/// Routes of a listener.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RouteConfiguration {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, repeated, tag = "2")]
    pub virtual_hosts: Vec<VirtualHost>,
    #[prost(bool, tag = "14")]
    pub ignore_port_in_host_matching: bool,
    #[prost(message, optional, tag = "17")]
    pub metadata: Option<Metadata>,
}

/// Routes of some hosts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VirtualHost {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "2")]
    pub domains: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub routes: Vec<Route>,
    #[prost(message, optional, tag = "24")]
    pub metadata: Option<Metadata>,
}

/// A match and what happens then.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Route {
    #[prost(message, optional, tag = "1")]
    pub r#match: Option<RouteMatch>,
    #[prost(oneof = "Action", tags = "2, 3, 7")]
    pub action: Option<Action>,
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<Metadata>,
    #[prost(message, repeated, tag = "9")]
    pub request_headers_to_add: Vec<HeaderValueOption>,
    #[prost(message, repeated, tag = "10")]
    pub response_headers_to_add: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "11")]
    pub response_headers_to_remove: Vec<String>,
    #[prost(string, repeated, tag = "12")]
    pub request_headers_to_remove: Vec<String>,
    #[prost(btree_map = "string, message", tag = "13")]
    pub typed_per_filter_config: BTreeMap<String, Any>,
    #[prost(string, tag = "14")]
    pub name: String,
}

/// What a route does.
#[expect(clippy::large_enum_variant, reason = "nearly every route forwards, and few exist at a time")]
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Action {
    #[prost(message, tag = "2")]
    Route(RouteAction),
    #[prost(message, tag = "3")]
    Redirect(RedirectAction),
    #[prost(message, tag = "7")]
    DirectResponse(DirectResponseAction),
}

/// When a route applies.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RouteMatch {
    #[prost(oneof = "PathSpecifier", tags = "1, 2, 10, 14")]
    pub path_specifier: Option<PathSpecifier>,
    #[prost(message, optional, tag = "4")]
    pub case_sensitive: Option<bool>,
    #[prost(message, repeated, tag = "6")]
    pub headers: Vec<HeaderMatcher>,
    #[prost(message, repeated, tag = "7")]
    pub query_parameters: Vec<QueryParameterMatcher>,
    #[prost(message, optional, tag = "9")]
    pub runtime_fraction: Option<RuntimeFractionalPercent>,
}

/// The ways to match a path.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum PathSpecifier {
    #[prost(string, tag = "1")]
    Prefix(String),
    #[prost(string, tag = "2")]
    Path(String),
    #[prost(message, tag = "10")]
    SafeRegex(RegexMatcher),
    #[prost(string, tag = "14")]
    PathSeparatedPrefix(String),
}

/// A condition on a field.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeaderMatcher {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(oneof = "HeaderMatchSpecifier", tags = "4, 7, 11, 13")]
    pub header_match_specifier: Option<HeaderMatchSpecifier>,
    #[prost(bool, tag = "8")]
    pub invert_match: bool,
}

/// The ways to match a field.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum HeaderMatchSpecifier {
    #[prost(string, tag = "4")]
    Exact(String),
    #[prost(bool, tag = "7")]
    Present(bool),
    #[prost(message, tag = "11")]
    SafeRegex(RegexMatcher),
    #[prost(message, tag = "13")]
    String(StringMatcher),
}

/// A condition on a query parameter.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueryParameterMatcher {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(oneof = "QueryMatchSpecifier", tags = "5, 6")]
    pub query_parameter_match_specifier: Option<QueryMatchSpecifier>,
}

/// The ways to match a query parameter.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum QueryMatchSpecifier {
    #[prost(message, tag = "5")]
    String(StringMatcher),
    #[prost(bool, tag = "6")]
    Present(bool),
}

/// Sends a request on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RouteAction {
    #[prost(oneof = "ClusterSpecifier", tags = "1, 3")]
    pub cluster_specifier: Option<ClusterSpecifier>,
    #[prost(string, tag = "5")]
    pub prefix_rewrite: String,
    #[prost(oneof = "HostRewriteSpecifier", tags = "6")]
    pub host_rewrite_specifier: Option<HostRewriteSpecifier>,
    #[prost(message, optional, tag = "8")]
    pub timeout: Option<Duration>,
    #[prost(message, optional, tag = "9")]
    pub retry_policy: Option<RetryPolicy>,
    #[prost(message, repeated, tag = "15")]
    pub hash_policy: Vec<HashPolicy>,
    #[prost(enumeration = "ClusterNotFound", tag = "20")]
    pub cluster_not_found_response_code: i32,
    #[prost(message, optional, tag = "27")]
    pub hedge_policy: Option<HedgePolicy>,
    #[prost(message, repeated, tag = "30")]
    pub request_mirror_policies: Vec<RequestMirrorPolicy>,
    #[prost(message, optional, tag = "32")]
    pub regex_rewrite: Option<RegexMatchAndSubstitute>,
    #[prost(message, optional, tag = "36")]
    pub max_stream_duration: Option<MaxStreamDuration>,
}

/// Where a request goes.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ClusterSpecifier {
    #[prost(string, tag = "1")]
    Cluster(String),
    #[prost(message, tag = "3")]
    WeightedClusters(WeightedCluster),
}

/// A part of what is hashed to choose an endpoint.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HashPolicy {
    #[prost(oneof = "HashPolicySpecifier", tags = "1, 2, 3, 5")]
    pub policy_specifier: Option<HashPolicySpecifier>,
    #[prost(bool, tag = "4")]
    pub terminal: bool,
}

/// Where that stands.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum HashPolicySpecifier {
    #[prost(message, tag = "1")]
    Header(HashPolicyHeader),
    #[prost(message, tag = "2")]
    Cookie(HashPolicyCookie),
    #[prost(message, tag = "3")]
    ConnectionProperties(ConnectionProperties),
    #[prost(message, tag = "5")]
    QueryParameter(HashPolicyQuery),
}

/// A field.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HashPolicyHeader {
    #[prost(string, tag = "1")]
    pub header_name: String,
    #[prost(message, optional, tag = "2")]
    pub regex_rewrite: Option<RegexMatchAndSubstitute>,
}

/// A cookie.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HashPolicyCookie {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub ttl: Option<Duration>,
    #[prost(string, tag = "3")]
    pub path: String,
}

/// The connection.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ConnectionProperties {
    #[prost(bool, tag = "1")]
    pub source_ip: bool,
}

/// A parameter of the query.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HashPolicyQuery {
    #[prost(string, tag = "1")]
    pub name: String,
}

/// What the host is replaced with.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum HostRewriteSpecifier {
    #[prost(string, tag = "6")]
    Literal(String),
}

/// The answer when the cluster is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ClusterNotFound {
    ServiceUnavailable = 0,
    NotFound = 1,
    InternalServerError = 2,
}

/// gRPC's reading of a route's timeout.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct MaxStreamDuration {
    #[prost(message, optional, tag = "1")]
    pub max_stream_duration: Option<Duration>,
    #[prost(message, optional, tag = "2")]
    pub grpc_timeout_header_max: Option<Duration>,
}

/// Destinations with their shares.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WeightedCluster {
    #[prost(message, repeated, tag = "1")]
    pub clusters: Vec<ClusterWeight>,
}

/// A destination with its share.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClusterWeight {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub weight: Option<u32>,
    #[prost(message, repeated, tag = "4")]
    pub request_headers_to_add: Vec<HeaderValueOption>,
    #[prost(message, repeated, tag = "5")]
    pub response_headers_to_add: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "6")]
    pub response_headers_to_remove: Vec<String>,
    #[prost(string, repeated, tag = "9")]
    pub request_headers_to_remove: Vec<String>,
    #[prost(btree_map = "string, message", tag = "10")]
    pub typed_per_filter_config: BTreeMap<String, Any>,
    #[prost(oneof = "ClusterWeightHostRewrite", tags = "11")]
    pub host_rewrite_specifier: Option<ClusterWeightHostRewrite>,
}

/// What the host is replaced with for this destination.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ClusterWeightHostRewrite {
    #[prost(string, tag = "11")]
    Literal(String),
}

/// A copy of requests.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RequestMirrorPolicy {
    #[prost(string, tag = "1")]
    pub cluster: String,
    #[prost(message, optional, tag = "3")]
    pub runtime_fraction: Option<RuntimeFractionalPercent>,
}

/// Retries.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RetryPolicy {
    #[prost(string, tag = "1")]
    pub retry_on: String,
    #[prost(message, optional, tag = "2")]
    pub num_retries: Option<u32>,
    #[prost(message, optional, tag = "3")]
    pub per_try_timeout: Option<Duration>,
    #[prost(message, repeated, tag = "5")]
    pub retry_host_predicate: Vec<RetryHostPredicate>,
    #[prost(int64, tag = "6")]
    pub host_selection_retry_max_attempts: i64,
    #[prost(uint32, repeated, tag = "7")]
    pub retriable_status_codes: Vec<u32>,
    #[prost(message, optional, tag = "8")]
    pub retry_back_off: Option<RetryBackOff>,
    /// Of these a request must have one to be tried again.
    #[prost(message, repeated, tag = "10")]
    pub retriable_request_headers: Vec<HeaderMatcher>,
    #[prost(message, optional, tag = "11")]
    pub rate_limited_retry_back_off: Option<RateLimitedRetryBackOff>,
}

/// Tries beside others.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct HedgePolicy {
    /// A try that takes too long is not given up when the next one is sent.
    #[prost(bool, tag = "3")]
    pub hedge_on_per_try_timeout: bool,
}

/// Which hosts a retry avoids.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RetryHostPredicate {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "3")]
    pub typed_config: Option<Any>,
}

/// The wait that an answer asks for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RateLimitedRetryBackOff {
    #[prost(message, repeated, tag = "1")]
    pub reset_headers: Vec<ResetHeader>,
    #[prost(message, optional, tag = "2")]
    pub max_interval: Option<Duration>,
}

/// The field in which it does.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResetHeader {
    #[prost(string, tag = "1")]
    pub name: String,
    /// 0 is seconds.
    #[prost(int32, tag = "2")]
    pub format: i32,
}

/// The wait between tries.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RetryBackOff {
    #[prost(message, optional, tag = "1")]
    pub base_interval: Option<Duration>,
    #[prost(message, optional, tag = "2")]
    pub max_interval: Option<Duration>,
}

/// Answers with a redirect.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RedirectAction {
    #[prost(string, tag = "1")]
    pub host_redirect: String,
    #[prost(oneof = "RedirectPath", tags = "2, 5, 9")]
    pub path_rewrite_specifier: Option<RedirectPath>,
    #[prost(enumeration = "RedirectResponseCode", tag = "3")]
    pub response_code: i32,
    #[prost(oneof = "RedirectScheme", tags = "4, 7")]
    pub scheme_rewrite_specifier: Option<RedirectScheme>,
    #[prost(bool, tag = "6")]
    pub strip_query: bool,
    #[prost(uint32, tag = "8")]
    pub port_redirect: u32,
}

/// What the path is replaced with.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum RedirectPath {
    #[prost(string, tag = "2")]
    Path(String),
    #[prost(string, tag = "5")]
    Prefix(String),
    #[prost(message, tag = "9")]
    Regex(RegexMatchAndSubstitute),
}

/// What the scheme is replaced with.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum RedirectScheme {
    #[prost(bool, tag = "4")]
    Https(bool),
    #[prost(string, tag = "7")]
    Scheme(String),
}

/// The statuses of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum RedirectResponseCode {
    MovedPermanently = 0,
    Found = 1,
    SeeOther = 2,
    TemporaryRedirect = 3,
    PermanentRedirect = 4,
}

/// Answers by itself.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DirectResponseAction {
    #[prost(uint32, tag = "1")]
    pub status: u32,
    #[prost(message, optional, tag = "2")]
    pub body: Option<DataSource>,
}

/// `envoy.extensions.filters.http.cors.v3.CorsPolicy`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CorsPolicy {
    #[prost(message, repeated, tag = "1")]
    pub allow_origin_string_match: Vec<StringMatcher>,
    #[prost(string, tag = "2")]
    pub allow_methods: String,
    #[prost(string, tag = "3")]
    pub allow_headers: String,
    #[prost(string, tag = "4")]
    pub expose_headers: String,
    #[prost(string, tag = "5")]
    pub max_age: String,
    #[prost(message, optional, tag = "6")]
    pub allow_credentials: Option<bool>,
}
