//! Reports: what a proxy tells the server each second, so that the server can show numbers without a Prometheus.
//!
//! Counts are cumulative since the proxy's start: a report that is lost costs nothing, and whoever reads takes the
//! difference of two. A restart shows in `incarnation`. [`Reporter`] leaves out edges that have not counted since
//! the last report; after a connection is made anew, the first report holds all ([`Reporter::reset`]).
//!
//! The messages are Protocol Buffers; numbers of fields are never used again for something else.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use leno_model::seam::Timestamp;

use crate::edge::{Edge, EdgeKey, EdgeProtocol, EdgeSnapshot, Outcome, Peer, Reporter as Side, Security};
use crate::flag::Flag;
use crate::metric::{HistogramSnapshot, Registry};
use crate::process::ProcessStats;

mod policy;

pub use policy::{POLICIES_MAX, PolicyCount, PolicyState};

/// Who reports.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Origin {
    /// The proxy's id, unique in the mesh.
    pub proxy: String,
    /// Its start in milliseconds since 1970.
    pub incarnation: u64,
    /// The service that it stands beside; empty for a gateway without one.
    pub service: String,
    /// The instance that it stands beside.
    pub instance: String,
    /// The version of leno.
    pub version: String,
    /// `sidecar` or `gateway`.
    pub role: String,
}

/// Builds reports that hold what has changed.
#[derive(Debug, Default)]
pub struct Reporter {
    origin: Origin,
    sequence: u64,
    sent: HashMap<EdgeKey, u64>,
    policies: Option<policy::Source>,
}

/// One report.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Report {
    /// The proxy's id.
    #[prost(string, tag = "1")]
    pub proxy: String,
    /// The proxy's start, milliseconds since 1970.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    /// Counts the reports of an incarnation from 1.
    #[prost(uint64, tag = "3")]
    pub sequence: u64,
    /// The time of the report by the proxy's clock, milliseconds since 1970.
    #[prost(uint64, tag = "4")]
    pub wall_ms: u64,
    /// Whether all edges are in it.
    #[prost(bool, tag = "5")]
    pub full: bool,
    /// The service, `cart.shop`.
    #[prost(string, tag = "6")]
    pub service: String,
    /// The instance.
    #[prost(string, tag = "7")]
    pub instance: String,
    /// The version of leno.
    #[prost(string, tag = "8")]
    pub version: String,
    /// `sidecar` or `gateway`.
    #[prost(string, tag = "9")]
    pub role: String,
    /// What the process costs.
    #[prost(message, optional, tag = "10")]
    pub process: Option<Process>,
    /// The edges.
    #[prost(message, repeated, tag = "11")]
    pub edges: Vec<EdgeReport>,
    /// Series and edges beyond the proxy's limits.
    #[prost(uint64, tag = "12")]
    pub overflowed: u64,
    /// How policies stand that are in use or not at rest; all of them, in every report.
    #[prost(message, repeated, tag = "13")]
    pub policies: Vec<PolicyState>,
    /// Those that are more than a report holds.
    #[prost(uint64, tag = "14")]
    pub policies_left_out: u64,
}

/// What a process costs.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Process {
    /// Resident memory.
    #[prost(uint64, tag = "1")]
    pub rss_bytes: u64,
    /// Processor time since the start.
    #[prost(uint64, tag = "2")]
    pub cpu_ms: u64,
    /// Open descriptors.
    #[prost(uint64, tag = "3")]
    pub fds: u64,
    /// Threads.
    #[prost(uint64, tag = "4")]
    pub threads: u64,
    /// Descriptors that it may open.
    #[prost(uint64, tag = "5")]
    pub fds_max: u64,
}

/// One edge, cumulative.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EdgeReport {
    /// 0 source, 1 destination.
    #[prost(uint32, tag = "1")]
    pub reporter: u32,
    /// [`Peer`] as it prints.
    #[prost(string, tag = "2")]
    pub source: String,
    /// The caller's version; empty for none.
    #[prost(string, tag = "3")]
    pub source_version: String,
    /// [`Peer`] as it prints.
    #[prost(string, tag = "4")]
    pub destination: String,
    /// The called version; empty for none.
    #[prost(string, tag = "5")]
    pub destination_version: String,
    /// 0 HTTP, 1 gRPC, 2 TCP.
    #[prost(uint32, tag = "6")]
    pub protocol: u32,
    /// 0 unknown, 1 none, 2 mutual TLS.
    #[prost(uint32, tag = "7")]
    pub security: u32,
    /// Requests by outcome.
    #[prost(message, repeated, tag = "8")]
    pub outcomes: Vec<OutcomeReport>,
    /// Buckets of the durations that are not empty.
    #[prost(uint32, repeated, tag = "9")]
    pub buckets: Vec<u32>,
    /// Their counts.
    #[prost(uint64, repeated, tag = "10")]
    pub counts: Vec<u64>,
    /// The sum of durations in microseconds.
    #[prost(uint64, tag = "11")]
    pub sum_us: u64,
    /// Bytes of request bodies.
    #[prost(uint64, tag = "12")]
    pub received: u64,
    /// Bytes of answer bodies.
    #[prost(uint64, tag = "13")]
    pub sent: u64,
    /// Tries after the first.
    #[prost(uint64, tag = "14")]
    pub retries: u64,
    /// Open requests.
    #[prost(uint64, tag = "15")]
    pub open: u64,
    /// TCP connections opened.
    #[prost(uint64, tag = "16")]
    pub connections_opened: u64,
    /// TCP connections closed.
    #[prost(uint64, tag = "17")]
    pub connections_closed: u64,
    /// Bytes from clients of TCP connections.
    #[prost(uint64, tag = "18")]
    pub tcp_received: u64,
    /// Bytes to clients of TCP connections.
    #[prost(uint64, tag = "19")]
    pub tcp_sent: u64,
}

/// Requests that ended alike.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OutcomeReport {
    /// The status.
    #[prost(uint32, tag = "1")]
    pub status: u32,
    /// The gRPC status of gRPC requests.
    #[prost(uint32, optional, tag = "2")]
    pub grpc_status: Option<u32>,
    /// [`Flag::reason`]; empty for none.
    #[prost(string, tag = "3")]
    pub reason: String,
    /// How many.
    #[prost(uint64, tag = "4")]
    pub count: u64,
}

/// A report of everything in a registry.
pub fn build(registry: &Registry, origin: &Origin, wall: Timestamp) -> Report {
    Reporter::new(origin.clone()).report(registry, wall)
}

// === impl Reporter ===

impl Reporter {
    /// A reporter whose first report holds all edges.
    pub fn new(origin: Origin) -> Self {
        Self { origin, sequence: 0, sent: HashMap::new(), policies: None }
    }

    /// With how policies stand, as `states` says when a report is made.
    #[must_use]
    pub fn with_policies(self, states: impl Fn() -> Vec<PolicyState> + 'static) -> Self {
        Self { policies: Some(policy::Source(Box::new(states))), ..self }
    }

    /// Says that the receiver may know nothing: the next report holds all edges.
    pub fn reset(&mut self) {
        self.sent.clear();
    }

    /// The report of what has changed since the last one.
    pub fn report(&mut self, registry: &Registry, wall: Timestamp) -> Report {
        self.sequence += 1;
        let full = self.sent.is_empty();
        let before = std::mem::take(&mut self.sent);
        let mut edges = Vec::new();
        for edge in registry.edges() {
            let total = edge.total();
            if total != 0 && before.get(edge.key()) != Some(&total) {
                edges.push(EdgeReport::new(&edge));
            }
            self.sent.insert(edge.key().clone(), total);
        }
        let states = self.policies.as_ref().map(|source| source.0()).unwrap_or_default();
        let (policies, policies_left_out) = policy::cut(states);
        Report {
            proxy: self.origin.proxy.clone(),
            incarnation: self.origin.incarnation,
            sequence: self.sequence,
            wall_ms: wall.0,
            full,
            service: self.origin.service.clone(),
            instance: self.origin.instance.clone(),
            version: self.origin.version.clone(),
            role: self.origin.role.clone(),
            process: Some(ProcessStats::sample().into()),
            edges,
            overflowed: registry.overflowed(),
            policies,
            policies_left_out,
        }
    }
}

// === impl EdgeReport ===

impl EdgeReport {
    fn new(edge: &Edge) -> Self {
        let (key, seen) = (edge.key(), edge.snapshot());
        let (buckets, counts) = seen.latency.sparse().unzip();
        let text = |version: &Option<Arc<str>>| version.as_deref().unwrap_or_default().to_owned();
        Self {
            reporter: key.reporter as u32,
            source: key.source.to_string(),
            source_version: text(&key.source_version),
            destination: key.destination.to_string(),
            destination_version: text(&key.destination_version),
            protocol: key.protocol as u32,
            security: key.security as u32,
            outcomes: seen.outcomes.iter().map(OutcomeReport::new).collect(),
            buckets,
            counts,
            sum_us: seen.latency.sum_us,
            received: seen.received,
            sent: seen.sent,
            retries: seen.retries,
            open: seen.open,
            connections_opened: seen.connections_opened,
            connections_closed: seen.connections_closed,
            tcp_received: seen.tcp_received,
            tcp_sent: seen.tcp_sent,
        }
    }

    /// Which edge; none when a name in it is no name or longer than one. A number of a newer leno reads as unknown.
    pub fn key(&self) -> Option<EdgeKey> {
        let version = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
        let too_long = [&self.source_version, &self.destination_version].iter().any(|text| text.len() > 128);
        if too_long {
            return None;
        }
        Some(EdgeKey {
            reporter: if self.reporter == 1 { Side::Destination } else { Side::Source },
            source: Peer::from_str(&self.source).ok()?,
            source_version: version(&self.source_version),
            destination: Peer::from_str(&self.destination).ok()?,
            destination_version: version(&self.destination_version),
            protocol: match self.protocol {
                1 => EdgeProtocol::Grpc,
                2 => EdgeProtocol::Tcp,
                _ => EdgeProtocol::Http,
            },
            security: match self.security {
                1 => Security::None,
                2 => Security::MutualTls,
                _ => Security::Unknown,
            },
        })
    }

    /// What was counted.
    pub fn snapshot(&self) -> EdgeSnapshot {
        let pairs = self.buckets.iter().copied().zip(self.counts.iter().copied());
        EdgeSnapshot {
            outcomes: self.outcomes.iter().map(|outcome| (outcome.outcome(), outcome.count)).collect(),
            latency: HistogramSnapshot::from_sparse(pairs, self.sum_us),
            received: self.received,
            sent: self.sent,
            retries: self.retries,
            open: self.open,
            connections_opened: self.connections_opened,
            connections_closed: self.connections_closed,
            tcp_received: self.tcp_received,
            tcp_sent: self.tcp_sent,
        }
    }
}

// === impl OutcomeReport ===

impl OutcomeReport {
    fn new((outcome, count): &(Outcome, u64)) -> Self {
        Self {
            status: outcome.status.into(),
            grpc_status: outcome.grpc_status.map(u32::from),
            reason: outcome.flag.map_or("", |flag| flag.reason()).to_owned(),
            count: *count,
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            status: u16::try_from(self.status).unwrap_or(0),
            grpc_status: self.grpc_status.and_then(|status| u8::try_from(status).ok()),
            flag: Flag::from_reason(&self.reason),
        }
    }
}

// === impl Process ===

impl From<ProcessStats> for Process {
    fn from(stats: ProcessStats) -> Self {
        Self {
            rss_bytes: stats.rss_bytes,
            cpu_ms: u64::try_from(stats.cpu.as_millis()).unwrap_or(u64::MAX),
            fds: stats.fds,
            threads: stats.threads,
            fds_max: stats.fds_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::edge::RequestRecord;
    use crate::metric::Limits;

    fn registry() -> (Registry, Arc<Edge>) {
        let registry = Registry::new(1, Limits::default());
        let key = EdgeKey {
            source: "web.shop".parse().unwrap(),
            destination: "cart.shop".parse().unwrap(),
            destination_version: Some("v2".into()),
            protocol: EdgeProtocol::Grpc,
            ..Default::default()
        };
        let edge = registry.edge(&key);
        (registry, edge)
    }

    fn request(edge: &Edge) {
        let record = RequestRecord {
            status: 200,
            grpc_status: Some(14),
            flag: Some(Flag::TryTimeout),
            duration: std::time::Duration::from_millis(4),
            ..Default::default()
        };
        edge.request(&record);
    }

    #[test]
    fn a_report_reads_as_it_was_written() {
        let (registry, edge) = registry();
        request(&edge);
        let sent = build(&registry, &Origin { proxy: "p1".into(), ..Default::default() }, Timestamp(7));
        let read = Report::decode(sent.encode_to_vec().as_slice()).unwrap();
        assert_eq!(read, sent);
        assert_eq!(read.edges[0].key().as_ref(), Some(edge.key()));
        assert_eq!(read.edges[0].snapshot(), edge.snapshot());
        assert!(read.process.unwrap().rss_bytes > 0);
    }

    #[test]
    fn a_report_holds_what_has_changed_and_all_after_a_reset() {
        let (registry, edge) = registry();
        let mut reporter = Reporter::new(Origin::default());
        let mut edges = || reporter.report(&registry, Timestamp(0)).edges.len();
        request(&edge);
        assert_eq!((edges(), edges()), (1, 0));
        request(&edge);
        assert_eq!(edges(), 1);
        reporter.reset();
        assert_eq!(reporter.report(&registry, Timestamp(0)).edges.len(), 1);
    }

    #[test]
    fn a_name_that_is_none_is_no_edge() {
        let edge = EdgeReport { destination: "<script>.x".into(), ..Default::default() };
        assert_eq!(edge.key(), None);
    }
}
