//! The recent history that all watchers share.
//!
//! A ring of the last revisions, bounded in revisions and in bytes, and a signal that it grew. A watcher asks for what
//! comes after its position; when that is no longer in the ring, it is read from disk, where more is kept.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::watch::Found;
use crate::{Change, Changes, Error, Revision};

/// The most revisions kept in memory for watchers.
pub(super) const LOG_REVISIONS_MAX: usize = 4096;

/// The most bytes kept in memory for watchers.
pub(super) const LOG_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The shared history of one store.
#[derive(Debug)]
pub(super) struct Log {
    ring: Mutex<Ring>,
    /// None when the store is closed.
    newest: watch::Sender<Option<Revision>>,
}

#[derive(Debug)]
struct Ring {
    /// One entry per revision, without a gap, up to `newest`.
    entries: VecDeque<Changes>,
    newest: Revision,
    bytes: usize,
    bytes_max: usize,
    revisions_max: usize,
}

// === impl Log ===

impl Log {
    /// A log in which `newest` is the last revision and nothing is remembered of it.
    pub(super) fn new(newest: Revision, revisions_max: usize, bytes_max: usize) -> Self {
        let ring = Ring { entries: VecDeque::new(), newest, bytes: 0, bytes_max, revisions_max };
        Self { ring: Mutex::new(ring), newest: watch::Sender::new(Some(newest)) }
    }

    /// Adds the changes of the next revisions, which are committed by now, and wakes the watchers.
    pub(super) fn append(&self, batch: Vec<Changes>) {
        let newest = {
            let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            for changes in batch {
                debug_assert_eq!(changes.revision, ring.newest + 1, "a log without a gap");
                ring.push(changes);
            }
            ring.newest
        };
        self.newest.send_replace(Some(newest));
    }

    pub(super) fn newest(&self) -> Revision {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).newest
    }

    /// Ends all watches: nothing will be appended any more.
    pub(super) fn close(&self) {
        self.newest.send_replace(None);
    }

    /// A signal that rises with every append.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Revision>> {
        self.newest.subscribe()
    }

    /// What revision `revision` changed.
    pub(super) fn find(&self, revision: Revision) -> Found {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if revision > ring.newest {
            return Found::NotYet;
        }
        let Some(first) = ring.entries.front() else { return Found::Gone };
        let Some(index) = revision.checked_sub(first.revision) else { return Found::Gone };
        ring.entries.get(index as usize).map_or(Found::Gone, |changes| Found::Here(changes.clone()))
    }

    /// Refuses a watch from before what is kept or from beyond what is there.
    pub(super) fn check_from(&self, from: Revision, compacted: Revision) -> Result<(), Error> {
        let newest = self.newest();
        if from <= compacted {
            return Err(Error::Compacted { asked: from, oldest: compacted + 1 });
        }
        if from > newest + 1 { Err(Error::Future { asked: from, newest }) } else { Ok(()) }
    }
}

// === impl Ring ===

impl Ring {
    fn push(&mut self, changes: Changes) {
        self.newest = changes.revision;
        self.bytes += size(&changes);
        self.entries.push_back(changes);
        while self.entries.len() > self.revisions_max || self.bytes > self.bytes_max {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(first) = self.entries.pop_front() {
            self.bytes -= size(&first);
        }
    }
}

/// About how much memory the changes of one revision hold.
fn size(changes: &Changes) -> usize {
    let of_one = |change: &Change| std::mem::size_of::<Change>() + change.key().len() + change.key_value().value.len();
    std::mem::size_of::<Changes>() + changes.changes.iter().map(of_one).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn changes(revision: Revision) -> Changes {
        Changes { revision, changes: Arc::new([Change::deletion("k".into(), revision)]) }
    }

    #[test]
    fn the_ring_forgets_the_oldest_beyond_its_limit() {
        let log = Log::new(10, 2, LOG_BYTES_MAX);
        assert_eq!(log.find(11), Found::NotYet);
        log.append((11..=13).map(changes).collect());
        assert_eq!(log.find(10), Found::Gone);
        assert_eq!(log.find(11), Found::Gone);
        assert_eq!(log.find(12), Found::Here(changes(12)));
        assert_eq!(log.find(13), Found::Here(changes(13)));
        assert_eq!(log.find(14), Found::NotYet);
    }

    #[test]
    fn the_ring_forgets_the_oldest_beyond_its_bytes() {
        let log = Log::new(0, 100, 3 * size(&changes(1)));
        log.append((1..=9).map(changes).collect());
        assert_eq!((log.find(6), log.find(7)), (Found::Gone, Found::Here(changes(7))));
    }
}
