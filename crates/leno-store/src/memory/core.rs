//! The state of a store and the rules by which it changes: no lock, no clock, no waiting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crate::key::prefix_end;
use crate::lease::Leases;
use crate::txn::{View, evaluate};
use crate::watch::Found;
use crate::{Change, Changes, Error, Key, KeyValue, LeaseId, Range, Revision, Txn, TxnResult};

/// The most revisions of which the past is kept.
pub const HISTORY_REVISIONS_MAX: usize = 10_000;

/// The most bytes of past that are kept.
pub const HISTORY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The state.
#[derive(Debug, Default)]
pub(super) struct Core {
    current: BTreeMap<Key, KeyValue>,
    revision: Revision,
    /// States before this revision cannot be asked for.
    compacted: Revision,
    /// One entry per revision after `compacted`.
    history: VecDeque<Past>,
    history_bytes: usize,
    leases: Leases,
    lease_last: u64,
    lease_keys: BTreeMap<LeaseId, BTreeSet<Key>>,
}

/// What a revision changed, and what stood there before.
#[derive(Debug)]
struct Past {
    changes: Changes,
    before: Vec<Option<KeyValue>>,
}

// === impl Core ===

impl Core {
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn get(&self, key: &str) -> Option<KeyValue> {
        self.current.get(key).cloned()
    }

    pub(super) fn range(&self, prefix: &str, at: Option<Revision>) -> Result<Range, Error> {
        let revision = at.unwrap_or(self.revision);
        if revision > self.revision {
            return Err(Error::Future { asked: revision, newest: self.revision });
        }
        if revision < self.compacted {
            return Err(Error::Compacted { asked: revision, oldest: self.compacted });
        }
        let mut state: BTreeMap<Key, KeyValue> =
            self.under(prefix).map(|(key, kv)| (key.clone(), kv.clone())).collect();
        let later = self.history.iter().rev().take_while(|past| past.changes.revision > revision);
        for (change, before) in later.flat_map(|past| past.changes.changes.iter().zip(&past.before)) {
            match before {
                _ if !change.key().starts_with(prefix) => {}
                Some(before) => drop(state.insert(before.key.clone(), before.clone())),
                None => drop(state.remove(change.key())),
            }
        }
        Ok(Range { revision, items: state.into_values().collect() })
    }

    pub(super) fn txn(&mut self, txn: &Txn) -> Result<TxnResult, Error> {
        let outcome = evaluate(self, txn, self.revision + 1)?;
        self.commit(outcome.changes);
        Ok(TxnResult { succeeded: outcome.succeeded, revision: self.revision, results: outcome.results })
    }

    pub(super) fn compact(&mut self, revision: Revision) -> Result<(), Error> {
        if revision > self.revision {
            return Err(Error::Future { asked: revision, newest: self.revision });
        }
        while self.compacted < revision {
            self.forget_oldest();
        }
        Ok(())
    }

    pub(super) fn check_from(&self, from: Revision) -> Result<(), Error> {
        if from <= self.compacted {
            return Err(self.compacted(from));
        }
        if from > self.revision + 1 {
            return Err(Error::Future { asked: from, newest: self.revision });
        }
        Ok(())
    }

    /// The error of a watch that asks for `from`, which is forgotten.
    pub(super) fn compacted(&self, from: Revision) -> Error {
        Error::Compacted { asked: from, oldest: self.compacted + 1 }
    }

    pub(super) fn find(&self, revision: Revision) -> Found {
        if revision > self.revision {
            return Found::NotYet;
        }
        let index = revision.checked_sub(self.compacted + 1);
        let past = index.and_then(|index| self.history.get(index as usize));
        past.map_or(Found::Gone, |past| Found::Here(past.changes.clone()))
    }

    pub(super) fn lease_grant(&mut self, ttl: Duration, now: Duration) -> Result<LeaseId, Error> {
        self.leases.check(ttl)?;
        self.lease_last += 1;
        let lease = LeaseId(self.lease_last);
        self.leases.insert(lease, ttl, now);
        Ok(lease)
    }

    pub(super) fn lease_keep_alive(&mut self, lease: LeaseId, now: Duration) -> Result<Duration, Error> {
        self.leases.keep_alive(lease, now)
    }

    pub(super) fn lease_revoke(&mut self, lease: LeaseId) -> Result<(), Error> {
        if !self.leases.alive(lease) {
            return Err(Error::LeaseUnknown(lease));
        }
        self.end(lease);
        Ok(())
    }

    pub(super) fn lease_expire(&mut self, now: Duration) -> Duration {
        for lease in self.leases.over(now) {
            self.end(lease);
        }
        self.leases.pause(now)
    }

    fn end(&mut self, lease: LeaseId) {
        self.leases.remove(lease);
        let keys = self.lease_keys.remove(&lease).unwrap_or_default();
        let revision = self.revision + 1;
        self.commit(keys.into_iter().map(|key| Change::deletion(key, revision)).collect());
    }

    /// Takes over changes that carry the next revision; none change nothing.
    fn commit(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let mut before = Vec::with_capacity(changes.len());
        for change in &changes {
            let old = match change {
                Change::Put(kv) => self.current.insert(kv.key.clone(), kv.clone()),
                Change::Delete(kv) => self.current.remove(&kv.key),
            };
            if let Some((lease, old)) = old.as_ref().and_then(|old| Some((old.lease?, old)))
                && let Some(keys) = self.lease_keys.get_mut(&lease)
            {
                keys.remove(&old.key);
            }
            if let Change::Put(kv) = change
                && let Some(lease) = kv.lease
            {
                self.lease_keys.entry(lease).or_default().insert(kv.key.clone());
            }
            before.push(old);
        }
        self.revision += 1;
        let past = Past { changes: Changes { revision: self.revision, changes: Arc::from(changes) }, before };
        self.history_bytes += past.bytes();
        self.history.push_back(past);
        while self.history.len() > HISTORY_REVISIONS_MAX || self.history_bytes > HISTORY_BYTES_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(past) = self.history.pop_front() {
            self.history_bytes -= past.bytes();
            self.compacted = past.changes.revision;
        }
    }

    fn under(&self, prefix: &str) -> impl Iterator<Item = (&Key, &KeyValue)> {
        let end = prefix_end(prefix);
        let upper = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.current.range::<str, _>((Bound::Included(prefix), upper))
    }
}

impl View for Core {
    fn get(&self, key: &str) -> Result<Option<KeyValue>, Error> {
        Ok(self.current.get(key).cloned())
    }

    fn prefix(&self, prefix: &str) -> Result<Vec<KeyValue>, Error> {
        Ok(self.under(prefix).map(|(_, kv)| kv.clone()).collect())
    }

    fn lease_alive(&self, lease: LeaseId) -> Result<bool, Error> {
        Ok(self.leases.alive(lease))
    }
}

// === impl Past ===

impl Past {
    /// About how much memory it holds.
    fn bytes(&self) -> usize {
        let after = self.changes.changes.iter().map(|change| size(change.key_value()));
        let before = self.before.iter().flatten().map(size);
        after.chain(before).sum::<usize>() + std::mem::size_of::<Self>()
    }
}

fn size(kv: &KeyValue) -> usize {
    std::mem::size_of::<KeyValue>() + kv.key.len() + kv.value.len()
}
