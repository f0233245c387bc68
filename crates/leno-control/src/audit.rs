//! Who did what: every change and every refused one, in the store.
//!
//! A change is written in the transaction that makes it, so that none can be missing; a refusal by itself. The newest
//! [`KEPT`] events are kept.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use leno_model::identity::{Principal, Role};
use leno_model::seam::{Clock, Timestamp};
use leno_store::{Key, Store, Txn};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::revision::{decode, encode};

/// How many events are kept.
pub const KEPT: usize = 10_000;

/// The longest text of an outcome that is kept, in characters.
const OUTCOME_MAX: usize = 500;

const PREFIX: &str = "audit/";

/// One thing that somebody did or wanted to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// Who.
    pub principal: String,
    /// In which role.
    pub role: Role,
    /// What: `apply`, `delete`, `rollback`, or another API's word.
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
    sequence: AtomicU64,
    /// The keys in the store, the oldest first: what to forget next.
    keys: Mutex<VecDeque<Key>>,
}

// === impl Audit ===

impl Audit {
    /// The log in this store.
    pub async fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let keys = store.range(PREFIX, None).await?.items.into_iter().map(|item| item.key).collect();
        let shared = Arc::new(Shared { sequence: AtomicU64::new(0), keys: Mutex::new(keys) });
        Ok(Self { store, clock, shared })
    }

    /// Writes an event of its own: for what is not a change to resources, and for refusals. A failure to write is
    /// logged and not the caller's.
    pub async fn record(&self, principal: &Principal, action: &str, object: &str, outcome: &str) {
        let event = self.event(principal, action, object, None, outcome);
        let written = match self.extend(Txn::new(), &event) {
            Ok(txn) => self.store.txn(txn).await.map(drop).map_err(Error::from),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::error!(%error, action, object, "audit event not written");
        }
    }

    /// The newest events, at most `limit`, the newest first.
    pub async fn list(&self, limit: usize) -> Result<Vec<Event>, Error> {
        let range = self.store.range(PREFIX, None).await?;
        range.items.iter().rev().take(limit).map(decode).collect()
    }

    pub(crate) fn event(
        &self,
        principal: &Principal,
        action: &str,
        object: &str,
        revision: Option<u64>,
        outcome: &str,
    ) -> Event {
        let cut = |text: &str| text.chars().take(OUTCOME_MAX).collect();
        Event {
            time: self.clock.wall(),
            principal: principal.name.clone(),
            role: principal.role,
            action: action.to_owned(),
            object: cut(object),
            revision,
            outcome: cut(outcome),
        }
    }

    /// Adds the writing of an event, and the forgetting of the oldest, to a transaction.
    pub(crate) fn extend(&self, txn: Txn, event: &Event) -> Result<Txn, Error> {
        let sequence = self.shared.sequence.fetch_add(1, Ordering::Relaxed);
        let key: Key = format!("{PREFIX}{:016}-{sequence:08}", event.time.0).into();
        let mut txn = txn.put(&key, encode(&key, event)?);
        let mut keys = self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.push_back(key);
        if keys.len() > KEPT
            && let Some(oldest) = keys.pop_front()
        {
            txn = txn.delete(&oldest);
        }
        Ok(txn)
    }
}
