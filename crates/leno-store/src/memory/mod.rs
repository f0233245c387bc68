//! # Name
//! memory: a store that ends with its process, for tests and for whoever needs nothing to stay.
//!
//! # Description
//! A pure [`core`] behind a mutex that is never held across an await: a sorted map and the changes of the last
//! revisions with what they replaced, from which an earlier state is computed backwards.
//!
//! # Limits
//! [`HISTORY_REVISIONS_MAX`] revisions and [`HISTORY_BYTES_MAX`] bytes of history, then the oldest are compacted.
//!
//! # Trust
//! Keys, values and transactions are checked as in every store; nothing is read from outside.

mod core;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::ready;
use leno_model::seam::Clock;
use tokio::sync::watch as signal;

use self::core::Core;
use crate::key::{check_key, check_prefix};
use crate::watch::{Found, History, Page, follow};
use crate::{Answer, Error, KeyValue, LeaseId, Range, Revision, Store, Txn, TxnResult, Watch};

pub use self::core::{HISTORY_BYTES_MAX, HISTORY_REVISIONS_MAX};

/// A store in memory. Clones share their content.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

struct Shared {
    core: Mutex<Core>,
    newest: signal::Sender<Option<Revision>>,
}

// === impl MemoryStore ===

impl MemoryStore {
    /// An empty store whose leases follow `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let shared = Shared { core: Mutex::new(Core::default()), newest: signal::Sender::new(Some(0)) };
        Self { shared: Arc::new(shared), clock }
    }

    /// Works on the core and tells the watchers if the revision rose.
    fn change<T>(&self, step: impl FnOnce(&mut Core) -> Result<T, Error>) -> Result<T, Error> {
        let mut core = self.shared.lock();
        let result = step(&mut core);
        let revision = core.revision();
        drop(core);
        self.shared.newest.send_if_modified(|newest| {
            let rose = *newest < Some(revision);
            if rose {
                *newest = Some(revision);
            }
            rose
        });
        result
    }
}

impl Store for MemoryStore {
    fn range<'a>(&'a self, prefix: &'a str, at: Option<Revision>) -> Answer<'a, Range> {
        Box::pin(ready(check_prefix(prefix).and_then(|()| self.shared.lock().range(prefix, at))))
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<KeyValue>> {
        Box::pin(ready(check_key(key).map(|()| self.shared.lock().get(key))))
    }

    fn txn(&self, txn: Txn) -> Answer<'_, TxnResult> {
        Box::pin(ready(txn.check().and_then(|()| self.change(|core| core.txn(&txn)))))
    }

    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> Answer<'a, Watch> {
        let checked = check_prefix(prefix).and_then(|()| self.shared.lock().check_from(from.max(1)));
        Box::pin(ready(checked.map(|()| follow(self.shared.clone(), prefix, from.max(1)))))
    }

    fn compact(&self, revision: Revision) -> Answer<'_, ()> {
        Box::pin(ready(self.change(|core| core.compact(revision))))
    }

    fn lease_grant(&self, ttl: Duration) -> Answer<'_, LeaseId> {
        let now = self.clock.monotonic();
        Box::pin(ready(self.change(|core| core.lease_grant(ttl, now))))
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> Answer<'_, Duration> {
        let now = self.clock.monotonic();
        Box::pin(ready(self.change(|core| core.lease_keep_alive(lease, now))))
    }

    fn lease_revoke(&self, lease: LeaseId) -> Answer<'_, ()> {
        Box::pin(ready(self.change(|core| core.lease_revoke(lease))))
    }

    fn lease_expire(&self) -> Answer<'_, Duration> {
        let now = self.clock.monotonic();
        Box::pin(ready(self.change(|core| Ok(core.lease_expire(now)))))
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").field("revision", &self.shared.lock().revision()).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History for Shared {
    fn find(&self, revision: Revision) -> Found {
        self.lock().find(revision)
    }

    fn read<'a>(&'a self, _prefix: &'a str, from: Revision) -> Answer<'a, Page> {
        // What memory has forgotten is kept nowhere else.
        Box::pin(ready(Err(self.lock().compacted(from))))
    }

    fn subscribe(&self) -> signal::Receiver<Option<Revision>> {
        self.newest.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite;

    #[test]
    fn memory_keeps_the_promises_of_a_store() {
        suite::run(|clock| async move { Arc::new(MemoryStore::new(clock)) as Arc<dyn Store> });
    }
}
