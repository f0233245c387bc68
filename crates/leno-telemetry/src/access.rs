//! The access log: one line for each request and TCP connection.
//!
//! The text form is Istio's default format and the JSON form has Istio's keys, with leno's own at the end (`direction`,
//! `source`, `destination`, `tries`), so that parsers made for Istio read them. What others control is escaped byte
//! by byte: a path or field can neither end a line nor close a quote. A value longer than [`VALUE_MAX`] is cut.
//!
//! Hot path: no locks held, one allocation for each line, no logs.

mod escape;
mod json;
mod text;

use std::net::SocketAddr;
use std::time::Duration;

use leno_model::seam::Timestamp;

use crate::flag::Flag;
use crate::lines::LineQueue;
use crate::metric::{Kind, Registry};

/// Bytes of one value at most; a cut one ends in `...`.
pub const VALUE_MAX: usize = 2_048;

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Istio's default text.
    #[default]
    Text,
    /// One JSON object on a line.
    Json,
}

/// Which way a request ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// To the application beside the proxy.
    #[default]
    Inbound,
    /// From the application beside the proxy.
    Outbound,
    /// Into the mesh.
    Gateway,
}

/// A request or TCP connection that has ended. Empty values print as `-`.
#[derive(Debug, Clone, Copy, Default)]
pub struct AccessEvent<'a> {
    /// When it began.
    pub start: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// Which way it ran.
    pub direction: Direction,
    /// `HTTP/1.1`, `HTTP/2`; empty for TCP.
    pub protocol: &'a str,
    /// The method.
    pub method: &'a [u8],
    /// Path and query, as the client sent them.
    pub path: &'a [u8],
    /// The authority.
    pub authority: &'a [u8],
    /// The field `user-agent`.
    pub user_agent: &'a [u8],
    /// The field `x-request-id`.
    pub request_id: &'a [u8],
    /// The field `x-forwarded-for`.
    pub forwarded_for: &'a [u8],
    /// The status that the client got; 0 for none.
    pub status: u16,
    /// The gRPC status.
    pub grpc_status: Option<u8>,
    /// What went wrong.
    pub flag: Option<Flag>,
    /// Why the connection to the endpoint failed, for a person.
    pub failure: &'a str,
    /// Bytes of the request's body, or from the client.
    pub received: u64,
    /// Bytes of the answer's body, or to the client.
    pub sent: u64,
    /// From the request's head sent to the answer's head received.
    pub upstream_time: Option<Duration>,
    /// The service that calls.
    pub source: &'a str,
    /// The service that is called.
    pub destination: &'a str,
    /// The endpoint's address: TCP, or the path of a Unix socket.
    pub upstream: &'a str,
    /// The cluster.
    pub cluster: &'a str,
    /// This end of the connection to the endpoint.
    pub upstream_local: Option<SocketAddr>,
    /// This end of the connection to the client.
    pub downstream_local: Option<SocketAddr>,
    /// The client's address.
    pub downstream_remote: Option<SocketAddr>,
    /// The server name that the client asked for in TLS.
    pub server_name: &'a [u8],
    /// `TLSv1.3`, where TLS ended here.
    pub tls_version: &'a str,
    /// The route that matched.
    pub route: &'a str,
    /// How often it was tried.
    pub tries: u32,
}

/// Writes access events. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AccessLog {
    format: Format,
    queue: LineQueue,
}

// === impl AccessLog ===

impl AccessLog {
    /// A log of this form into `queue`.
    pub fn new(format: Format, queue: LineQueue) -> Self {
        Self { format, queue }
    }

    /// Writes the line of an event, or counts it as dropped.
    pub fn record(&self, event: &AccessEvent<'_>) {
        let mut line = Vec::with_capacity(512);
        match self.format {
            Format::Text => text::write(event, &mut line),
            Format::Json => json::write(event, &mut line),
        }
        line.push(b'\n');
        self.queue.push(line);
    }

    /// The queue, to flush it or to open its file anew.
    pub fn queue(&self) -> &LineQueue {
        &self.queue
    }

    /// Adds `leno_access_log_dropped_total` to a registry.
    pub fn register(&self, registry: &Registry) {
        let queue = self.queue.clone();
        registry.collector(move |out| {
            let name = "leno_access_log_dropped_total";
            out.family(name, "Access lines that were not written.", Kind::Counter);
            out.sample(name, &[("cause", "queue_full")], queue.dropped() as f64);
            out.sample(name, &[("cause", "write_failed")], queue.lost() as f64);
        });
    }
}

// === impl AccessEvent ===

impl AccessEvent<'_> {
    /// Why the answer is what it is: the flag's reason, or that it came from the endpoint.
    fn details(&self) -> &'static str {
        match self.flag {
            Some(flag) => flag.reason(),
            None if self.status > 0 => "via_upstream",
            None => "",
        }
    }
}

// === impl Direction ===

impl Direction {
    /// `inbound`, `outbound`, `gateway`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Gateway => "gateway",
        }
    }
}

#[cfg(test)]
mod tests;
