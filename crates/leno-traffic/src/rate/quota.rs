//! A quota of a day or a month, as far as this proxy has some of it at hand.
//!
//! What is at hand was counted by the server, on its disk, before it came here: nobody has to be asked whether a request may
//! pass, and no crash of anybody lets one more through. It is good for one period; the next one begins with nothing.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::bucket::nanos;
use super::{Granted, Left, Refused};

/// When to come again where there may be more at once.
const SOON: Duration = Duration::from_secs(1);

/// What the server has counted for a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Which period; later ones have higher numbers.
    pub period: u64,
    /// How many more the proxy may let through in it.
    pub requests: u32,
    /// When it ends.
    pub ends: Duration,
    /// How many nobody has been given yet.
    pub left: u32,
}

/// What is at hand.
#[derive(Debug, Default)]
pub(super) struct Quota {
    at_hand: AtomicU32,
    /// The most that was, since the last grant.
    had: AtomicU32,
    period: AtomicU64,
    /// In nanoseconds.
    ends: AtomicU64,
    left: AtomicU32,
    hungry: AtomicBool,
}

// === impl Quota ===

impl Quota {
    pub(super) fn grant(&self, grant: &Grant) {
        if self.period.swap(grant.period, Relaxed) != grant.period {
            // Whoever takes one meanwhile takes one that was left of the period before.
            self.at_hand.store(0, Relaxed);
        }
        self.ends.store(nanos(grant.ends), Relaxed);
        self.left.store(grant.left, Relaxed);
        let before = self.at_hand.fetch_add(grant.requests, Relaxed);
        self.had.store(before.saturating_add(grant.requests), Relaxed);
    }

    pub(super) fn take(&self, now: Duration) -> Result<Granted, Refused> {
        let ends = self.ends.load(Relaxed);
        if nanos(now) < ends {
            let taken = self.at_hand.fetch_update(Relaxed, Relaxed, |at_hand| at_hand.checked_sub(1));
            if let Ok(before) = taken {
                if before - 1 <= self.had.load(Relaxed) / 2 {
                    self.want();
                }
                return Ok(Granted { wait: Duration::ZERO, holds: false, mark: 0 });
            }
        }
        self.want();
        let is_used_up = nanos(now) < ends && self.left.load(Relaxed) == 0;
        let after = if is_used_up { Duration::from_nanos(ends).saturating_sub(now) } else { SOON };
        Err(Refused { after, mark: 0 })
    }

    pub(super) fn at_hand(&self, now: Duration) -> u32 {
        if nanos(now) < self.ends.load(Relaxed) { self.at_hand.load(Relaxed) } else { 0 }
    }

    /// What all have left, as the server last said, with what is at hand here.
    pub(super) fn left(&self, now: Duration, most: u32) -> Left {
        let ends = self.ends.load(Relaxed);
        if nanos(now) >= ends {
            return Left { now: 0, reset: Duration::ZERO };
        }
        let left = self.left.load(Relaxed).saturating_add(self.at_hand.load(Relaxed)).min(most);
        Left { now: left, reset: Duration::from_nanos(ends).saturating_sub(now) }
    }

    pub(super) fn is_hungry(&self) -> bool {
        self.hungry.load(Relaxed)
    }

    pub(super) fn heard(&self) {
        self.hungry.store(false, Relaxed);
    }

    fn want(&self) {
        if !self.hungry.load(Relaxed) {
            self.hungry.store(true, Relaxed);
        }
    }
}
