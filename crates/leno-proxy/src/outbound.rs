//! From the application to the world: captured connections, names, HTTP proxy requests, CONNECT, a port for one
//! destination.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use leno_http::{ResponseHead, Text};
use leno_model::instance::Protocol;
use leno_model::name::ServiceName;
use leno_model::snapshot::{self, BalancePolicy, IDLE_TIMEOUT, Listener, Name};
use leno_net::{Address, Stream};
use leno_telemetry::access::Direction;

use crate::cluster::{Cluster, Edges, Endpoint, EndpointState};
use crate::connection::{self, HttpConnection, Where};
use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::lookup::{Found, WAIT_MAX};
use crate::opaque;
use crate::table::{self, Destination};
use crate::worker::{OutboundDefault, Worker, split_port};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Receives a connection to the outbound port: captured on its way elsewhere, or made to the port itself by a program
/// that uses it as its HTTP proxy or names its destination in `Host`.
pub(crate) async fn receive(worker: Rc<Worker>, stream: Stream) -> Option<HttpConnection> {
    match stream.original_destination() {
        Some(wanted) => receive_captured(&worker, stream, wanted).await,
        None => connection::receive(&worker, Direction::Outbound, Where::ByAuthority, stream, Bytes::new()).await,
    }
}

/// Receives a connection to a port that leads to one destination.
pub(crate) async fn receive_to(worker: Rc<Worker>, name: Name, stream: Stream) -> Option<HttpConnection> {
    receive_found(&worker, find(&worker, &name).await, stream).await
}

async fn receive_captured(worker: &Rc<Worker>, stream: Stream, wanted: SocketAddr) -> Option<HttpConnection> {
    let names = worker.shared.virtual_names.as_ref();
    if names.is_some_and(|names| names.is_virtual(wanted.ip())) {
        let found = match names.and_then(|names| names.name_of(wanted.ip())) {
            Some(host) => find(worker, &format!("{host}:{}", wanted.port()).into()).await,
            None => Err(Failure::NoService(wanted.to_string())),
        };
        return receive_found(worker, found, stream).await;
    }
    match check_outside(worker, &wanted) {
        Ok(()) => opaque::pass(worker, wanted, stream, Bytes::new()).await,
        Err(failure) => opaque::refuse(worker, Direction::Outbound, &[], &stream, &failure, ""),
    }
    None
}

async fn receive_found(
    worker: &Rc<Worker>,
    found: Result<Arc<Destination>, Failure>,
    stream: Stream,
) -> Option<HttpConnection> {
    match found {
        Ok(found) => connection::receive(worker, Direction::Outbound, Where::Named(found), stream, Bytes::new()).await,
        Err(failure) => {
            opaque::refuse(worker, Direction::Outbound, &[], &stream, &failure, "");
            None
        }
    }
}

/// The destination of a listener's name.
pub(crate) async fn find(worker: &Worker, name: &Name) -> Result<Arc<Destination>, Failure> {
    match worker.shared.lookup.find(name, || worker.now()).await {
        Found::Destination(destination) => Ok(destination),
        Found::Absent => Err(Failure::NoService(name.to_string())),
        Found::Unknown => Err(Failure::NotSynced { name: name.to_string(), waited: WAIT_MAX }),
    }
}

/// The destination of an authority, in the mesh or outside.
pub(crate) async fn by_authority(worker: &Worker, authority: &Text) -> Result<Arc<Destination>, Failure> {
    match worker.destination(authority).await? {
        Some(destination) => Ok(destination),
        None => outside(worker, authority, 80).await,
    }
}

/// Serves CONNECT: what comes through the tunnel is looked at like any other connection.
pub(crate) async fn connect(worker: &Rc<Worker>, exchange: &mut Exchange<'_>) {
    let found = match &exchange.head.authority {
        None => Err(Failure::NoHost),
        Some(authority) => match worker.destination(authority).await {
            Ok(Some(destination)) => Ok(Where::Named(destination)),
            Ok(None) => outside(worker, authority, 443).await.map(Where::Fixed),
            Err(failure) => Err(failure),
        },
    };
    let to = match found {
        Ok(to) => to,
        Err(failure) => return exchange.refuse(failure).await,
    };
    let Some(reply) = exchange.take_reply() else { return };
    if let Ok(tunnel) = reply.upgrade(ResponseHead::new(200)).await {
        // On a task of its own: the connection's own future must not hold itself.
        let tunnelled = worker.clone();
        let guard = worker.shared.drain.guard();
        worker.spawn("tunnel", async move {
            connection::serve_tunnel(&tunnelled, to, tunnel).await;
            drop(guard);
        });
    }
}

/// A destination outside the mesh.
async fn outside(worker: &Worker, authority: &Text, default_port: u16) -> Result<Arc<Destination>, Failure> {
    if worker.shared.outbound_default == OutboundDefault::Deny {
        return Err(Failure::Denied(authority.to_string()));
    }
    if let Some(known) = worker.outside(authority) {
        return Ok(known);
    }
    let (host, port) = split_port(authority);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.unwrap_or(default_port);
    let found = worker.outside_names.find(host).await?;
    // Whoever waited for the same look-up may have been here before.
    if let Some(known) = worker.outside(authority) {
        return Ok(known);
    }
    let addresses = found.addresses.iter().map(|address| SocketAddr::new(*address, port));
    let checked = addresses.map(|address| check_outside(worker, &address).map(|()| address));
    let (allowed, denied): (Vec<_>, Vec<_>) = checked.partition(Result::is_ok);
    let addresses: Vec<SocketAddr> = allowed.into_iter().flatten().collect();
    if let (true, Some(failure)) = (addresses.is_empty(), denied.into_iter().find_map(Result::err)) {
        return Err(failure);
    }
    let destination = Arc::new(passthrough(worker, authority, port, &addresses));
    worker.remember_outside(authority, &destination, found.until);
    Ok(destination)
}

/// Whether an address outside the mesh may be reached: never a link-local one, where clouds keep credentials.
fn check_outside(worker: &Worker, address: &SocketAddr) -> Result<(), Failure> {
    let link_local = match address.ip() {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_link_local()),
    };
    if link_local || worker.shared.outbound_default == OutboundDefault::Deny {
        return Err(Failure::Denied(address.to_string()));
    }
    Ok(())
}

/// One endpoint for each address, so that another one is tried where a connection cannot be made.
pub(crate) fn passthrough(worker: &Worker, authority: &Text, port: u16, addresses: &[SocketAddr]) -> Destination {
    let edge = &worker.shared.passthrough;
    let edges = Edges { http: edge.clone(), grpc: edge.clone(), tcp: edge.clone() };
    let state = |address: &SocketAddr| (*address, EndpointState::new(Address::Tcp(*address), false));
    let endpoints = addresses.iter().map(state).collect();
    let mut destination = local(authority.as_str().into(), None, port, endpoints, Protocol::Detect, edges);
    destination.outside = true;
    destination
}

/// A destination of known addresses.
pub(crate) fn local(
    name: Name,
    service: Option<ServiceName>,
    port: u16,
    endpoints: Vec<(SocketAddr, EndpointState)>,
    protocol: Protocol,
    edges: Edges,
) -> Destination {
    let spec = Arc::new(snapshot::Cluster {
        name: name.clone(),
        service: service.clone().unwrap_or_else(|| ServiceName { namespace: "".into(), name: name.clone() }),
        port,
        protocol,
        balance: BalancePolicy::PeakEwma,
        connect_timeout: CONNECT_TIMEOUT,
        idle_timeout: IDLE_TIMEOUT,
        tls: None,
        proxy_protocol: None,
        resilience: Default::default(),
        balancing: Default::default(),
    });
    let endpoint = |(address, state)| {
        let spec = snapshot::Endpoint::at(name.clone(), address);
        Endpoint { spec, state: Arc::new(state), since: None, program: None }
    };
    let endpoints = endpoints.into_iter().map(endpoint).collect();
    let cluster = Cluster::new(spec, endpoints, Arc::default(), edges, 0, Arc::default());
    let listener = Listener { service, port, protocol, ..Listener::named(name) };
    table::single(cluster, listener)
}
