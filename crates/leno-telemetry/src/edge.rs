//! Edges: what runs from one service to another, as one side sees it.
//!
//! An edge is resolved when a table is built (outbound: for each cluster and version) or when a source is first seen
//! (inbound), and kept. It counts requests by exact status, gRPC status and flag, their durations and bytes, what is
//! open, and connections. [`crate::istio`] prints edges, [`crate::report`] sends them to the server.
//!
//! Outcomes stand in short rows of (packed outcome, count): a destination answers with few different ones, and a
//! search of six numbers costs less than a hash. The first worker to see an outcome claims a place by one
//! compare-and-swap; beyond [`OUTCOMES`] they are counted by class of status.
//!
//! Hot path: no locks held, one allocation for each six new outcomes, no logs.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use leno_model::name::{NameError, ServiceName};

use crate::flag::Flag;
use crate::metric::shard::PerShard;
use crate::metric::{HistogramSnapshot, LogHistogram};

/// Outcomes in a row.
const ROW: usize = 6;
/// Rows of one shard.
const ROWS: usize = 8;
/// Different outcomes that one shard of an edge tells apart.
pub const OUTCOMES: usize = ROW * ROWS;

/// Which edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct EdgeKey {
    /// Which side recorded it.
    pub reporter: Reporter,
    /// Who calls.
    pub source: Peer,
    /// The caller's version.
    pub source_version: Option<Arc<str>>,
    /// Who is called.
    pub destination: Peer,
    /// The version of the instance that is called.
    pub destination_version: Option<Arc<str>>,
    /// What is spoken.
    pub protocol: EdgeProtocol,
    /// How the connection is secured.
    pub security: Security,
}

/// The side that recorded an edge. A gateway is the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum Reporter {
    /// The caller's proxy.
    #[default]
    Source,
    /// The proxy of whoever is called.
    Destination,
}

/// One end of an edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum Peer {
    /// Nobody knows.
    #[default]
    Unknown,
    /// A service of the mesh.
    Service(ServiceName),
    /// A destination outside the mesh.
    Passthrough,
    /// One of those beyond the limit of edges.
    Overflow,
}

/// What is spoken on an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum EdgeProtocol {
    /// HTTP of any version.
    #[default]
    Http,
    /// gRPC.
    Grpc,
    /// Bytes.
    Tcp,
}

/// How an edge's connections are secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum Security {
    /// The reporter cannot know.
    #[default]
    Unknown,
    /// Plain.
    None,
    /// Mutual TLS between proxies.
    MutualTls,
}

/// A request that has ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestRecord {
    /// The status that the client got; 0 when it got none.
    pub status: u16,
    /// The gRPC status, 0 to 16, of a gRPC request.
    pub grpc_status: Option<u8>,
    /// What went wrong.
    pub flag: Option<Flag>,
    /// From the first byte of the request to the last of the answer.
    pub duration: Duration,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// Tries after the first.
    pub retries: u32,
}

/// Counts what runs on one edge.
pub struct Edge {
    key: EdgeKey,
    shards: PerShard<EdgeShard>,
}

/// A request or connection that is open; counted until it is dropped.
#[must_use = "dropping it says that the request has ended"]
pub struct Open<'a> {
    edge: &'a Edge,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Outcome {
    /// The status; below 10 it is a class (5 for 5xx), counted there because the row was full.
    pub status: u16,
    /// The gRPC status.
    pub grpc_status: Option<u8>,
    /// What went wrong.
    pub flag: Option<Flag>,
}

/// What an edge held when it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeSnapshot {
    /// Ended requests by outcome, sorted.
    pub outcomes: Vec<(Outcome, u64)>,
    /// Durations of requests.
    pub latency: HistogramSnapshot,
    /// Bytes of request bodies.
    pub received: u64,
    /// Bytes of answer bodies.
    pub sent: u64,
    /// Tries after the first.
    pub retries: u64,
    /// Requests that are open.
    pub open: u64,
    /// TCP connections opened.
    pub connections_opened: u64,
    /// TCP connections closed.
    pub connections_closed: u64,
    /// Bytes from the client of TCP connections.
    pub tcp_received: u64,
    /// Bytes to the client of TCP connections.
    pub tcp_sent: u64,
}

#[derive(Default)]
struct EdgeShard {
    begun: AtomicU64,
    ended: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    retries: AtomicU64,
    connections_opened: AtomicU64,
    connections_closed: AtomicU64,
    tcp_received: AtomicU64,
    tcp_sent: AtomicU64,
    outcomes: Row,
    /// Outcomes for which the rows had no place, by class of status.
    classes: [AtomicU64; 6],
    latency: LogHistogram,
}

#[derive(Default)]
struct Row {
    /// 0 for a free place.
    packed: [AtomicU32; ROW],
    counts: [AtomicU64; ROW],
    next: OnceLock<Box<Row>>,
}

// === impl EdgeKey ===

impl EdgeKey {
    /// The key that stands for all those beyond the limit.
    pub(crate) fn overflow(&self) -> Self {
        Self {
            source: Peer::Overflow,
            source_version: None,
            destination: Peer::Overflow,
            destination_version: None,
            ..self.clone()
        }
    }
}

// === impl Edge ===

impl Edge {
    pub(crate) fn new(key: EdgeKey, shards: usize) -> Self {
        Self { key, shards: PerShard::new(shards) }
    }

    /// Which edge this is.
    pub fn key(&self) -> &EdgeKey {
        &self.key
    }

    /// A request has begun; it counts as open until the guard is dropped.
    pub fn open(&self) -> Open<'_> {
        self.shards.here().begun.fetch_add(1, Relaxed);
        Open { edge: self }
    }

    /// A request has ended.
    pub fn request(&self, record: &RequestRecord) {
        let shard = self.shards.here();
        let outcome = Outcome { status: record.status, grpc_status: record.grpc_status, flag: record.flag };
        if !shard.outcomes.count(outcome.pack()) {
            shard.classes[usize::from(record.status / 100).min(5)].fetch_add(1, Relaxed);
        }
        shard.latency.observe(record.duration);
        add(&shard.received, record.received);
        add(&shard.sent, record.sent);
        add(&shard.retries, u64::from(record.retries));
    }

    /// A TCP connection was opened.
    pub fn connection_opened(&self) {
        self.shards.here().connections_opened.fetch_add(1, Relaxed);
    }

    /// A TCP connection was closed.
    pub fn connection_closed(&self) {
        self.shards.here().connections_closed.fetch_add(1, Relaxed);
    }

    /// Bytes moved on a TCP connection since the last call: from the client, to the client.
    pub fn tcp_bytes(&self, received: u64, sent: u64) {
        let shard = self.shards.here();
        add(&shard.tcp_received, received);
        add(&shard.tcp_sent, sent);
    }

    /// The sum over all shards.
    pub fn snapshot(&self) -> EdgeSnapshot {
        let mut all = EdgeSnapshot::default();
        let (mut begun, mut ended) = (0_u64, 0_u64);
        for shard in self.shards.iter() {
            shard.outcomes.read(&mut all.outcomes);
            for (class, count) in shard.classes.iter().enumerate() {
                let outcome = Outcome { status: class as u16, grpc_status: None, flag: None };
                all.outcomes.extend(some((outcome, count.load(Relaxed))));
            }
            shard.latency.add_to(&mut all.latency);
            all.received += shard.received.load(Relaxed);
            all.sent += shard.sent.load(Relaxed);
            all.retries += shard.retries.load(Relaxed);
            all.connections_opened += shard.connections_opened.load(Relaxed);
            all.connections_closed += shard.connections_closed.load(Relaxed);
            all.tcp_received += shard.tcp_received.load(Relaxed);
            all.tcp_sent += shard.tcp_sent.load(Relaxed);
            ended += shard.ended.load(Relaxed);
            begun += shard.begun.load(Relaxed);
        }
        all.open = begun.saturating_sub(ended);
        all.outcomes.sort_unstable();
        all.outcomes.dedup_by(|from, into| {
            from.0 == into.0 && {
                into.1 += from.1;
                true
            }
        });
        all
    }

    /// A number that changes whenever anything is counted.
    pub(crate) fn total(&self) -> u64 {
        let of = |s: &EdgeShard| {
            let counters =
                [&s.begun, &s.ended, &s.connections_opened, &s.connections_closed, &s.tcp_received, &s.tcp_sent];
            let sum = counters.iter().fold(0_u64, |sum, c| sum.wrapping_add(c.load(Relaxed)));
            let mut outcomes = Vec::new();
            s.outcomes.read(&mut outcomes);
            let outcomes = outcomes.iter().map(|(_, count)| *count);
            outcomes.chain(s.classes.iter().map(|c| c.load(Relaxed))).fold(sum, u64::wrapping_add)
        };
        self.shards.iter().map(of).fold(0, u64::wrapping_add)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.edge.shards.here().ended.fetch_add(1, Relaxed);
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Edge({} → {})", self.key.source, self.key.destination)
    }
}

impl fmt::Debug for Open<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Open({:?})", self.edge)
    }
}

/// Most requests have no body: an addition of nothing is not worth a locked one.
fn add(cell: &AtomicU64, n: u64) {
    if n > 0 {
        cell.fetch_add(n, Relaxed);
    }
}

fn some((outcome, count): (Outcome, u64)) -> Option<(Outcome, u64)> {
    (count > 0).then_some((outcome, count))
}

// === impl Row ===

impl Row {
    /// Counts an outcome, in this row or one behind it; false when all are full.
    fn count(&self, packed: u32) -> bool {
        let mut row = self;
        for n in 0..ROWS {
            for (place, count) in row.packed.iter().zip(&row.counts) {
                let mut found = place.load(Relaxed);
                if found == 0 {
                    found = place.compare_exchange(0, packed, Relaxed, Relaxed).err().unwrap_or(packed);
                }
                if found == packed {
                    count.fetch_add(1, Relaxed);
                    return true;
                }
            }
            if n + 1 < ROWS {
                row = row.next.get_or_init(Box::default);
            }
        }
        false
    }

    fn read(&self, into: &mut Vec<(Outcome, u64)>) {
        let mut row = Some(self);
        while let Some(here) = row {
            for (packed, count) in here.packed.iter().zip(&here.counts) {
                into.extend(some((Outcome::unpack(packed.load(Relaxed)), count.load(Relaxed))));
            }
            row = here.next.get().map(|next| &**next);
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// Whether the request failed because of the server or the way to it: 5xx, no answer at all, or a gRPC status
    /// that says so (UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS). A client that
    /// leaves or errs is not an error of the service.
    pub fn is_error(&self) -> bool {
        let left = self.flag == Some(Flag::DownstreamClosed);
        let class = if self.status < 10 { self.status } else { self.status / 100 };
        !left && (class == 5 || class == 0 || matches!(self.grpc_status, Some(2 | 4 | 12 | 13 | 14 | 15)))
    }

    /// The status as a label: `200`, or `5xx` for a class.
    pub fn code(&self) -> String {
        match self.status {
            class @ 1..=9 => format!("{class}xx"),
            status => status.to_string(),
        }
    }

    /// In 32 bits, never 0, for tables in memory: one bit that is always set, 6 of the flag, 5 of the gRPC status, 10 of
    /// the status. Numbers of flags change between versions, so this form is never stored or sent.
    pub fn pack(self) -> u32 {
        let flag = self.flag.map_or(63, |flag| u32::from(flag.number()));
        let grpc = u32::from(self.grpc_status.unwrap_or(31).min(31));
        1 << 31 | flag << 15 | grpc << 10 | u32::from(self.status.min(1023))
    }

    /// Reads what [`Outcome::pack`] made.
    pub fn unpack(packed: u32) -> Self {
        let grpc = (packed >> 10 & 31) as u8;
        Self {
            status: (packed & 1023) as u16,
            grpc_status: (grpc < 31).then_some(grpc),
            flag: Flag::from_number((packed >> 15 & 63) as u8),
        }
    }
}

// === impl Peer ===

impl Peer {
    /// The service, if it is one.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Service(service) => Some(service),
            _ => None,
        }
    }
}

impl From<ServiceName> for Peer {
    fn from(service: ServiceName) -> Self {
        Self::Service(service)
    }
}

impl From<Option<ServiceName>> for Peer {
    fn from(service: Option<ServiceName>) -> Self {
        service.map_or(Self::Unknown, Self::Service)
    }
}

/// `cart.shop` for a service; the others are one word, which no service with its namespace is.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Service(service) => fmt::Display::fmt(service, f),
            Self::Passthrough => f.write_str("passthrough"),
            Self::Overflow => f.write_str("overflow"),
        }
    }
}

impl FromStr for Peer {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        match s {
            "unknown" | "" => Ok(Self::Unknown),
            "passthrough" => Ok(Self::Passthrough),
            "overflow" => Ok(Self::Overflow),
            service => service.parse().map(Self::Service),
        }
    }
}

// === impl Reporter, EdgeProtocol, Security ===

impl Reporter {
    /// As in Istio's label `reporter`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

impl EdgeProtocol {
    /// As in Istio's label `request_protocol`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

impl Security {
    /// As in Istio's label `connection_security_policy`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::MutualTls => "mutual_tls",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge() -> Edge {
        Edge::new(EdgeKey::default(), 2)
    }

    fn record(status: u16) -> RequestRecord {
        RequestRecord { status, duration: Duration::from_millis(2), received: 10, sent: 20, ..Default::default() }
    }

    #[test]
    fn requests_are_counted_by_status_and_flag() {
        let edge = edge();
        (0..3).for_each(|_| edge.request(&record(200)));
        edge.request(&RequestRecord { flag: Some(Flag::ConnectFailure), retries: 2, ..record(503) });
        let seen = edge.snapshot();
        let ok = Outcome { status: 200, grpc_status: None, flag: None };
        let failed = Outcome { status: 503, grpc_status: None, flag: Some(Flag::ConnectFailure) };
        assert_eq!(seen.outcomes, [(ok, 3), (failed, 1)]);
        assert_eq!((seen.received, seen.sent, seen.retries, seen.latency.count()), (40, 80, 2, 4));
    }

    #[test]
    fn shards_are_added_up_by_outcome() {
        let edge = edge();
        std::thread::scope(|scope| {
            for worker in 0..2 {
                let edge = &edge;
                scope.spawn(move || {
                    crate::metric::shard::enter(worker);
                    (0..500).for_each(|_| edge.request(&record(200)));
                });
            }
        });
        assert_eq!(edge.snapshot().outcomes.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1000]);
    }

    #[test]
    fn outcomes_without_a_place_are_counted_by_class() {
        let edge = edge();
        (0..100).for_each(|n| edge.request(&record(500 + n)));
        let seen = edge.snapshot();
        let class = Outcome { status: 5, grpc_status: None, flag: None };
        assert_eq!(seen.outcomes.first(), Some(&(class, 100 - OUTCOMES as u64)));
        assert_eq!((class.code().as_str(), class.is_error()), ("5xx", true));
    }

    #[test]
    fn what_is_open_is_counted_until_it_is_dropped() {
        let edge = edge();
        let (one, two) = (edge.open(), edge.open());
        assert_eq!(edge.snapshot().open, 2);
        drop((one, two));
        assert_eq!(edge.snapshot().open, 0);
    }

    #[test]
    fn an_outcome_survives_packing() {
        for flag in Flag::ALL.iter().map(|f| Some(*f)).chain([None]) {
            for grpc_status in [None, Some(0), Some(16)] {
                let outcome = Outcome { status: 599, grpc_status, flag };
                assert_eq!(Outcome::unpack(outcome.pack()), outcome);
            }
        }
    }

    #[test]
    fn a_client_that_leaves_is_no_error_of_the_service() {
        let outcome = |status, grpc_status, flag| Outcome { status, grpc_status, flag };
        assert!(outcome(503, None, None).is_error());
        assert!(outcome(0, None, Some(Flag::UpstreamReset)).is_error());
        assert!(outcome(200, Some(14), None).is_error());
        assert!(!outcome(0, None, Some(Flag::DownstreamClosed)).is_error());
        assert!(!outcome(404, None, None).is_error());
        assert!(!outcome(200, Some(5), None).is_error());
    }

    #[test]
    fn a_peer_reads_as_it_prints() {
        for peer in ["unknown", "passthrough", "overflow", "cart.shop"] {
            assert_eq!(peer.parse::<Peer>().unwrap().to_string(), peer);
        }
    }
}
