//! Who did what: every change and every refused one, in the store.
//!
//! A change to resources is written in the transaction that makes it, so that none can be missing; what other parts did,
//! and refusals, by themselves, before they are answered. What was done and what was refused are kept apart, the newest
//! [`KEPT`] of each: whoever is refused again and again pushes nothing out that was done.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use leno_model::identity::Role;
use leno_model::seam::{Clock, Timestamp};
use leno_runtime::guard::{AuditHook, Audited};
use leno_store::{Key, Store, Txn};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::revision::{decode, encode};

/// How many events of each sort are kept.
pub const KEPT: usize = 10_000;

/// The longest text of an object or outcome that is kept, in characters.
const TEXT_MAX: usize = 500;

/// Events in one transaction.
const BATCH: usize = 32;

/// Events that one transaction forgets when a log is opened.
const FORGOTTEN_MAX: usize = 1000;

/// The outcome of what was done.
const DONE: &str = "done";

const DONE_PREFIX: &str = "audit/";
const REFUSED_PREFIX: &str = "refused/";
/// Written by each log that is opened: the store's revision then is its own.
const WRITER: &str = "control/audit";

/// One thing that somebody did or wanted to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// Who; `anonymous` where no credential was known.
    pub principal: String,
    /// In which role; none for the anonymous.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// From which address; none for what this server did by itself or somebody did on its machine without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// What: `apply`, `delete`, `rollback`, or another route's word; the method of what the guard refused.
    pub action: String,
    /// On what.
    pub object: String,
    /// The revision that came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// `done`, or why it was refused.
    pub outcome: String,
}

/// The audit log. A handle: clones share it.
#[derive(Clone)]
pub struct Audit {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
}

struct Shared {
    /// Which log of all that were ever opened over this store it is: two servers never write the same key.
    writer: u64,
    sequence: AtomicU64,
    /// What was done, and what was refused.
    kept: [Kept; 2],
}

/// The keys of one sort that are in the store, the oldest first: what to forget next.
struct Kept {
    prefix: &'static str,
    keys: Mutex<VecDeque<Key>>,
}

/// What a transaction writes and forgets of each sort, as the log knows it already.
#[must_use = "a transaction that fails is undone"]
#[derive(Default)]
pub(crate) struct Pending([Moved; 2]);

#[derive(Default)]
struct Moved {
    written: Vec<Key>,
    forgotten: Vec<Key>,
}

// === impl Audit ===

impl Audit {
    /// The log in this store.
    pub async fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let writer = store.put(WRITER, Bytes::from_static(b"{}")).await?;
        let kept = [Kept::open(&*store, DONE_PREFIX).await?, Kept::open(&*store, REFUSED_PREFIX).await?];
        let shared = Arc::new(Shared { writer, sequence: AtomicU64::new(0), kept });
        Ok(Self { store, clock, shared })
    }

    /// Writes events of their own: what is not a change to resources, and refusals. A failure to write is logged and not
    /// the caller's.
    pub async fn record(&self, events: Vec<Audited>) {
        for batch in events.chunks(BATCH) {
            if let Err(error) = self.write(batch).await {
                let (action, object) = (&batch[0].action, &batch[0].object);
                tracing::error!(%error, events = batch.len(), action, object, "audit events not written");
            }
        }
    }

    /// As [`Audit::record`], for who has to know that it is written.
    pub async fn try_record(&self, audited: Audited) -> Result<(), Error> {
        self.write(&[audited]).await
    }

    /// What the guard and the routes of an API tell: it returns when the log has it.
    pub fn hook(&self) -> AuditHook {
        let audit = self.clone();
        Arc::new(move |audited| {
            let audit = audit.clone();
            Box::pin(async move { audit.record(vec![audited]).await })
        })
    }

    /// The newest events, at most `limit`, the newest first.
    pub async fn list(&self, limit: usize) -> Result<Vec<Event>, Error> {
        let mut found = Vec::new();
        for prefix in [DONE_PREFIX, REFUSED_PREFIX] {
            let range = self.store.range(prefix, None).await?;
            for item in range.items.iter().rev().take(limit) {
                // The rest of a key is in the order of time.
                found.push((item.key.strip_prefix(prefix).unwrap_or_default().to_owned(), decode(item)?));
            }
        }
        found.sort_by(|(a, _): &(String, Event), (b, _)| b.cmp(a));
        Ok(found.into_iter().take(limit).map(|(_, event)| event).collect())
    }

    pub(crate) fn event(&self, audited: &Audited, revision: Option<u64>) -> Event {
        let cut = |text: &str| text.chars().take(TEXT_MAX).collect();
        let principal = audited.principal.as_ref();
        Event {
            time: self.clock.wall(),
            principal: principal.map_or("anonymous", |principal| &principal.name).to_owned(),
            role: principal.map(|principal| principal.role),
            from: audited.from,
            action: audited.action.clone(),
            object: cut(&audited.object),
            revision,
            outcome: cut(&audited.outcome),
        }
    }

    /// Adds the writing of events, and the forgetting of the oldest of their sort, to a transaction. Should that fail, it
    /// is to be undone; whoever goes away before it is known leaves the log as if it had succeeded.
    pub(crate) fn extend(&self, mut txn: Txn, events: &[Event]) -> Result<(Txn, Pending), Error> {
        let mut pending = Pending::default();
        for event in events {
            let sort = usize::from(event.outcome != DONE);
            let (writer, sequence) = (self.shared.writer, self.shared.sequence.fetch_add(1, Ordering::Relaxed));
            let prefix = self.shared.kept[sort].prefix;
            let key: Key = format!("{prefix}{:016}-{writer:016}-{sequence:010}", event.time.0).into();
            txn = txn.put(&key, encode(&key, event)?);
            pending.0[sort].written.push(key);
        }
        for (kept, moved) in self.shared.kept.iter().zip(&mut pending.0) {
            moved.forgotten = kept.take(&moved.written);
            txn = moved.forgotten.iter().fold(txn, |txn, key| txn.delete(key));
        }
        Ok((txn, pending))
    }

    /// Takes back what a transaction that failed was to move.
    pub(crate) fn undo(&self, pending: Pending) {
        self.shared.kept.iter().zip(pending.0).for_each(|(kept, moved)| kept.give_back(moved));
    }

    async fn write(&self, audited: &[Audited]) -> Result<(), Error> {
        let events: Vec<Event> = audited.iter().map(|audited| self.event(audited, None)).collect();
        let (txn, pending) = self.extend(Txn::new(), &events)?;
        self.store.txn(txn).await.map(drop).map_err(|error| {
            self.undo(pending);
            error.into()
        })
    }
}

// === impl Kept ===

impl Kept {
    /// What the store has, less what is too much: servers that write at one time each forget by themselves.
    async fn open(store: &dyn Store, prefix: &'static str) -> Result<Self, Error> {
        let range = store.range(prefix, None).await?;
        let mut keys: VecDeque<Key> = range.items.into_iter().map(|item| item.key).collect();
        let surplus: Vec<Key> = keys.drain(..keys.len().saturating_sub(KEPT)).collect();
        for batch in surplus.chunks(FORGOTTEN_MAX) {
            store.txn(batch.iter().fold(Txn::new(), |txn, key| txn.delete(key))).await?;
        }
        Ok(Self { prefix, keys: Mutex::new(keys) })
    }

    /// Takes what is written, and answers what has to go for it.
    fn take(&self, written: &[Key]) -> Vec<Key> {
        let mut keys = self.keys();
        keys.extend(written.iter().cloned());
        let surplus = keys.len().saturating_sub(KEPT);
        keys.drain(..surplus).collect()
    }

    fn give_back(&self, moved: Moved) {
        let mut keys = self.keys();
        keys.retain(|key| !moved.written.contains(key));
        moved.forgotten.into_iter().rev().for_each(|key| keys.push_front(key));
    }

    fn keys(&self) -> MutexGuard<'_, VecDeque<Key>> {
        // Nothing that is done under the lock can panic half way.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
