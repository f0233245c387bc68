//! Who did what: every change and every refused one, in the store.
//!
//! A change to resources is written in the transaction that makes it, so that none can be missing; what other parts did,
//! and refusals, by themselves, before they are answered. What was done and what was refused are kept apart, the newest
//! [`KEPT`] of each: whoever is refused again and again pushes nothing out that was done.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
    done: Mutex<VecDeque<Key>>,
    refused: Mutex<VecDeque<Key>>,
}

// === impl Audit ===

impl Audit {
    /// The log in this store.
    pub async fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let writer = store.put(WRITER, Bytes::from_static(b"{}")).await?;
        let done = Mutex::new(keys(&*store, DONE_PREFIX).await?);
        let refused = Mutex::new(keys(&*store, REFUSED_PREFIX).await?);
        let shared = Arc::new(Shared { writer, sequence: AtomicU64::new(0), done, refused });
        Ok(Self { store, clock, shared })
    }

    /// Writes events of their own: what is not a change to resources, and refusals. A failure to write is logged and not
    /// the caller's.
    pub async fn record(&self, events: Vec<Audited>) {
        for batch in events.chunks(BATCH) {
            let txn = batch.iter().try_fold(Txn::new(), |txn, audited| self.extend(txn, &self.event(audited, None)));
            let written = match txn {
                Ok(txn) => self.store.txn(txn).await.map(drop).map_err(Error::from),
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                let (action, object) = (&batch[0].action, &batch[0].object);
                tracing::error!(%error, events = batch.len(), action, object, "audit events not written");
            }
        }
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

    /// Adds the writing of an event, and the forgetting of the oldest of its sort, to a transaction.
    pub(crate) fn extend(&self, txn: Txn, event: &Event) -> Result<Txn, Error> {
        let (prefix, kept) = match event.outcome == DONE {
            true => (DONE_PREFIX, &self.shared.done),
            false => (REFUSED_PREFIX, &self.shared.refused),
        };
        let (writer, sequence) = (self.shared.writer, self.shared.sequence.fetch_add(1, Ordering::Relaxed));
        let key: Key = format!("{prefix}{:016}-{writer:016}-{sequence:010}", event.time.0).into();
        let mut txn = txn.put(&key, encode(&key, event)?);
        let mut keys = kept.lock().unwrap_or_else(PoisonError::into_inner);
        keys.push_back(key);
        if keys.len() > KEPT
            && let Some(oldest) = keys.pop_front()
        {
            txn = txn.delete(&oldest);
        }
        Ok(txn)
    }
}

/// The keys of one sort in the store, the oldest first: what to forget next.
async fn keys(store: &dyn Store, prefix: &str) -> Result<VecDeque<Key>, Error> {
    Ok(store.range(prefix, None).await?.items.into_iter().map(|item| item.key).collect())
}
