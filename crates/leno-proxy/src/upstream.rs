//! A connection to an endpoint: from the worker's pool, else dialled.
//!
//! Hot path: no locks held; a pooled connection costs one look-up by a number.

use std::io;
use std::time::Duration;

use leno_http::{Connection, Error, Version};
use leno_model::instance::Protocol;
use leno_net::Stream;
use leno_tls::ClientTerms;
use leno_tls::connect::Offer;
use leno_traffic::bulkhead::Held;

use self::room::Room;
use crate::cluster::{Cluster, Endpoint, EndpointKey};
use crate::failure::Failure;
use crate::worker::Worker;

mod room;

pub(crate) use self::room::at_once;

/// Names a pool's connections: an endpoint and what is spoken with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) endpoint: EndpointKey,
    pub(crate) http2: bool,
    /// The terms of TLS, by number; 0 for none. Another cluster may have other terms for the same endpoint.
    pub(crate) tls: u64,
}

/// What an endpoint of `cluster` is spoken to in, for a request that came in `version`.
pub(crate) fn speaks_http2(cluster: &Cluster, version: Version) -> bool {
    match cluster.spec.protocol {
        Protocol::Http => false,
        Protocol::Http2 | Protocol::Grpc => true,
        Protocol::Detect | Protocol::Tcp | Protocol::Tls => version == Version::Http2,
    }
}

/// Why there is no connection.
pub(crate) enum Unconnected {
    /// It could not be opened.
    Error(Error),
    /// As many as may be are open.
    Full(Failure),
}

/// An open HTTP connection to an endpoint; where they are limited it is waited for, at most for `left`.
pub(crate) async fn connect(
    worker: &Worker,
    cluster: &Cluster,
    endpoint: &Endpoint,
    http2: bool,
    left: Option<Duration>,
) -> Result<Connection, Unconnected> {
    let tls = cluster.tls.as_ref().map_or(0, |terms| terms.number());
    let key = PoolKey { endpoint: endpoint.state.key, http2, tls };
    if let Some(connection) = worker.pool.get(&key) {
        return Ok(connection);
    }
    // Boxed, because it is rare and larger than all the rest of an exchange.
    Box::pin(open_one(worker, cluster, endpoint, key, left)).await
}

async fn open_one(
    worker: &Worker,
    cluster: &Cluster,
    endpoint: &Endpoint,
    key: PoolKey,
    left: Option<Duration>,
) -> Result<Connection, Unconnected> {
    let held = match room::find(worker, cluster, &key, left).await? {
        Room::Found(connection) => return Ok(connection),
        Room::Made(held) => held,
    };
    let http2 = key.http2;
    let dial = || async move {
        if cluster.spec.proxy_protocol.is_some() {
            return Err(Error::connect(io::Error::other(
                "it takes a PROXY header, which says for whom a connection is, and connections of HTTP are for everybody: \
                 lead to it with a TCPRoute or TLSRoute",
            )));
        }
        let stream = dial(worker, endpoint, cluster.spec.connect_timeout, held).await?;
        match &cluster.tls {
            None => open(worker, stream, http2).await,
            Some(terms) => open_over_tls(worker, cluster, terms, stream, http2).await,
        }
    };
    worker.pool.get_or_dial(&key, http2, dial).await.map_err(Unconnected::Error)
}

/// A fresh byte stream to an endpoint, which keeps its room as long as it is open.
pub(crate) async fn dial(
    worker: &Worker,
    endpoint: &Endpoint,
    timeout: Duration,
    held: Option<Held>,
) -> Result<Stream, Error> {
    let dial = if endpoint.state.is_application { &worker.application_dial } else { &worker.dial };
    let stream = dial.connect(&endpoint.state.address, timeout).await.map_err(Error::connect)?;
    let place = worker.shared.places.count();
    Ok(stream.with_place(match held {
        Some(held) => place.holding(held),
        None => place,
    }))
}

/// HTTP over TLS over a stream that was dialled. Whether it is HTTP/2 the server says, where it is not declared.
async fn open_over_tls(
    worker: &Worker,
    cluster: &Cluster,
    terms: &ClientTerms,
    stream: Stream,
    http2: bool,
) -> Result<Connection, Error> {
    let declared = matches!(cluster.spec.protocol, Protocol::Http2 | Protocol::Grpc);
    let offer = match http2 {
        true if declared => Offer::Http2,
        true => Offer::Either,
        false => Offer::Http1,
    };
    let secured = leno_tls::connect(stream, terms, offer, cluster.spec.connect_timeout).await;
    let (stream, agreed) = secured.map_err(Error::connect)?;
    if declared && !agreed.http2 {
        let error = format!("{} does not agree to HTTP/2 by ALPN", terms.spec().server_name);
        return Err(Error::connect(io::Error::new(io::ErrorKind::InvalidData, error)));
    }
    open(worker, stream, agreed.http2).await
}

/// HTTP over a stream that was dialled.
pub(crate) async fn open(worker: &Worker, stream: Stream, http2: bool) -> Result<Connection, Error> {
    if !http2 {
        return Ok(Connection::h1(stream, &worker.client_options));
    }
    let (connection, driver) = Connection::h2(stream, &worker.client_options).await?;
    worker.spawn("upstream-h2", driver);
    Ok(connection)
}
