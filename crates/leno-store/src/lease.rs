//! Leases: keys that end when nobody renews them.
//!
//! The pure core, shared by all stores: deadlines on a clock that only counts forward, never the time of day, so that
//! setting the clock ends no lease. A renewal only moves a deadline; the heap learns of it when the old one comes up,
//! which makes renewals as cheap as a look-up.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Error, Store};

/// The shortest lease.
pub const LEASE_TTL_MIN: Duration = Duration::from_secs(1);

/// The longest lease.
pub const LEASE_TTL_MAX: Duration = Duration::from_secs(24 * 3600);

/// The most leases a store holds. Instances do not each take one: the registry keeps its own.
pub(crate) const LEASES_MAX: usize = 100_000;

/// How long [`Store::lease_expire`] may be left alone when no lease is near its end.
pub(crate) const EXPIRE_INTERVAL: Duration = Duration::from_millis(500);

/// A lease's name, unique within its store for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Ends leases when their time is over, for as long as it is polled: whoever opens a store runs this beside it.
/// Errors are logged and tried again; a lease that ends late does no harm.
pub async fn drive(store: Arc<dyn Store>) {
    loop {
        let pause = match store.lease_expire().await {
            Ok(pause) => pause,
            Err(Error::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "leases that are over could not be ended, trying again");
                EXPIRE_INTERVAL
            }
        };
        tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
    }
}

/// The deadlines of a store's leases. Which keys hang on them is for the store to know.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    live: HashMap<LeaseId, Lease>,
    /// At least one entry per live lease, at or before its deadline.
    heap: BinaryHeap<Reverse<(Duration, LeaseId)>>,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    deadline: Duration,
    /// Found to be over: it can be renewed no more, even if ending it has to be tried twice.
    ending: bool,
}

// === impl Leases ===

impl Leases {
    /// Refuses a duration that no lease can have, and the one lease too many.
    pub(crate) fn check(&self, ttl: Duration) -> Result<(), Error> {
        if !(LEASE_TTL_MIN..=LEASE_TTL_MAX).contains(&ttl) {
            return Err(Error::LeaseDuration(ttl));
        }
        if self.live.len() >= LEASES_MAX { Err(Error::LeasesTooMany(self.live.len())) } else { Ok(()) }
    }

    pub(crate) fn insert(&mut self, id: LeaseId, ttl: Duration, now: Duration) {
        let deadline = now + ttl;
        self.live.insert(id, Lease { ttl, deadline, ending: false });
        self.heap.push(Reverse((deadline, id)));
    }

    pub(crate) fn alive(&self, id: LeaseId) -> bool {
        self.live.get(&id).is_some_and(|lease| !lease.ending)
    }

    pub(crate) fn keep_alive(&mut self, id: LeaseId, now: Duration) -> Result<Duration, Error> {
        let lease = self.live.get_mut(&id).filter(|lease| !lease.ending).ok_or(Error::LeaseUnknown(id))?;
        lease.deadline = now + lease.ttl;
        Ok(lease.ttl)
    }

    pub(crate) fn remove(&mut self, id: LeaseId) {
        self.live.remove(&id);
    }

    /// The leases whose time is over. They stay alive until removed, so that a failed write can be tried again.
    pub(crate) fn over(&mut self, now: Duration) -> Vec<LeaseId> {
        let mut over = Vec::new();
        while let Some(Reverse((due, id))) = self.heap.peek().copied() {
            if due > now {
                break;
            }
            self.heap.pop();
            match self.live.get_mut(&id) {
                None => {}
                Some(lease) if lease.deadline > now => self.heap.push(Reverse((lease.deadline, id))),
                Some(lease) => {
                    lease.ending = true;
                    over.push(id);
                }
            }
        }
        // What is over comes up again next time, unless it is removed by then.
        self.heap.extend(over.iter().map(|id| Reverse((now, *id))));
        over
    }

    /// How long nothing will be over, at most [`EXPIRE_INTERVAL`]: a new lease may be shorter than all others.
    pub(crate) fn pause(&self, now: Duration) -> Duration {
        let next = self.heap.peek().map_or(EXPIRE_INTERVAL, |Reverse((due, _))| due.saturating_sub(now));
        next.min(EXPIRE_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lease_that_is_kept_alive_is_not_over() {
        let mut leases = Leases::default();
        leases.insert(LeaseId(1), 10 * SECOND, Duration::ZERO);
        assert_eq!(leases.keep_alive(LeaseId(1), 9 * SECOND), Ok(10 * SECOND));
        assert!(leases.over(10 * SECOND).is_empty());
        assert!(leases.over(18 * SECOND).is_empty());
        assert_eq!(leases.over(19 * SECOND), [LeaseId(1)]);
    }

    #[test]
    fn a_lease_that_could_not_be_ended_comes_up_again_and_is_not_renewed() {
        let mut leases = Leases::default();
        leases.insert(LeaseId(1), SECOND, Duration::ZERO);
        assert_eq!(leases.over(SECOND), [LeaseId(1)]);
        assert_eq!(leases.over(SECOND), [LeaseId(1)]);
        assert_eq!(leases.keep_alive(LeaseId(1), SECOND), Err(Error::LeaseUnknown(LeaseId(1))));
        leases.remove(LeaseId(1));
        assert!(leases.over(2 * SECOND).is_empty());
    }

    #[test]
    fn durations_out_of_bounds_are_refused() {
        let leases = Leases::default();
        for ttl in [Duration::ZERO, Duration::from_millis(999), LEASE_TTL_MAX + SECOND] {
            assert_eq!(leases.check(ttl), Err(Error::LeaseDuration(ttl)));
        }
    }
}
