//! Watches: which services changed since a revision. State, not queues.
//!
//! A subscriber holds one number. What it has to look at again follows from a log with one entry per service, its
//! last change; so a slow subscriber costs nothing, misses nothing, and is never told twice of what it will read once.
//! The first change is told at once, later ones at most every [`PAUSE`], so that a burst becomes one set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use leno_model::name::ServiceName;
use tokio::sync::watch as signal;
use tokio::time::Instant;

use crate::Revision;
use crate::registry::Shared;

/// The least time between two sets of one subscriber.
pub const PAUSE: Duration = Duration::from_millis(15);

/// So many services that are gone are remembered, for subscribers that resume.
const GONE_MAX: usize = 10_000;

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirty {
    /// Read what is named now, and you have the state of at least this revision; resume from here.
    pub revision: Revision,
    /// The services to read again; one that is gone has no instances.
    pub services: BTreeSet<ServiceName>,
    /// Whether `services` are all there are: what a subscriber knows beside them is gone. So it is at the start, and
    /// after too long a pause.
    pub complete: bool,
}

/// A subscription to changes.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    newest: signal::Receiver<Option<Revision>>,
    seen: Option<Revision>,
    told: Option<Instant>,
}

/// One entry per service: its last change.
#[derive(Debug, Default)]
pub(crate) struct DirtyLog {
    by_revision: BTreeMap<Revision, Entry>,
    revisions: BTreeMap<ServiceName, Revision>,
    gone: usize,
    /// The newest change of a service that is gone and no longer remembered.
    forgotten: Revision,
    /// Subscribers from before this revision know another catalogue.
    first: Revision,
    newest: Revision,
}

#[derive(Debug)]
struct Entry {
    service: ServiceName,
    gone: bool,
}

// === impl Watch ===

impl Watch {
    pub(crate) fn new(shared: Arc<Shared>, newest: signal::Receiver<Option<Revision>>, seen: Option<Revision>) -> Self {
        Self { shared, newest, seen, told: None }
    }

    /// What changed since the last answer: waits until there is something. None when all handles of the registry are
    /// gone and its driver has ended.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Dirty> {
        loop {
            if let Some(seen) = self.seen {
                self.newest.wait_for(|newest| *newest != Some(seen)).await.ok()?;
            }
            if let Some(told) = self.told {
                tokio::time::sleep_until(told + PAUSE).await;
            }
            (*self.newest.borrow_and_update())?;
            let dirty = self.shared.dirty_since(self.seen);
            self.seen = Some(dirty.revision);
            self.told = Some(Instant::now());
            // The signal comes a moment after the change: what it tells of may have been told already.
            if dirty.complete || !dirty.services.is_empty() {
                return Some(dirty);
            }
        }
    }
}

// === impl DirtyLog ===

impl DirtyLog {
    /// An empty log whose first change gets the revision after `first`.
    pub(crate) fn new(first: Revision) -> Self {
        Self { first, newest: first, ..Self::default() }
    }

    pub(crate) fn newest(&self) -> Revision {
        self.newest
    }

    /// Notes a change of a service, after which it is there or gone.
    pub(crate) fn touch(&mut self, service: &ServiceName, gone: bool) -> Revision {
        self.newest += 1;
        if let Some(before) = self.revisions.insert(service.clone(), self.newest)
            && let Some(entry) = self.by_revision.remove(&before)
        {
            self.gone -= usize::from(entry.gone);
        }
        self.by_revision.insert(self.newest, Entry { service: service.clone(), gone });
        self.gone += usize::from(gone);
        if self.gone > GONE_MAX {
            self.forget();
        }
        self.newest
    }

    /// The revision of a service's last change.
    pub(crate) fn revision(&self, service: &ServiceName) -> Option<Revision> {
        self.revisions.get(service).copied()
    }

    /// What changed after `seen`.
    pub(crate) fn since(&self, seen: Option<Revision>) -> Dirty {
        let known = seen.filter(|seen| *seen >= self.first.max(self.forgotten) && *seen <= self.newest);
        let services = match known {
            Some(seen) => self.by_revision.range(seen + 1..).map(|(_, entry)| entry.service.clone()).collect(),
            None => self.by_revision.values().filter(|entry| !entry.gone).map(|entry| entry.service.clone()).collect(),
        };
        Dirty { revision: self.newest, services, complete: known.is_none() }
    }

    /// Forgets the older half of what is gone, so that this is rare.
    fn forget(&mut self) {
        let mut left = self.gone / 2;
        let (revisions, forgotten) = (&mut self.revisions, &mut self.forgotten);
        self.by_revision.retain(|revision, entry| {
            if left == 0 || !entry.gone {
                return true;
            }
            left -= 1;
            revisions.remove(&entry.service);
            *forgotten = *revision;
            false
        });
        self.gone -= self.gone / 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ServiceName {
        ServiceName::new("shop", name).unwrap()
    }

    fn names(dirty: &Dirty) -> Vec<String> {
        dirty.services.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_service_that_changed_often_is_told_once() {
        let mut log = DirtyLog::new(0);
        for _ in 0..5 {
            log.touch(&name("cart"), false);
        }
        log.touch(&name("pay"), false);
        let dirty = log.since(Some(2));
        assert_eq!((names(&dirty), dirty.revision), (vec!["cart.shop".to_owned(), "pay.shop".to_owned()], 6));
        assert_eq!(names(&log.since(Some(5))), ["pay.shop"]);
        assert_eq!(names(&log.since(Some(6))), [] as [&str; 0]);
    }

    #[test]
    fn a_service_that_is_gone_is_told_to_those_who_knew_it() {
        let mut log = DirtyLog::new(0);
        log.touch(&name("cart"), false);
        log.touch(&name("cart"), true);
        assert_eq!(names(&log.since(Some(1))), ["cart.shop"]);
        assert_eq!(log.since(None), Dirty { revision: 2, services: BTreeSet::new(), complete: true });
    }

    #[test]
    fn what_is_gone_for_long_is_forgotten_and_resuming_from_before_is_complete() {
        let mut log = DirtyLog::new(0);
        log.touch(&name("stays"), false);
        for i in 0..=GONE_MAX {
            log.touch(&name(&format!("s{i}")), true);
        }
        assert!(log.gone <= GONE_MAX && log.revisions.len() == log.by_revision.len());
        let dirty = log.since(Some(1));
        assert_eq!((dirty.complete, names(&dirty)), (true, vec!["stays.shop".to_owned()]));
        assert!(!log.since(Some(log.forgotten)).complete);
    }

    #[test]
    fn a_revision_of_another_life_is_answered_completely() {
        let mut log = DirtyLog::new(100);
        log.touch(&name("cart"), false);
        assert!(log.since(Some(99)).complete);
        assert!(log.since(Some(102)).complete);
        assert!(!log.since(Some(100)).complete);
    }
}
