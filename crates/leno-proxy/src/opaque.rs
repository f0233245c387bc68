//! Byte streams: what is not HTTP, or must not be looked into.
//!
//! pick → dial (another endpoint when one refuses) → relay, half-close passed on. No byte was sent when a dial fails, so
//! trying elsewhere is always safe.

use std::net::SocketAddr;

use bytes::Bytes;
use leno_net::Stream;
use leno_net::relay::{RelayEnd, RelaySide, relay};
use leno_route::weighted;
use leno_telemetry::Flag;
use leno_telemetry::access::Direction;
use leno_tls::connect::Offer;
use leno_traffic::bulkhead::Held;
use leno_traffic::{Mark, Open, Outcome};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::cluster::{Cluster, Endpoint};
use crate::failure::Failure;
use crate::protocol::{Sniffed, sniff};
use crate::proxy_protocol;
use crate::record::StreamRecord;
use crate::table::{Destination, Target};
use crate::upstream;
use crate::worker::{Worker, downstream};

/// Endpoints that are tried for one connection.
const TRIES_MAX: usize = 3;

/// A connection to an endpoint that carries no request yet.
pub(crate) struct Dialled<'t> {
    pub(crate) cluster: &'t Cluster,
    pub(crate) endpoint: &'t Endpoint,
    pub(crate) stream: Stream,
    open: Open,
    tries: usize,
}

/// Relays `stream`, whose `first` bytes were read, to one of `targets`.
pub(crate) async fn serve(
    worker: &Worker,
    direction: Direction,
    destination: &Destination,
    targets: &[Target],
    stream: Stream,
    first: Bytes,
    server_name: &str,
) {
    destination.touch(worker.now());
    let is_tls = sniff(&first) == Sniffed::Tls;
    match dial(worker, destination, targets, Some(&stream), is_tls).await {
        Ok(dialled) => carry(worker, direction, destination, dialled, stream, first, server_name).await,
        Err(failure) => refuse(worker, direction, targets, &stream, &failure, server_name),
    }
}

/// Opens a connection to one of `targets`, for `client` where that is known; over TLS where a policy asks for it, unless
/// what the client sends is TLS itself (`is_tls`), which goes on as it is.
pub(crate) async fn dial<'t>(
    worker: &Worker,
    destination: &Destination,
    targets: &'t [Target],
    client: Option<&Stream>,
    is_tls: bool,
) -> Result<Dialled<'t>, Failure> {
    let no_route = || Failure::NoRoute(destination.listener.name.to_string());
    let at = weighted::pick_by(targets, |target| target.weight, worker.random_bits()).ok_or_else(no_route)?;
    let cluster = targets[at].cluster.as_deref().ok_or_else(no_route)?;
    let hash = targets[at].hash_of_caller(worker, client.and_then(downstream));
    let mut tried: SmallVec<[usize; 4]> = SmallVec::new();
    let mut last = None;
    while tried.len() < TRIES_MAX {
        let Some(picked) = worker.pick(cluster, hash, &tried) else { break };
        tried.push(picked);
        let endpoint = &cluster.endpoints[picked];
        let open = endpoint.state.load.open();
        let started = Instant::now();
        let held = upstream::at_once(worker, cluster)?;
        match open_to(worker, cluster, endpoint, client, is_tls, held).await {
            Ok(stream) => {
                let (now, took) = (worker.now(), started.elapsed());
                endpoint.state.load.observe(now, took, Outcome::Answered);
                cluster.observe(picked, now, Mark::Good, took);
                return Ok(Dialled { cluster, endpoint, stream, open, tries: tried.len() });
            }
            Err(cause) => {
                let (now, took) = (worker.now(), started.elapsed());
                open.finish(now, took, Outcome::Failed);
                cluster.observe(picked, now, Mark::Local, took);
                let (to, cluster) = (endpoint.state.address.to_string(), cluster.spec.name.to_string());
                last = Some(Failure::Connect { to, cluster, tried: tried.len() as u32, cause });
            }
        }
    }
    Err(last.unwrap_or_else(|| Failure::NoEndpoint {
        cluster: cluster.spec.name.to_string(),
        known: cluster.endpoints.len(),
    }))
}

/// A connection to an endpoint, with what it has to begin with. Nothing of the client's has gone when that fails.
async fn open_to(
    worker: &Worker,
    cluster: &Cluster,
    endpoint: &Endpoint,
    client: Option<&Stream>,
    is_tls: bool,
    held: Option<Held>,
) -> Result<Stream, leno_http::Error> {
    let timeout = cluster.spec.connect_timeout;
    let stream = upstream::dial(worker, endpoint, timeout, held).await?;
    if let Some(form) = cluster.spec.proxy_protocol {
        proxy_protocol::send(&stream, form, client, timeout).await.map_err(leno_http::Error::connect)?;
    }
    match &cluster.tls {
        Some(terms) if !is_tls => {
            let secured = leno_tls::connect(stream, terms, Offer::Bytes, timeout).await;
            secured.map(|(stream, _)| stream).map_err(leno_http::Error::connect)
        }
        _ => Ok(stream),
    }
}

/// Relays between a client and an endpoint that was dialled.
pub(crate) async fn carry(
    worker: &Worker,
    direction: Direction,
    destination: &Destination,
    dialled: Dialled<'_>,
    stream: Stream,
    first: Bytes,
    server_name: &str,
) {
    let Dialled { cluster, endpoint, stream: upstream, open, tries } = dialled;
    let mut record = StreamRecord::begin(worker, direction, &cluster.edges.tcp, downstream(&stream));
    record.cluster = cluster.spec.name.to_string();
    record.upstream = endpoint.state.address.to_string();
    record.server_name = server_name.to_owned();
    record.tls_version = stream.layer().unwrap_or_default();
    record.tries = tries as u32;
    let relayed = relay(stream, upstream, first, destination.listener.idle_timeout).await;
    drop(open);
    record.received = relayed.a_to_b;
    record.sent = relayed.b_to_a;
    match relayed.end {
        RelayEnd::Closed => {}
        RelayEnd::Idle => record.flag = Some(Flag::IdleTimeout),
        RelayEnd::Broken(side, error) => {
            record.flag = Some(if side == RelaySide::A { Flag::DownstreamClosed } else { Flag::UpstreamClosed });
            record.failure = error.to_string();
        }
    }
}

/// Relays to an address that the mesh does not know.
pub(crate) async fn pass(worker: &Worker, to: SocketAddr, stream: Stream, first: Bytes) {
    let mut record = StreamRecord::begin(worker, Direction::Outbound, &worker.shared.passthrough, downstream(&stream));
    record.upstream = to.to_string();
    record.tries = 1;
    let address = leno_net::Address::Tcp(to);
    match worker.dial.connect(&address, PASS_CONNECT).await {
        Ok(upstream) => {
            let upstream = upstream.with_place(worker.shared.places.count());
            let relayed = relay(stream, upstream, first, PASS_IDLE).await;
            record.received = relayed.a_to_b;
            record.sent = relayed.b_to_a;
        }
        Err(error) => {
            record.flag = Some(Flag::ConnectFailure);
            record.failure = error.to_string();
            stream.reset_on_close();
        }
    }
}

const PASS_CONNECT: std::time::Duration = std::time::Duration::from_secs(10);
const PASS_IDLE: std::time::Duration = std::time::Duration::from_secs(3600);

/// A byte stream has no words for an error: it is reset, and the record says why.
pub(crate) fn refuse(
    worker: &Worker,
    direction: Direction,
    targets: &[Target],
    stream: &Stream,
    failure: &Failure,
    server_name: &str,
) {
    let edge = targets.iter().find_map(|target| target.cluster.as_ref()).map(|cluster| &cluster.edges.tcp);
    let edge = edge.unwrap_or(&worker.shared.unrouted);
    let mut record = StreamRecord::begin(worker, direction, edge, downstream(stream));
    record.flag = Some(failure.flag());
    record.failure = failure.to_string();
    record.server_name = server_name.to_owned();
    tracing::debug!(error = %failure, "connection not served");
    stream.reset_on_close();
}
