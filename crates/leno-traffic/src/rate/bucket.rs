//! A token bucket as one number: how far what was taken reaches (the generic cell rate algorithm of ATM).
//!
//! Time is told in *units*, of which one request is a whole number, so that a rate is exact whatever it is: seven in a second
//! is seven in a second after a year too. `at` is the time since the origin in units, and the bucket's *mark* the unit up to
//! which requests were taken: behind `at` the bucket is full, `depth` ahead of it it is empty. A request moves the mark by its
//! units; how far that would lead beyond the depth is how long it would have to wait.
//!
//! A unit is at most 80 ns; by less than that may a request come too early.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use leno_model::snapshot::Rate;

use super::{Granted, Left, Refused};

/// Units in a second, nearly: as many as let a clock that began with the process run for 17 years.
const UNITS: u128 = 1 << 34;
/// Units of a request at most, so that the depth of the largest bucket has room.
const UNIT_MAX: u128 = 1 << 40;

const NANOS: u128 = 1_000_000_000;

/// How fast marks are passed by time, and how deep a bucket is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Units that pass in `per`.
    units: u128,
    /// In nanoseconds.
    per: u128,
    /// Units of one request.
    pub(super) each: u64,
    /// Units of as many requests as may come at once.
    depth: u64,
}

/// A bucket for all requests.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) pace: Pace,
    mark: AtomicU64,
}

// === impl Pace ===

impl Pace {
    pub(super) fn new(rate: Rate, burst: u32) -> Self {
        let (requests, per) = (u128::from(rate.requests.max(1)), rate.per.as_nanos().max(1));
        let each = (UNITS * per / (requests * NANOS)).clamp(1, UNIT_MAX);
        let depth = (each as u64).saturating_mul(u64::from(burst.max(1)));
        Self { units: requests * each, per, each: each as u64, depth }
    }

    /// The time in units.
    pub(super) fn at(&self, now: Duration) -> u64 {
        (u128::from(nanos(now)) * self.units / self.per) as u64
    }

    /// How long so many units take, rounded up.
    pub(super) fn time(&self, units: u64) -> Duration {
        let nanos = (u128::from(units) * self.per).div_ceil(self.units);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How long one more request has to wait where the mark stands there.
    pub(super) fn wait(&self, mark: u64, at: u64) -> Option<Duration> {
        let beyond = (mark.max(at) + self.each).saturating_sub(at.saturating_add(self.depth));
        (beyond > 0).then(|| self.time(beyond))
    }

    /// Takes one out of the bucket whose mark that is.
    pub(super) fn take(&self, mark: &AtomicU64, now: Duration, patience: Duration) -> Result<Granted, Refused> {
        let at = self.at(now);
        let mut old = mark.load(Relaxed);
        loop {
            let wait = self.wait(old, at).unwrap_or_default();
            if wait > patience {
                return Err(Refused { after: wait - patience, mark: old });
            }
            let new = old.max(at) + self.each;
            match mark.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => return Ok(Granted { wait, holds: false, mark: new }),
                Err(current) => old = current,
            }
        }
    }

    /// What is left where the mark stands there.
    pub(super) fn left(&self, mark: u64, now: Duration) -> Left {
        let at = self.at(now);
        let used = mark.saturating_sub(at);
        let now = self.depth.saturating_sub(used) / self.each;
        Left { now: u32::try_from(now).unwrap_or(u32::MAX), reset: self.time(used) }
    }
}

// === impl Bucket ===

impl Bucket {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, mark: AtomicU64::new(0) }
    }

    pub(super) fn take(&self, now: Duration, patience: Duration) -> Result<Granted, Refused> {
        self.pace.take(&self.mark, now, patience)
    }

    pub(super) fn mark(&self) -> u64 {
        self.mark.load(Relaxed)
    }
}

/// Nanoseconds, of which those of 584 years fit into 64 bits.
pub(super) fn nanos(time: Duration) -> u64 {
    time.as_secs() * NANOS as u64 + u64::from(time.subsec_nanos())
}
