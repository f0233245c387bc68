//! What is written down about a request: counters of the edge, a line of the access log.
//!
//! A [`Record`] is begun with the request and written when it is dropped, so that a request whose client left, and
//! whose future was dropped with it, is counted too (`DC`). Hot path: no locks held, no allocation without a log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use leno_http::{RequestHead, Text, Version};
use leno_telemetry::access::Direction;
use leno_telemetry::{AccessEvent, Edge, Flag, RequestRecord};
use tokio::time::Instant;

use crate::failure::Failure;
use crate::worker::Worker;

/// One request's record.
pub(crate) struct Record<'a> {
    worker: &'a Worker,
    direction: Direction,
    end: End,
    /// Time of the process.
    began: Duration,
    log: Option<Box<Logged>>,
    edge: Option<Arc<Edge>>,
    numbers: RequestRecord,
}

/// How a record ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client left.
    Dropped,
    /// The request was served or refused.
    Finished,
    /// There is nothing to write down.
    Discarded,
}

/// What only a line of the access log needs; taken when there is a log.
struct Logged {
    start: leno_model::seam::Timestamp,
    method: leno_http::Method,
    path: Text,
    authority: Option<Text>,
    version: Version,
    user_agent: Vec<u8>,
    request_id: Vec<u8>,
    forwarded_for: Vec<u8>,
    downstream: Option<SocketAddr>,
    tls: Option<leno_tls::Agreed>,
    source: String,
    destination: String,
    cluster: String,
    upstream: String,
    route: String,
    failure: String,
}

// === impl Record ===

impl<'a> Record<'a> {
    pub(crate) fn begin(
        worker: &'a Worker,
        direction: Direction,
        head: &RequestHead,
        downstream: Option<SocketAddr>,
    ) -> Self {
        let log = worker.shared.access.as_ref().map(|_| Box::new(Logged::of(worker, head, downstream)));
        Self {
            worker,
            direction,
            end: End::Dropped,
            began: worker.now(),
            log,
            edge: None,
            numbers: RequestRecord::default(),
        }
    }

    /// When the request began, in the time of the process.
    pub(crate) fn began(&self) -> Duration {
        self.began
    }

    /// The path as it is spelt from now on.
    pub(crate) fn path(&mut self, path: &Text) {
        if let Some(log) = &mut self.log {
            log.path = path.clone();
        }
    }

    /// What carries the request.
    pub(crate) fn over_tls(&mut self, agreed: &leno_tls::Agreed) {
        if let Some(log) = &mut self.log {
            log.tls = Some(agreed.clone());
        }
    }

    /// Where the request went.
    pub(crate) fn to(&mut self, edge: &Arc<Edge>, cluster: &str, route: &str) {
        if let Some(log) = &mut self.log {
            log.destination = edge.key().destination.to_string();
            log.cluster = cluster.to_owned();
            log.route = route.to_owned();
        }
        self.edge = Some(edge.clone());
    }

    /// The endpoint of the last try.
    pub(crate) fn upstream(&mut self, address: &leno_net::Address) {
        if let Some(log) = &mut self.log {
            log.upstream = address.to_string();
        }
    }

    pub(crate) fn source(&mut self, source: &str) {
        if let Some(log) = &mut self.log {
            log.source = source.to_owned();
        }
    }

    pub(crate) fn status(&mut self, status: u16, grpc_status: Option<u8>) {
        self.numbers.status = status;
        self.numbers.grpc_status = grpc_status;
    }

    pub(crate) fn failed(&mut self, flag: Flag, words: impl FnOnce() -> String) {
        self.numbers.flag = Some(flag);
        if let Some(log) = &mut self.log {
            log.failure = words();
        }
    }

    pub(crate) fn broken(&mut self, failure: &Failure) {
        self.failed(failure.flag(), || failure.to_string());
    }

    pub(crate) fn retried(&mut self) {
        self.numbers.retries += 1;
    }

    pub(crate) fn received(&mut self, bytes: u64) {
        self.numbers.received = bytes;
    }

    pub(crate) fn sent(&mut self, bytes: u64) {
        self.numbers.sent = bytes;
    }

    /// The request ended as it should, or as `failed` says.
    pub(crate) fn finish(&mut self) {
        self.end = End::Finished;
    }

    /// Writes nothing.
    pub(crate) fn discard(&mut self) {
        self.end = End::Discarded;
    }

    fn write(&mut self) {
        match self.end {
            End::Discarded => return,
            // What was done on purpose is not why it ended.
            End::Dropped if matches!(self.numbers.flag, None | Some(Flag::FaultDelay | Flag::FaultBandwidth)) => {
                self.numbers.flag = Some(Flag::DownstreamClosed);
            }
            End::Dropped | End::Finished => {}
        }
        self.numbers.duration = self.worker.now().saturating_sub(self.began);
        let edge = self.edge.as_ref().unwrap_or(&self.worker.shared.unrouted);
        edge.request(&self.numbers);
        if let (Some(log), Some(access)) = (&self.log, &self.worker.shared.access) {
            access.record(&log.event(&self.numbers, self.direction));
        }
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        self.write();
    }
}

// === impl Logged ===

impl Logged {
    fn of(worker: &Worker, head: &RequestHead, downstream: Option<SocketAddr>) -> Self {
        let field = |name| head.fields.get(name).unwrap_or_default().to_vec();
        Self {
            start: worker.shared.clock.wall(),
            method: head.method.clone(),
            path: head.path.clone(),
            authority: head.authority.clone(),
            version: head.version,
            user_agent: field("user-agent"),
            request_id: field("x-request-id"),
            forwarded_for: field("x-forwarded-for"),
            downstream,
            tls: None,
            source: worker.shared.source_name.clone(),
            destination: String::new(),
            cluster: String::new(),
            upstream: String::new(),
            route: String::new(),
            failure: String::new(),
        }
    }

    fn event<'e>(&'e self, numbers: &RequestRecord, direction: Direction) -> AccessEvent<'e> {
        AccessEvent {
            start: self.start,
            duration: numbers.duration,
            direction,
            protocol: match self.version {
                Version::Http10 => "HTTP/1.0",
                Version::Http11 => "HTTP/1.1",
                Version::Http2 => "HTTP/2",
            },
            method: self.method.as_str().as_bytes(),
            path: self.path.as_bytes(),
            authority: self.authority.as_ref().map(Text::as_bytes).unwrap_or_default(),
            user_agent: &self.user_agent,
            request_id: &self.request_id,
            forwarded_for: &self.forwarded_for,
            status: numbers.status,
            grpc_status: numbers.grpc_status,
            flag: numbers.flag,
            failure: &self.failure,
            received: numbers.received,
            sent: numbers.sent,
            source: &self.source,
            destination: &self.destination,
            upstream: &self.upstream,
            cluster: &self.cluster,
            downstream_remote: self.downstream,
            server_name: self.tls.as_ref().and_then(|tls| tls.server_name.as_deref()).unwrap_or_default().as_bytes(),
            tls_version: self.tls.as_ref().map(|tls| tls.version).unwrap_or_default(),
            route: &self.route,
            tries: numbers.retries + 1,
            ..AccessEvent::default()
        }
    }
}

/// One byte stream's record: counted on the edge at once, logged when it is dropped.
pub(crate) struct StreamRecord<'a> {
    worker: &'a Worker,
    direction: Direction,
    started: Instant,
    start: leno_model::seam::Timestamp,
    edge: Arc<Edge>,
    pub(crate) cluster: String,
    pub(crate) upstream: String,
    pub(crate) server_name: String,
    /// `TLSv1.3`, where TLS ended here.
    pub(crate) tls_version: &'static str,
    pub(crate) downstream: Option<SocketAddr>,
    pub(crate) flag: Option<Flag>,
    pub(crate) failure: String,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) tries: u32,
}

// === impl StreamRecord ===

impl<'a> StreamRecord<'a> {
    pub(crate) fn begin(
        worker: &'a Worker,
        direction: Direction,
        edge: &Arc<Edge>,
        downstream: Option<SocketAddr>,
    ) -> Self {
        edge.connection_opened();
        Self {
            worker,
            direction,
            started: Instant::now(),
            start: worker.shared.clock.wall(),
            edge: edge.clone(),
            cluster: String::new(),
            upstream: String::new(),
            server_name: String::new(),
            tls_version: "",
            downstream,
            flag: None,
            failure: String::new(),
            received: 0,
            sent: 0,
            tries: 0,
        }
    }

    fn duration(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for StreamRecord<'_> {
    fn drop(&mut self) {
        self.edge.connection_closed();
        self.edge.tcp_bytes(self.received, self.sent);
        let Some(access) = &self.worker.shared.access else { return };
        let destination = self.edge.key().destination.to_string();
        access.record(&AccessEvent {
            start: self.start,
            duration: self.duration(),
            direction: self.direction,
            flag: self.flag,
            failure: &self.failure,
            received: self.received,
            sent: self.sent,
            source: &self.worker.shared.source_name,
            destination: &destination,
            upstream: &self.upstream,
            cluster: &self.cluster,
            downstream_remote: self.downstream,
            server_name: self.server_name.as_bytes(),
            tls_version: self.tls_version,
            tries: self.tries,
            ..AccessEvent::default()
        });
    }
}
