//! What can go wrong on the request path. Each failure knows its flag and words; `reply.rs` alone turns it into an
//! answer.

use std::time::Duration;

use leno_http::Fields;
use leno_http::grpc::{Code, Status};
use leno_model::snapshot::{AbortWith, FallbackOn, Priority};
use leno_telemetry::Flag;

use crate::overload;
use crate::rate_limit::OverLimit;

/// Why a request or connection got no answer from an endpoint.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// No service of this name.
    #[error("no service {0} in the mesh")]
    NoService(String),
    /// Nobody could say yet whether there is such a service.
    #[error("no word about {name} from the control plane after {waited:?}")]
    NotSynced {
        /// The name that was asked for.
        name: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The request names no host.
    #[error("the request names no host")]
    NoHost,
    /// The policy is to reach nothing outside the mesh, or what may never be reached.
    #[error("{0} is outside the mesh and not allowed")]
    Denied(String),
    /// No route matches.
    #[error("no route of {0} matches")]
    NoRoute(String),
    /// The route says to refuse.
    #[error("{1}")]
    Refused(u16, String),
    /// A reference that leads nowhere.
    #[error("a backend of route {0} does not exist")]
    Unresolved(String),
    /// Nobody to send to.
    #[error("none of the {known} instances of {cluster} takes requests")]
    NoEndpoint {
        /// The cluster.
        cluster: String,
        /// How many it has, healthy or not.
        known: usize,
    },
    /// As much of the cluster is in use as may be, and nobody else may wait.
    #[error("{max} requests to {cluster} are open, which is its limit")]
    Overflow {
        /// The cluster.
        cluster: String,
        /// Its limit.
        max: u32,
    },
    /// As many connections are open as may be, and nobody else may wait for one.
    #[error("{max} connections to {cluster} are open, which is its limit")]
    ConnectionOverflow {
        /// The cluster.
        cluster: String,
        /// Its limit.
        max: u32,
    },
    /// As much of the cluster was in use as may be, for as long as a request may wait.
    #[error("waited {waited:?} for one of what is open to {cluster} to end")]
    QueueTimeout {
        /// The cluster.
        cluster: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The cluster failed too often to be asked now.
    #[error("{cluster} failed too often: its breaker is open for {left:?} more")]
    BreakerOpen {
        /// The cluster.
        cluster: String,
        /// How long it is open at least.
        left: Duration,
    },
    /// The cluster would not have done the request.
    #[error("{cluster} does so few of the requests it gets that {share} of 100 are not sent")]
    HeldBack {
        /// The cluster.
        cluster: String,
        /// The percentage.
        share: u32,
    },
    /// The instance has more to do than it can.
    #[error("{service} has more to do here than it can, and a request of priority {} is shed: come again in 1 s", .priority.text())]
    Shed {
        /// The service.
        service: String,
        /// How much the request mattered.
        priority: Priority,
    },
    /// The proxy is short of memory.
    #[error("this proxy is short of memory, and a request of priority {} is shed: come again in 1 s", .0.text())]
    Short(Priority),
    /// The proxy has more to do than it can.
    #[error("this proxy has more to do than it can, and a request of priority {} is shed: come again in 1 s", .0.text())]
    Busy(Priority),
    /// The reader of the answer took nothing while the proxy was short of memory.
    #[error("the answer was given up: its reader took nothing while memory was short")]
    GivenUp,
    /// A policy holds the breaker of the cluster open.
    #[error("{0} is not asked: its policy holds its breaker open")]
    BreakerHeldOpen(String),
    /// It answered, and something is to stand in for that.
    #[error("{cluster} answered {}", match grpc_status { Some(grpc) => format!("with gRPC status {grpc}"), None => status.to_string() })]
    Unwanted {
        /// The cluster.
        cluster: String,
        /// The status of its answer.
        status: u16,
        /// The status of gRPC that it had.
        grpc_status: Option<u8>,
        /// Why something is to stand in.
        why: FallbackOn,
    },
    /// A limit on requests is used up.
    #[error("{0}")]
    OverLimit(Box<OverLimit>),
    /// It was answered on purpose as if it had failed.
    #[error("aborted on purpose, as a FaultPolicy for {0} says")]
    Injected(String, AbortWith),
    /// A connection could not be made.
    #[error("connect to {to} (cluster {cluster}), try {tried}: {cause}")]
    Connect {
        /// The address; never shown at gateways.
        to: String,
        /// The cluster.
        cluster: String,
        /// Tries so far.
        tried: u32,
        /// Why.
        cause: leno_http::Error,
    },
    /// The exchange with the endpoint broke.
    #[error("{to} (cluster {cluster}): {cause}")]
    Upstream {
        /// The address; never shown at gateways.
        to: String,
        /// The cluster.
        cluster: String,
        /// Why.
        cause: leno_http::Error,
    },
    /// The client's side broke.
    #[error("client: {0}")]
    Downstream(leno_http::Error),
    /// Out of time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// One try out of time.
    #[error("no answer to a try within {0:?}")]
    TryTimeout(Duration),
    /// Too many proxies on the way.
    #[error("the request has passed {0} proxies: it goes round in a circle")]
    Loop(u32),
    /// Its path or fields may be read in more than one way, or have this hop drop what must arrive.
    #[error("{0}")]
    BadRequest(String),
    /// A host that is served on other terms of TLS than the connection has.
    #[error("{host} is not served on a connection for {made_for}: open another one")]
    Misdirected {
        /// The host that was asked for.
        host: String,
        /// The name of the connection.
        made_for: String,
    },
    /// CONNECT at a gateway: a tunnel would carry requests past its rules.
    #[error("CONNECT is not served at a gateway")]
    NoTunnel,
    /// The name of an outside host did not resolve.
    #[error("{name} does not resolve: {cause}")]
    Resolve {
        /// The name.
        name: String,
        /// What the host's resolver said.
        cause: String,
    },
    /// Nobody said in time whether the name of an outside host resolves.
    #[error("no word about {name} from the name servers of this machine after {waited:?}")]
    ResolveTimeout {
        /// The name.
        name: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The name of an outside host was not looked up.
    #[error("{name} is not looked up while the name servers of this machine owe answers for {under_way} other names")]
    ResolveFull {
        /// The name.
        name: String,
        /// Names that are being looked up.
        under_way: usize,
    },
}

// === impl Failure ===

impl Failure {
    /// The flag of the access log.
    pub(crate) fn flag(&self) -> Flag {
        match self {
            Self::NoService(_) => Flag::NoCluster,
            Self::NotSynced { .. } => Flag::NotSynced,
            Self::NoHost | Self::BadRequest(_) | Self::NoTunnel => Flag::BadRequest,
            Self::Misdirected { .. } => Flag::Misdirected,
            Self::Denied(_) => Flag::DestinationDenied,
            Self::NoRoute(_) => Flag::NoRoute,
            Self::Refused(..) | Self::Unresolved(_) => Flag::UnresolvedReference,
            Self::NoEndpoint { .. } => Flag::NoHealthyEndpoint,
            Self::Overflow { .. } | Self::ConnectionOverflow { .. } => Flag::RequestOverflow,
            Self::QueueTimeout { .. } => Flag::QueueTimeout,
            Self::BreakerOpen { .. } | Self::BreakerHeldOpen(_) => Flag::BreakerOpen,
            Self::Unwanted { .. } => Flag::Unwanted,
            Self::OverLimit(_) => Flag::RateLimited,
            Self::Shed { .. } | Self::Short(_) | Self::Busy(_) | Self::GivenUp => Flag::Overloaded,
            Self::Injected(..) => Flag::FaultAbort,
            Self::HeldBack { .. } => Flag::HeldBack,
            Self::Connect { cause, .. } if cause.is_timeout() || is_timed_out(cause) => Flag::ConnectTimeout,
            Self::Connect { .. } => Flag::ConnectFailure,
            Self::Upstream { cause, .. } => upstream_flag(cause),
            Self::Downstream(_) => Flag::DownstreamClosed,
            Self::Timeout(_) => Flag::RequestTimeout,
            Self::TryTimeout(_) => Flag::TryTimeout,
            Self::Loop(_) => Flag::Loop,
            Self::Resolve { .. } => Flag::DnsFailure,
            Self::ResolveTimeout { .. } => Flag::DnsTimeout,
            Self::ResolveFull { .. } => Flag::DnsOverflow,
        }
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::NoService(_) | Self::NoRoute(_) => 404,
            Self::NoHost | Self::BadRequest(_) => 400,
            Self::Misdirected { .. } => 421,
            Self::NoTunnel => 501,
            Self::Denied(_) => 403,
            Self::Refused(status, _) => *status,
            Self::Unresolved(_) => 500,
            Self::NotSynced { .. } | Self::NoEndpoint { .. } | Self::Connect { .. } | Self::ResolveFull { .. } => 503,
            Self::Overflow { .. } | Self::ConnectionOverflow { .. } => 503,
            Self::QueueTimeout { .. } | Self::BreakerOpen { .. } | Self::BreakerHeldOpen(_) => 503,
            Self::HeldBack { .. } | Self::Shed { .. } | Self::Short(_) | Self::Busy(_) => 503,
            // Its answer has begun.
            Self::GivenUp => 0,
            // As by gRPC's mapping, where the failure of a call came with 200.
            Self::Unwanted { status, .. } => {
                if *status < 400 {
                    503
                } else {
                    *status
                }
            }
            Self::OverLimit(_) => 429,
            Self::Injected(_, with) => with.http(),
            Self::Upstream { cause, .. } if cause.malformed().is_some() => 502,
            Self::Upstream { cause, .. } if cause.is_timeout() => 504,
            Self::Upstream { .. } => 502,
            Self::Downstream(cause) if cause.malformed().is_some() => 400,
            Self::Downstream(cause) if cause.is_timeout() => 408,
            Self::Downstream(_) => 0,
            Self::Timeout(_) | Self::TryTimeout(_) | Self::ResolveTimeout { .. } => 504,
            Self::Loop(_) => 508,
            Self::Resolve { .. } => 502,
        }
    }

    /// Whether no endpoint was asked, so that it says nothing about any.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::NoEndpoint { .. } | Self::ConnectionOverflow { .. } | Self::QueueTimeout { .. })
    }

    /// The gRPC status that says the same (gRPC's `http-grpc-status-mapping` names none for most of these).
    pub(crate) fn grpc_code(&self) -> Code {
        match self {
            Self::NoHost | Self::BadRequest(_) => Code::Internal,
            Self::Denied(_) => Code::PermissionDenied,
            Self::OverLimit(_) | Self::Shed { .. } | Self::Short(_) | Self::Busy(_) => Code::ResourceExhausted,
            Self::Unwanted { grpc_status: Some(status), .. } => Code::from_number(*status),
            Self::Unwanted { status, .. } => Status::from_http(*status).code,
            Self::Injected(_, AbortWith::Grpc(status)) => Code::from_number(*status),
            Self::Injected(_, AbortWith::Http(status)) => Status::from_http(*status).code,
            Self::NoRoute(_) | Self::NoTunnel => Code::Unimplemented,
            Self::Timeout(_) | Self::TryTimeout(_) => Code::DeadlineExceeded,
            Self::Upstream { cause, .. } if cause.is_timeout() => Code::DeadlineExceeded,
            Self::Upstream { cause, .. } if cause.malformed().is_some() => Code::Internal,
            _ => Code::Unavailable,
        }
    }

    /// Says in the fields of the answer what a client may go by.
    pub(crate) fn tell(&self, fields: &mut Fields) {
        match self {
            Self::OverLimit(over) => over.tell(fields),
            Self::Shed { .. } | Self::Short(_) | Self::Busy(_) => overload::tell(fields),
            _ => {}
        }
    }

    /// What stands in an answer that leaves the mesh: nothing about instances.
    pub(crate) fn public_message(&self) -> String {
        match self {
            Self::Connect { cluster, .. } | Self::Upstream { cluster, .. } => {
                format!("{} does not answer", cluster.split('@').next().unwrap_or(cluster))
            }
            other => other.to_string(),
        }
    }
}

fn is_timed_out(error: &leno_http::Error) -> bool {
    matches!(error.kind(), leno_http::ErrorKind::Io(_, cause) if cause.kind() == std::io::ErrorKind::TimedOut)
}

fn upstream_flag(cause: &leno_http::Error) -> Flag {
    use leno_http::ErrorKind;
    match cause.kind() {
        ErrorKind::Malformed(_) => Flag::UpstreamProtocolError,
        ErrorKind::Reset(_) | ErrorKind::GoAway(_) => Flag::UpstreamReset,
        ErrorKind::Timeout(_) => Flag::IdleTimeout,
        _ => Flag::UpstreamClosed,
    }
}
