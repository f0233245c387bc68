//! A connection to an endpoint: from the worker's pool, else dialled.
//!
//! Hot path: no locks held; a pooled connection costs one look-up by a number.

use std::time::Duration;

use leno_http::{Connection, Error, Version};
use leno_net::Stream;

use crate::cluster::{Cluster, Endpoint, EndpointKey};
use crate::worker::Worker;

/// Names a pool's connections: an endpoint and what is spoken with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) endpoint: EndpointKey,
    pub(crate) http2: bool,
}

/// What an endpoint of `cluster` is spoken to in, for a request that came in `version`.
pub(crate) fn speaks_http2(cluster: &Cluster, version: Version) -> bool {
    use leno_model::instance::Protocol;
    match cluster.spec.protocol {
        Protocol::Http => false,
        Protocol::Http2 | Protocol::Grpc => true,
        Protocol::Detect | Protocol::Tcp | Protocol::Tls => version == Version::Http2,
    }
}

/// An open HTTP connection to an endpoint.
pub(crate) async fn connect(
    worker: &Worker,
    cluster: &Cluster,
    endpoint: &Endpoint,
    http2: bool,
) -> Result<Connection, Error> {
    let key = PoolKey { endpoint: endpoint.state.key, http2 };
    if let Some(connection) = worker.pool.get(&key) {
        return Ok(connection);
    }
    let dial = || async {
        let stream = dial(worker, endpoint, cluster.spec.connect_timeout).await?;
        open(worker, stream, http2).await
    };
    // Boxed, because it is rare and larger than all the rest of an exchange.
    Box::pin(worker.pool.get_or_dial(&key, http2, dial)).await
}

/// A fresh byte stream to an endpoint.
pub(crate) async fn dial(worker: &Worker, endpoint: &Endpoint, timeout: Duration) -> Result<Stream, Error> {
    let dial = if endpoint.state.is_application { &worker.application_dial } else { &worker.dial };
    let stream = dial.connect(&endpoint.state.address, timeout).await.map_err(Error::connect)?;
    Ok(stream.with_place(worker.shared.places.count()))
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
