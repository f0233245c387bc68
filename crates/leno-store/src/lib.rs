//! Consistent state: what must not be lost or forked, behind one trait modelled on etcd.
//!
//! ```text
//! txn(compares, then, otherwise) ─► [ check ─► evaluate ─► commit ] ─► revision ─► log ─► watchers
//! range(prefix, at)              ─► the state at one revision
//! ```
//!
//! Resources, documents, persistent instances and identities live here. SQLite keeps them on one machine, memory in
//! tests and demos, and etcd can be put behind the same trait because nothing here asks for more than it offers.
//!
//! Invariants, held by every implementer and checked by [`suite`]:
//! - There is one revision for the whole store. A transaction that changes something raises it by exactly one, and
//!   all its changes carry that revision.
//! - A write is acknowledged only after it is committed; what was acknowledged survives a crash.
//! - A watch from revision `r` delivers every change from `r` on, in order, once, or ends with
//!   [`Error::Compacted`]. A watcher that is slow costs no memory: it holds a position, not a queue.
//! - A lease never ends early. Renewals are not written, and after a restart each lease gets its full duration anew.
//!
//! Absent on purpose: sub-millisecond reads of hot keys (hold a watch and keep your own copy), values beyond 1.25 MiB
//! (etcd refuses more than 1.5 MiB a request), and any use of wall-clock time.

#![warn(missing_docs)]

mod error;
mod key;
pub mod lease;
mod txn;
mod watch;

pub mod memory;
pub mod sqlite;

pub mod suite;

use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;

pub use error::Error;
pub use key::{KEY_MAX, Key, KeyValue, Range, Revision, VALUE_MAX};
pub use memory::MemoryStore;
pub use sqlite::SqliteStore;

pub use lease::{LEASE_TTL_MAX, LEASE_TTL_MIN, LeaseId};
pub use txn::{Compare, Op, OpResult, Order, TXN_BYTES_MAX, TXN_OPS_MAX, Txn, TxnResult};
pub use watch::{Change, Changes, Watch};

/// What a store answers: a boxed future that may cross threads.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// Consistent state. Object safe: hold an `Arc<dyn Store>`.
///
/// Dropping an answer before it is ready does not undo the operation: it may still be committed.
pub trait Store: Send + Sync {
    /// All keys that start with `prefix`, in order, as they were at revision `at`, or now.
    fn range<'a>(&'a self, prefix: &'a str, at: Option<Revision>) -> Answer<'a, Range>;

    /// One key as it is now.
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<KeyValue>>;

    /// Makes the changes of `then` if all compares hold, else those of `otherwise`; whole or not at all.
    fn txn(&self, txn: Txn) -> Answer<'_, TxnResult>;

    /// Every change to keys that start with `prefix`, from revision `from` (included) on. Read a [`Range`] and watch
    /// from `range.revision + 1` to miss nothing. 0 is the same as 1: from the beginning.
    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> Answer<'a, Watch>;

    /// Forgets what was superseded up to `revision`: the state at `revision` and all later changes stay readable.
    fn compact(&self, revision: Revision) -> Answer<'_, ()>;

    /// A new lease of `ttl`; keys are attached to it by [`Op::Put`].
    fn lease_grant(&self, ttl: Duration) -> Answer<'_, LeaseId>;

    /// Starts the lease's duration anew; answers that duration.
    fn lease_keep_alive(&self, lease: LeaseId) -> Answer<'_, Duration>;

    /// Ends the lease now: its keys are deleted in one revision.
    fn lease_revoke(&self, lease: LeaseId) -> Answer<'_, ()>;

    /// Ends the leases whose time is over and answers how long nothing more will end. [`lease::drive`] calls it.
    fn lease_expire(&self) -> Answer<'_, Duration>;

    /// Writes one key, without a condition; answers the new revision.
    fn put<'a>(&'a self, key: &'a str, value: Bytes) -> Answer<'a, Revision> {
        let txn = Txn::new().put(key, value);
        Box::pin(async move { self.txn(txn).await.map(|done| done.revision) })
    }

    /// Deletes one key, without a condition; whether it was there.
    fn delete<'a>(&'a self, key: &'a str) -> Answer<'a, bool> {
        let txn = Txn::new().delete(key);
        Box::pin(async move {
            let done = self.txn(txn).await?;
            Ok(matches!(done.results.first(), Some(OpResult::Deleted(count)) if *count > 0))
        })
    }
}
