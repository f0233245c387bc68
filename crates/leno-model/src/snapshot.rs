//! What one proxy is told: listeners, route configurations, clusters and endpoints, each by name and ready for use.
//!
//! Control makes these from resources and instances; `leno-xds` carries them as LDS, RDS, CDS and EDS; the proxy
//! builds its table from them. All choices (precedence, defaults, conflicts) have been made: rules stand in the
//! order in which they are tried. A resource is immutable and shared; its version is a hash of its content.
//!
//! Names: a destination is asked for as a caller spells its authority, `cart.shop.mesh` or `cart.shop.mesh:8080`;
//! that is the name of its [`Listener`]; what a proxy holds beside an instance it asks for as `inbound/cart.shop.mesh`.
//! Route configurations and clusters are canonical: `cart.shop.mesh:8080`, and `cart.shop.mesh:8080@v2` for a version.
//! Endpoints carry the name of their cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::instance::Protocol;
use crate::name::ServiceName;

mod affinity;
mod balancing;
mod degradation;
mod injection;
mod overload;
mod rate_limit;
mod resilience;
mod retry;

pub use affinity::{Affinity, Cookie, HashKey, HashSource, Session, SubsetKey};
pub use balancing::{Balancing, Expression, Fallback, Gives, LoadReports, SlowStart, Subsets};
pub use degradation::{Answers, Collapse, FallbackOn, StandIn};
pub use injection::{Abort, AbortWith, Bandwidth, Delay, Injection, Injections};
pub use overload::{Admission, Overload, Priority, PriorityRule, Shedding};
pub use rate_limit::{
    KeySource, Period, Rate, RateFallback, RateForm, RateLimit, RateLimits, RateShared, RateTell, WarmUp,
};
pub use resilience::{Breaker, Ejection, ForcedState, Limits, Queue, Resilience};
pub use retry::{Hedge, IDEMPOTENT, Retry, RetryBudget, RetryOn, SAFE};

/// A name in a snapshot.
pub type Name = Arc<str>;

/// How long a byte stream may stand still, and an unused connection is kept, where nothing else is said.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// One destination (mesh) or one bound port (gateway, foreign proxies), as its callers use it. LDS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// As it was asked for.
    pub name: Name,
    /// The service it leads to; none on a gateway.
    pub service: Option<ServiceName>,
    /// The service's port, or the gateway's.
    pub port: u16,
    /// Whether the proxy opens this port by itself (gateway) or reaches the listener through its outbound port (mesh).
    pub bind: bool,
    /// What callers speak here.
    pub protocol: Protocol,
    /// The route configuration for HTTP and gRPC, when the protocol can be one of them.
    pub http: Option<Name>,
    /// Where connections go that are not HTTP, when the protocol can be TCP; empty refuses them.
    pub tcp: Vec<WeightedCluster>,
    /// Where TLS connections go by their SNI, first match first; what matches none goes the way of `tcp`.
    pub tls: Vec<TlsRule>,
    /// What becomes of TLS by its server name on a port where it may end: the most specific name decides, and what has none
    /// is refused. Empty where TLS never ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<TlsTerms>,
    /// Whether the port is one of UDP: datagrams come there and no connections, and go where `tcp` says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub udp: bool,
    /// How long a byte stream or a session of datagrams may stand still. Default 1 h, and 1 min for datagrams.
    pub idle_timeout: Duration,
    /// How many requests the proxy beside the service lets in. Default without limit.
    #[serde(default, skip_serializing_if = "RateLimits::is_none")]
    pub rate_limits: RateLimits,
    /// What that proxy does where there is too much for the instance. Default nothing.
    #[serde(default, skip_serializing_if = "Overload::is_none")]
    pub overload: Overload,
}

/// TLS that passes through, chosen by server name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsRule {
    /// Exact names or `*.suffix`; empty matches every name.
    pub hostnames: Vec<HostPattern>,
    /// Where it goes.
    pub clusters: Vec<WeightedCluster>,
    /// The rule that said so.
    pub origin: Origin,
}

/// What becomes of TLS for some names. Certificates and roots are named, and lie on the proxy's machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TlsTerms {
    /// The names.
    pub host: HostPattern,
    /// What is done with it.
    pub then: TlsThen,
    /// The certificates among which the server name chooses; the first is for every other name.
    pub certificates: Vec<Name>,
    /// Whether clients show certificates.
    pub client: ClientCertificates,
}

/// What is done with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TlsThen {
    /// It ends, and HTTP is inside.
    Http,
    /// It ends, and what is inside goes where `tls` says.
    Bytes,
    /// It passes through, where `tls` says.
    Pass,
}

/// Whether clients show certificates, and of which bundles of roots.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    Unasked,
    /// They are asked, and served without one too.
    Optional(Vec<Name>),
    /// They are served with one that can be verified only.
    Required(Vec<Name>),
}

/// Routes of one destination or gateway port. RDS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteConfig {
    /// Its canonical name.
    pub name: Name,
    /// The most specific host that matches is taken, and only its rules are tried.
    pub hosts: Vec<VirtualHost>,
}

/// Rules for some host names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualHost {
    /// The names.
    pub hostnames: Vec<HostPattern>,
    /// In the order in which they are tried; the first that matches decides.
    pub rules: Vec<Rule>,
}

/// A host name to match: lower case, no port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HostPattern {
    /// Every name.
    Any,
    /// Exactly this name.
    Exact(Name),
    /// `*.example.com` as `example.com`: one label or more before it.
    Suffix(Name),
}

/// One match and what happens then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Where it was written.
    pub origin: Origin,
    /// When it applies.
    pub when: Match,
    /// Changes to requests and answers, in order.
    pub filters: Vec<RouteFilter>,
    /// What happens.
    pub action: Action,
    /// Time for the whole request with all tries; none is unlimited.
    pub request_timeout: Option<Duration>,
    /// Time for one try; none is unlimited.
    pub try_timeout: Option<Duration>,
    /// Retries asked for by policy; those that are always safe need none.
    pub retry: Option<Retry>,
}

/// Where a rule was written, for tables that people read and for logs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// `httproute/shop/cart`, or `default` for what leno does without a route.
    pub resource: Name,
    /// The index of the rule in the resource.
    pub rule: u32,
    /// The rule's own name, if it has one.
    pub name: Option<Name>,
}

/// The conditions of a rule, all of which must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Match {
    /// On the path.
    pub path: PathMatch,
    /// The method, as sent (methods are case-sensitive).
    pub method: Option<Name>,
    /// On fields; names are lower case.
    pub headers: Vec<KeyMatch>,
    /// On query parameters, the first of a name.
    pub query: Vec<KeyMatch>,
}

/// A condition on a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathMatch {
    /// The whole path.
    Exact(Name),
    /// Whole segments: `/a` matches `/a` and `/a/b`, not `/ab`. `/` matches all.
    Prefix(Name),
    /// A regular expression (RE2 syntax) that matches the whole path.
    Regex(Name),
}

/// A condition on the value of a named thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyMatch {
    /// The field (lower case) or parameter (as written).
    pub name: Name,
    /// Its value.
    pub value: ValueMatch,
}

/// A condition on a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueMatch {
    /// Exactly this.
    Exact(Name),
    /// A regular expression (RE2 syntax) that matches the whole value.
    Regex(Name),
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Sends the request to one of these by weight.
    Forward(Vec<WeightedCluster>),
    /// Answers with a redirect.
    Redirect(Redirect),
    /// Answers so.
    Reply(DirectReply),
    /// Answers with this status: the route has no backend that could be used. (Gateway API: 500.)
    Refuse {
        /// The status.
        status: u16,
        /// Why, for a person.
        reason: Name,
    },
}

/// An answer that a proxy makes itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectReply {
    /// The status, 200 to 599.
    pub status: u16,
    /// What the body is.
    pub content_type: Name,
    /// More fields. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<(Name, Name)>,
    /// The body, and the message of a call of gRPC; at most 4096 bytes.
    pub body: Name,
    /// The status of a call of gRPC. Default UNAVAILABLE.
    #[serde(default = "unavailable", skip_serializing_if = "is_unavailable")]
    pub grpc_status: u8,
}

fn unavailable() -> u8 {
    14
}

fn is_unavailable(status: &u8) -> bool {
    *status == unavailable()
}

/// A destination with its share. Shares are relative to their sum; 0 takes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightedCluster {
    /// The cluster; none where the reference could not be resolved, whose share is answered with 500.
    pub cluster: Option<Name>,
    /// 0 to 1,000,000.
    pub weight: u32,
    /// Filters for this destination only.
    pub filters: Vec<RouteFilter>,
    /// What binds requests to its endpoints. Default nothing.
    #[serde(default, skip_serializing_if = "Affinity::is_none")]
    pub affinity: Affinity,
    /// How many requests a caller sends there. Default without limit.
    #[serde(default, skip_serializing_if = "RateLimits::is_none")]
    pub rate_limits: RateLimits,
    /// What goes wrong on purpose with requests there. Default nothing.
    #[serde(default, skip_serializing_if = "Injections::is_none")]
    pub injections: Injections,
}

/// A change on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteFilter {
    /// Changes the fields of the request.
    RequestHeaders(HeaderChange),
    /// Changes the fields of the answer.
    ResponseHeaders(HeaderChange),
    /// Changes what the destination is asked for.
    Rewrite(Rewrite),
    /// Sends a copy to another cluster and ignores its answer.
    Mirror(Mirror),
    /// Answers preflights and adds CORS fields (Fetch standard).
    Cors(Cors),
}

/// Changes to fields: set, then add, then remove.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeaderChange {
    /// Replaces all fields of the name.
    pub set: Vec<(Name, Name)>,
    /// Adds one more.
    pub add: Vec<(Name, Name)>,
    /// Removes all of the name.
    pub remove: Vec<Name>,
}

/// What a redirect answers with; absent parts are kept from the request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Name>,
    /// The host.
    pub hostname: Option<Name>,
    /// The path.
    pub path: Option<PathRewrite>,
    /// The port.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// What the destination is asked for instead.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rewrite {
    /// The authority.
    pub hostname: Option<Name>,
    /// The path; the query is kept.
    pub path: Option<PathRewrite>,
}

/// How a path changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathRewrite {
    /// Replaces all of it.
    Full(Name),
    /// Replaces the prefix that matched.
    Prefix(Name),
}

/// A copy to another cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// Where it goes.
    pub cluster: Name,
    /// The share of requests that is copied: `numerator / denominator`.
    pub numerator: u32,
    /// At least 1.
    pub denominator: u32,
}

/// Cross-origin resource sharing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cors {
    /// `*`, `scheme://host[:port]`, or with `*` for labels of the host.
    pub allow_origins: Vec<Name>,
    /// Methods, or `*`.
    pub allow_methods: Vec<Name>,
    /// Field names, or `*`.
    pub allow_headers: Vec<Name>,
    /// Field names, or `*`.
    pub expose_headers: Vec<Name>,
    /// Whether credentials may be sent.
    pub allow_credentials: bool,
    /// How long a preflight may be remembered. Default 5 s.
    pub max_age: Duration,
}

/// A group of endpoints that are used alike. CDS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Canonical: `cart.shop.mesh:8080`, `cart.shop.mesh:8080@v2`.
    pub name: Name,
    /// The service, for metrics and logs.
    pub service: ServiceName,
    /// The service's port.
    pub port: u16,
    /// What its applications speak.
    pub protocol: Protocol,
    /// How an endpoint is chosen.
    pub balance: BalancePolicy,
    /// Time for a connection to be made. Default 5 s.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept. Default 1 h.
    pub idle_timeout: Duration,
    /// TLS towards its applications. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
    /// The PROXY header that its applications take at the beginning of a byte stream; nothing else leads to them then.
    /// Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// What keeps trouble with it from spreading. Default nothing.
    #[serde(default, skip_serializing_if = "Resilience::is_none")]
    pub resilience: Resilience,
    /// What balancing does beside choosing by the policy. Default nothing.
    #[serde(default, skip_serializing_if = "Balancing::is_none")]
    pub balancing: Balancing,
}

/// The forms of a PROXY header, which says whose connection a proxy carries on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Bytes.
    V2,
}

/// TLS towards applications.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UpstreamTls {
    /// The name that is asked for, and that the certificate must have unless `names` says otherwise.
    pub server_name: Name,
    /// Names of DNS, and URIs (which have a `:`, as no such name has), of which the certificate must have one, instead.
    pub names: Vec<Name>,
    /// Who must have signed it.
    pub roots: Roots,
}

/// Roots that are believed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Roots {
    /// Those of the operating system that the proxy runs on.
    System,
    /// Those of these bundles on the proxy's machine.
    Bundles(Vec<Name>),
}

/// How an endpoint is chosen. All honour weights, but `weightedRoundRobin` not those of endpoints that report their load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BalancePolicy {
    /// The better of two random ones by latency × open requests (peak EWMA, as Finagle and Linkerd).
    #[default]
    PeakEwma,
    /// The one of two random ones with fewer open requests.
    LeastRequest,
    /// Of all of them, the one with the fewest open requests (Ribbon's `BestAvailableRule`).
    BestAvailable,
    /// In turn.
    RoundRobin,
    /// In turn, as often as each could serve by the load that it reports (ORCA).
    WeightedRoundRobin,
    /// In turn, the less often the longer each takes on average (Ribbon's `WeightedResponseTimeRule`).
    WeightedResponseTime,
    /// At random.
    Random,
    /// By hash of what the request has, on a ring (ketama); the same key meets the same endpoint.
    RingHash,
    /// By hash of what the request has, in a table (Maglev); the same key meets the same endpoint, and shares are even.
    Maglev,
    /// By what an expression says of each (CEL): a cost, of which the least is chosen, or a weight.
    Expression,
}

/// The members of a cluster. EDS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// The cluster's name.
    pub cluster: Name,
    /// Its members, sorted by id.
    pub endpoints: Vec<Endpoint>,
}

/// One address of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// The instance's id.
    pub id: Name,
    /// Where the application listens.
    pub address: SocketAddr,
    /// The way through the instance's proxy, if it has one; taken by preference.
    pub proxy: Option<SocketAddr>,
    /// Its share; 0 takes nothing.
    pub weight: u32,
    /// Whether it takes new requests.
    pub health: EndpointHealth,
    /// The instance's version.
    pub version: Option<Name>,
    /// The instance's zone.
    pub zone: Option<Name>,
    /// The instance's region.
    pub region: Option<Name>,
    /// Whom it comes after: endpoints of a greater number take what those of a lesser one cannot.
    #[serde(default)]
    pub priority: u32,
    /// The share of the locality that it is in, beside those of the same priority; where the cluster looks at that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality_weight: Option<u32>,
    /// The label by which it is in a subset, and its value; where the cluster has subsets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<(Name, Name)>,
    /// Its labels that the cluster's expression looks at, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(Name, Name)>,
}

/// Whether an endpoint takes new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointHealth {
    /// Takes requests.
    #[default]
    Healthy,
    /// Takes none: its probe fails.
    Unhealthy,
    /// Finishes what it has.
    Draining,
}

// === impl Listener ===

impl Listener {
    /// One that leads nowhere yet, reached through the outbound port.
    pub fn named(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            service: None,
            port: 0,
            bind: false,
            protocol: Protocol::Detect,
            http: None,
            tcp: Vec::new(),
            tls: Vec::new(),
            terms: Vec::new(),
            udp: false,
            idle_timeout: IDLE_TIMEOUT,
            rate_limits: RateLimits::default(),
            overload: Overload::default(),
        }
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// Its share where nothing else is said.
    pub const WEIGHT: u32 = 100;

    /// A healthy one without a proxy, of which no more is known.
    pub fn at(id: impl Into<Name>, address: SocketAddr) -> Self {
        Self {
            id: id.into(),
            address,
            proxy: None,
            weight: Self::WEIGHT,
            health: EndpointHealth::Healthy,
            version: None,
            zone: None,
            region: None,
            priority: 0,
            locality_weight: None,
            subset: None,
            labels: Vec::new(),
        }
    }
}

// === impl ClientCertificates ===

impl ClientCertificates {
    /// The bundles of roots that it names.
    pub fn bundles(&self) -> &[Name] {
        match self {
            Self::Unasked => &[],
            Self::Optional(bundles) | Self::Required(bundles) => bundles,
        }
    }
}

// === impl Roots ===

impl Roots {
    /// The bundles that it names.
    pub fn bundles(&self) -> &[Name] {
        match self {
            Self::System => &[],
            Self::Bundles(bundles) => bundles,
        }
    }
}

// === impl PathMatch ===

impl Default for PathMatch {
    fn default() -> Self {
        Self::Prefix("/".into())
    }
}
