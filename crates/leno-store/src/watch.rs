//! Watches: a position in the store's history, not a queue.
//!
//! A watcher that is slow holds nothing but the revision at which it stands. Changes come from a log that all
//! watchers share; one that falls behind what is kept gets [`Error::Compacted`] and reads the range anew.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use tokio::sync::watch as signal;

use crate::{Answer, Error, Key, KeyValue, Revision};

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

/// The history of a store, as a watch reads it.
pub(crate) trait History: Send + Sync {
    /// What revision `revision` changed, from memory.
    fn find(&self, revision: Revision) -> Found;
    /// What was changed under `prefix` from revision `from` on, from wherever it is kept longer.
    fn read<'a>(&'a self, prefix: &'a str, from: Revision) -> Answer<'a, Page>;
    /// The newest revision, as it rises; none when the store is closed.
    fn subscribe(&self) -> signal::Receiver<Option<Revision>>;
}

/// What memory knows about a revision.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// This is what it changed.
    Here(Changes),
    /// It is not there yet.
    NotYet,
    /// It is there no more.
    Gone,
}

/// A piece of history.
pub(crate) struct Page {
    pub(crate) changes: Vec<Changes>,
    /// Where the next piece begins.
    pub(crate) next: Revision,
}

/// Follows the history of a store from revision `from` on.
pub(crate) fn follow(history: Arc<dyn History>, prefix: &str, from: Revision) -> Watch {
    let newest = history.subscribe();
    let follower = Follower { history, newest, prefix: prefix.into(), next: from, page: VecDeque::new(), ended: false };
    Watch::new(futures_util::stream::unfold(follower, |mut follower| async move {
        if follower.ended {
            return None;
        }
        let item = follower.step().await;
        follower.ended = item.is_err();
        Some((item, follower))
    }))
}

struct Follower {
    history: Arc<dyn History>,
    newest: signal::Receiver<Option<Revision>>,
    prefix: Key,
    next: Revision,
    page: VecDeque<Changes>,
    ended: bool,
}

// === impl Follower ===

impl Follower {
    async fn step(&mut self) -> Result<Changes, Error> {
        loop {
            if let Some(changes) = self.page.pop_front() {
                return Ok(changes);
            }
            match self.history.find(self.next) {
                Found::Here(changes) => {
                    self.next += 1;
                    self.page.extend(changes.under(&self.prefix));
                }
                Found::NotYet => {
                    let next = self.next;
                    let reached = |newest: &Option<Revision>| newest.is_none_or(|newest| newest >= next);
                    let newest = self.newest.wait_for(reached).await.map_or(None, |newest| *newest);
                    newest.ok_or(Error::Closed)?;
                }
                Found::Gone => {
                    let page = self.history.read(&self.prefix, self.next).await?;
                    self.page.extend(page.changes);
                    self.next = page.next;
                }
            }
        }
    }
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
