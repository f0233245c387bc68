//! Room for one more connection to a destination whose connections are limited.
//!
//! A connection holds its room as long as its descriptor is open, in pools too. Where none is left, the worker closes what it
//! keeps idle to other instances, and then waits: for room, which comes in order of asking, for one of its own connections
//! to the instance to come back, or for a stream of one of HTTP/2. What other workers keep idle they close within a second
//! when somebody missed one.

use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::future::select_ok;
use leno_http::Connection;
use leno_traffic::bulkhead::Held;
use tokio::time::Instant;

use super::{PoolKey, Unconnected};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::worker::Worker;

/// What was found for a request.
pub(super) enum Room {
    /// A connection is there.
    Found(Connection),
    /// One more may be opened; none where nothing limits that.
    Made(Option<Held>),
}

/// Looks for room, at most for `left`.
pub(super) async fn find(
    worker: &Worker,
    cluster: &Cluster,
    key: &PoolKey,
    left: Option<Duration>,
) -> Result<Room, Unconnected> {
    let Some(limit) = cluster.resilience.connections() else { return Ok(Room::Made(None)) };
    let (timeout, began) = (cluster.spec.connect_timeout, Instant::now());
    if key.http2
        && let Ok(Some(connection)) =
            tokio::time::timeout(left.unwrap_or(timeout).min(timeout), worker.pool.dialled(key)).await
    {
        return Ok(Room::Found(connection));
    }
    let at_first = left;
    let (left, rest) = (left.map(|left| left.saturating_sub(began.elapsed())), timeout.saturating_sub(began.elapsed()));
    if let Some(held) = limit.try_hold() {
        return Ok(Room::Made(Some(held)));
    }
    // More of its streams than are usual, but no further connection.
    if let Some(connection) = worker.pool.shared(key) {
        return Ok(Room::Found(connection));
    }
    let is_other =
        |other: &PoolKey| other != key && cluster.endpoints.iter().any(|own| own.state.key == other.endpoint);
    worker.pool.close_idle(is_other);
    if let Some(held) = limit.try_hold() {
        return Ok(Room::Made(Some(held)));
    }
    cluster.resilience.missed_connection(worker.now());
    if let (Some(left), Some(at_first)) = (left, at_first.filter(|left| !left.is_zero()))
        && left.is_zero()
    {
        return Err(Unconnected::Full(Failure::Timeout(at_first)));
    }
    if left.is_some_and(|left| left.is_zero()) {
        limit.count_refused();
        return Err(full(cluster));
    }
    let mut waiting = pin!(limit.wait().map_err(|_| full(cluster))?);
    let freed = worker.pool.freed(key);
    let waited = async {
        let mut turn = turn(worker, key);
        loop {
            tokio::select! {
                biased;
                () = freed.notified() => {
                    // Somebody who has not waited may have been quicker.
                    if let Some(connection) = worker.pool.get(key) {
                        return Room::Found(connection);
                    }
                    if turn.is_none() {
                        turn = self::turn(worker, key);
                    }
                }
                came = async { match &mut turn { Some(turn) => turn.await, None => pending().await } } => match came {
                    Some(connection) => return Room::Found(connection),
                    // It ended, which makes room.
                    None => turn = None,
                },
                entered = &mut waiting => return Room::Made(Some(entered.hold(limit))),
            }
        }
    };
    tokio::time::timeout(left.unwrap_or(rest).min(rest), waited).await.map_err(|_| match left {
        Some(left) if left < rest => Unconnected::Full(Failure::Timeout(left)),
        _ => {
            limit.count_late();
            Unconnected::Full(Failure::QueueTimeout { cluster: cluster.spec.name.to_string(), waited: timeout })
        }
    })
}

/// The turn to open a stream on the first of the connections of HTTP/2 that has one again; comes to none when all end.
fn turn(worker: &Worker, key: &PoolKey) -> Option<Pin<Box<impl Future<Output = Option<Connection>> + use<>>>> {
    let turns: Vec<_> = worker.pool.busy(key).into_iter().map(|connection| Box::pin(connection.in_turn())).collect();
    (!turns.is_empty()).then(|| Box::pin(async move { select_ok(turns).await.ok().map(|(connection, _)| connection) }))
}

/// Room for a byte stream, which does not wait.
pub(crate) fn at_once(worker: &Worker, cluster: &Cluster) -> Result<Option<Held>, Failure> {
    let Some(limit) = cluster.resilience.connections() else { return Ok(None) };
    limit.try_hold().map(Some).ok_or_else(|| {
        cluster.resilience.missed_connection(worker.now());
        limit.count_refused();
        overflow(cluster)
    })
}

fn full(cluster: &Cluster) -> Unconnected {
    Unconnected::Full(overflow(cluster))
}

fn overflow(cluster: &Cluster) -> Failure {
    let max = cluster.spec.resilience.limits.connections.unwrap_or(u32::MAX);
    Failure::ConnectionOverflow { cluster: cluster.spec.name.to_string(), max }
}
