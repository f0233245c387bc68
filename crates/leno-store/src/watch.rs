//! Watches: a position in the store's history, not a queue.
//!
//! A watcher that is slow holds nothing but the revision at which it stands. Changes come from a log that all
//! watchers share; one that falls behind what is kept gets [`Error::Compacted`] and reads the range anew.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;

use crate::{Error, Key, KeyValue, Revision};

/// One change to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was written; this is how it stands since.
    Put(KeyValue),
    /// It was deleted, by a caller or with its lease; only the key and `mod_revision` say anything.
    Delete(KeyValue),
}

/// What one revision changed under the watched prefix, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The revision.
    pub revision: Revision,
    /// Its changes, at least one. Shared between watchers when nothing had to be left out.
    pub changes: Arc<[Change]>,
}

/// The changes under a prefix, in order and without a gap. Ends after an error; dropping it ends the watch.
pub struct Watch {
    changes: BoxStream<'static, Result<Changes, Error>>,
}

// === impl Change ===

impl Change {
    /// The key that changed.
    pub fn key(&self) -> &Key {
        &self.key_value().key
    }

    /// The key and its state after the change.
    pub fn key_value(&self) -> &KeyValue {
        match self {
            Self::Put(kv) | Self::Delete(kv) => kv,
        }
    }

    pub(crate) fn deletion(key: Key, revision: Revision) -> Self {
        let value = Bytes::new();
        Self::Delete(KeyValue { key, value, create_revision: 0, mod_revision: revision, version: 0, lease: None })
    }
}

// === impl Changes ===

impl Changes {
    /// Those under a prefix; none if there are none.
    pub(crate) fn under(&self, prefix: &str) -> Option<Changes> {
        let inside = self.changes.iter().filter(|change| change.key().starts_with(prefix)).count();
        match inside {
            0 => None,
            all if all == self.changes.len() => Some(self.clone()),
            _ => {
                let changes = self.changes.iter().filter(|change| change.key().starts_with(prefix)).cloned().collect();
                Some(Changes { revision: self.revision, changes })
            }
        }
    }
}

// === impl Watch ===

impl Watch {
    /// A watch over what `changes` yields; for implementers of [`crate::Store`].
    pub fn new(changes: impl Stream<Item = Result<Changes, Error>> + Send + 'static) -> Self {
        Self { changes: changes.boxed() }
    }

    /// The next changes, as soon as there are any; none after an error.
    pub async fn next(&mut self) -> Option<Result<Changes, Error>> {
        self.changes.next().await
    }
}

impl Stream for Watch {
    type Item = Result<Changes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.changes.poll_next_unpin(cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
