//! What is kept of an instance on disk, and how: one JSON text per instance, under a key that names it.
//!
//! Leases are kept as durations, never as moments: after a restart each begins anew.

use std::sync::Arc;

use leno_model::instance::{Instance, ProbeResult};
use leno_model::seam::Timestamp;
use leno_store::{Op, Store, Txn};
use serde::{Deserialize, Serialize};

use crate::catalogue::{InstanceKey, succeed};
use crate::{LeaseState, Origin, Registered};

/// Under what all records lie.
const PREFIX: &str = "registry/instance/";

/// The most records in one transaction. The largest (metadata of control characters, each six bytes in JSON) has some
/// 60 KiB, and so many of them stay below [`leno_store::TXN_BYTES_MAX`].
pub(crate) const BATCH_MAX: usize = 100;

/// Why a registry could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store could not be read.
    #[error("the instances could not be read from the store: {0}")]
    Store(#[from] leno_store::Error),
}

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) instance: Instance,
    #[serde(default)]
    origin: Origin,
    #[serde(default)]
    probe: ProbeResult,
    #[serde(default)]
    since: Timestamp,
}

/// Reads all records; what cannot be read is left where it is, and said.
pub(crate) async fn load(store: &dyn Store) -> Result<Vec<Registered>, OpenError> {
    let range = store.range(PREFIX, None).await?;
    let mut kept = Vec::with_capacity(range.items.len());
    for item in range.items {
        match serde_json::from_slice::<Record>(&item.value) {
            Ok(record) => kept.push(record.registered()),
            Err(error) => tracing::warn!(key = %item.key, %error, "a stored instance cannot be read and was left out"),
        }
    }
    Ok(kept)
}

/// Writes records, or removes them where there is none.
pub(crate) async fn write(
    store: &dyn Store,
    records: impl Iterator<Item = (&InstanceKey, Option<Record>)>,
) -> Result<(), leno_store::Error> {
    let mut txn = Txn::new();
    for (key, record) in records {
        let key = Arc::from(format!("{PREFIX}{}/{}/{}", key.service.namespace, key.service.name, key.id));
        txn = txn.then(match record {
            Some(record) => Op::Put { key, value: record.text().into(), lease: None },
            None => Op::Delete(key),
        });
    }
    store.txn(txn).await.map(drop)
}

// === impl Record ===

impl Record {
    /// What is to be kept of an instance.
    pub(crate) fn of(registered: &Registered) -> Self {
        Self {
            instance: registered.instance.clone(),
            origin: registered.origin,
            probe: registered.probe,
            since: registered.since,
        }
    }

    /// What is to be kept of a registration that follows `before`.
    pub(crate) fn following(before: Option<&Registered>, instance: Instance, origin: Origin, now: Timestamp) -> Self {
        match before {
            Some(before) => Self::of(&succeed(before, instance, origin)),
            None => Self { instance, origin, probe: ProbeResult::Unknown, since: now },
        }
    }

    fn registered(self) -> Registered {
        let lease = if self.instance.lease.is_some() { LeaseState::Valid } else { LeaseState::Persistent };
        let Self { instance, origin, probe, since } = self;
        Registered { instance, origin, lease, probe, since, registration: 0, revision: 0 }
    }

    fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an instance has only what JSON can say: text keys, numbers, no foreign types")
    }
}
