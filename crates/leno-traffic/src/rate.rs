//! How many requests in a time: whether one goes on now, waits, or is refused, and when to come again.
//!
//! ```text
//! a request ─ take(key, now, patience) ─► Limiter ┬ Bucket (token bucket; as a queue, leaky bucket), for all or by key ─ Keyed
//!                                                 ├ Warm   (either, lower while it is cold)
//!                                                 ├ Sliding (window)                       ─► Granted{wait} | Refused{after}
//!                                                 ├ Allotted (this proxy's part of a limit that is shared)
//!                                                 ├ Quota    (what the server has counted for this proxy)
//!                                                 └ open at once
//! ```
//!
//! Nothing runs beside requests: what has come back since is computed from the time that passed, and from a fixed origin, so
//! that no rounding adds up. Shared by all workers. A bucket, a window and a count of open requests are atomics and allocate
//! nothing; only what warms up takes a lock, for a few divisions. Rejected: a share of each limit for each worker, which a
//! caller on one connection would meet at a fraction of it, and fixed windows, through whose edges twice the limit passes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use leno_model::snapshot::{Rate, RateForm, RateLimit, WarmUp};

mod allotted;
mod bucket;
mod keyed;
mod quota;
mod sliding;
mod warm;

use self::allotted::Allotted;
pub use self::allotted::{Gate, Part, Standing};
use self::bucket::{Bucket, Pace};
use self::keyed::Keyed;
pub use self::quota::Grant;
use self::quota::Quota;
use self::sliding::Sliding;
use self::warm::Warm;

/// Of the burst of a limit that is shared: what each proxy has at hand before the server has answered.
const FIRST_SHARE: f64 = 0.1;

/// One limit and what it has counted.
#[derive(Debug)]
#[repr(align(64))]
pub struct Limiter {
    state: State,
    /// The longest that a request waits for its turn.
    patience: Duration,
    /// As many as there are when nothing is used.
    most: u32,
    passed: AtomicU64,
    waited: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug)]
enum State {
    Bucket(Bucket),
    Keyed(Pace, Keyed),
    Warm(Pace, Warm),
    Sliding(Sliding),
    Allotted(Box<Allotted>),
    Quota(Box<Quota>),
    Open { open: AtomicU32, max: u32 },
}

/// A request may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// After this time.
    pub wait: Duration,
    /// It is counted as open: tell [`Limiter::leave`] when it is over.
    pub holds: bool,
    /// For [`Limiter::left`].
    mark: u64,
}

/// A request may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// One that comes after this time may, if no other comes before it. Of requests that are open nobody knows when they
    /// end; then it is zero.
    pub after: Duration,
    mark: u64,
}

/// What a limit has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// How many may come now.
    pub now: u32,
    /// After which time all are back, or in a window one more is.
    pub reset: Duration,
}

/// What a limit has counted, for people.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fill {
    /// How many may come at once.
    pub most: u32,
    /// How many of those are used up now; by key, of the one that uses most.
    pub used: u32,
    /// Requests that went on at once or later.
    pub passed: u64,
    /// Those of them that waited.
    pub waited: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Keys that use something now, and how many can be told apart; none without a key.
    pub keys: Option<(u32, u32)>,
    /// Times that a key took over the count of another, because no other was idle.
    pub crowded: u64,
    /// Bytes that its state takes, whatever comes.
    pub bytes: usize,
    /// What this proxy has of a limit that is shared.
    pub part: Option<Part>,
}

// === impl Limiter ===

impl Limiter {
    /// With nothing used; what warms up is cold. `seed` decides which keys are neighbours, and nobody outside may know it.
    pub fn new(terms: &RateLimit, seed: u64) -> Self {
        let bucket = |rate: Rate, burst: u32, warm_up: Option<WarmUp>| {
            let pace = Pace::new(rate, burst);
            match warm_up {
                Some(warm_up) => State::Warm(pace, Warm::new(pace, rate, warm_up)),
                None if terms.key.is_empty() => State::Bucket(Bucket::new(pace)),
                None => State::Keyed(pace, Keyed::new(terms.keys, seed)),
            }
        };
        let (state, most, patience) = match terms.form {
            RateForm::Bucket { burst, .. } if terms.shared.is_some() => {
                let first = f64::from(burst) * FIRST_SHARE;
                (State::Allotted(Box::new(Allotted::new(first))), burst, Duration::ZERO)
            }
            RateForm::Bucket { rate, burst, warm_up } => (bucket(rate, burst, warm_up), burst, Duration::ZERO),
            RateForm::Queue { rate, timeout, warm_up } => (bucket(rate, 1, warm_up), 1, timeout),
            RateForm::Window(rate) => (State::Sliding(Sliding::new(rate)), rate.requests, Duration::ZERO),
            RateForm::Quota { requests, .. } => (State::Quota(Box::default()), requests, Duration::ZERO),
            RateForm::Concurrency(max) => (State::Open { open: AtomicU32::new(0), max }, max, Duration::ZERO),
        };
        let count = || AtomicU64::new(0);
        Self { state, patience, most, passed: count(), waited: count(), refused: count() }
    }

    /// The key of a request, for [`Limiter::take`], by what it has of each part; where the limit has no keys, any.
    pub fn key(&self, parts: impl Iterator<Item = u64>) -> u64 {
        match &self.state {
            State::Keyed(_, keyed) => keyed.key(parts),
            _ => 0,
        }
    }

    /// Takes one, of the request's key where the limit has keys. `left` is the time that the request has; it never waits for
    /// longer.
    pub fn take(&self, key: u64, now: Duration, left: Option<Duration>) -> Result<Granted, Refused> {
        let patience = left.map_or(self.patience, |left| left.min(self.patience));
        let taken = match &self.state {
            State::Bucket(bucket) => bucket.take(now, patience),
            State::Keyed(pace, keyed) => pace.take(keyed.count_of(key, pace.at(now)), now, patience),
            State::Warm(pace, warm) => warm.take(pace, now, patience),
            State::Sliding(sliding) => sliding.take(now),
            State::Allotted(allotted) => allotted.take(now),
            State::Quota(quota) => quota.take(now),
            State::Open { open, max } => {
                let entered = open.fetch_update(Relaxed, Relaxed, |open| (open < *max).then(|| open + 1));
                let holds = Granted { wait: Duration::ZERO, holds: true, mark: 0 };
                entered.map(|_| holds).map_err(|_| Refused { after: Duration::ZERO, mark: 0 })
            }
        };
        match &taken {
            Ok(granted) => {
                self.passed.fetch_add(1, Relaxed);
                if !granted.wait.is_zero() {
                    self.waited.fetch_add(1, Relaxed);
                }
            }
            Err(_) => {
                self.refused.fetch_add(1, Relaxed);
            }
        }
        taken
    }

    /// One that was open is over.
    pub fn leave(&self) {
        if let State::Open { open, .. } = &self.state {
            open.fetch_sub(1, Relaxed);
        }
    }

    /// How many may come at once when nothing is used.
    pub fn most(&self) -> u32 {
        self.most
    }

    /// What was left after this request, which was granted or refused.
    pub fn left(&self, taken: &Result<Granted, Refused>, now: Duration) -> Left {
        let mark = match taken {
            Ok(granted) => granted.mark,
            Err(refused) => refused.mark,
        };
        match &self.state {
            State::Bucket(bucket) => bucket.pace.left(mark, now),
            State::Keyed(pace, _) | State::Warm(pace, _) => pace.left(mark, now),
            State::Sliding(sliding) => sliding.left(now),
            State::Allotted(allotted) => allotted.left(mark, now),
            State::Quota(quota) => quota.left(now, self.most),
            State::Open { open, max } => Left { now: max.saturating_sub(open.load(Relaxed)), reset: Duration::ZERO },
        }
    }

    /// Of a limit that is shared: goes on with this part of it.
    pub fn allot(&self, now: Duration, part: Part) {
        if let State::Allotted(allotted) = &self.state {
            allotted.set(now, part);
        }
    }

    /// Of a limit that is shared: what this proxy has of it.
    pub fn part(&self) -> Option<Part> {
        match &self.state {
            State::Allotted(allotted) => Some(allotted.part()),
            _ => None,
        }
    }

    /// Of a limit that is shared: whether little of it is at hand, since the last time that somebody [heard](Self::heard) so.
    pub fn is_hungry(&self) -> bool {
        match &self.state {
            State::Allotted(allotted) => allotted.is_hungry(),
            State::Quota(quota) => quota.is_hungry(),
            _ => false,
        }
    }

    /// Somebody knows that it is hungry.
    pub fn heard(&self) {
        match &self.state {
            State::Allotted(allotted) => allotted.heard(),
            State::Quota(quota) => quota.heard(),
            _ => {}
        }
    }

    /// Of a quota: this proxy may let through so many more in this period, which ends at that moment; and all together have so
    /// many left.
    pub fn grant(&self, grant: &Grant) {
        if let State::Quota(quota) = &self.state {
            quota.grant(grant);
        }
    }

    /// Of a quota: how many this proxy has at hand.
    pub fn at_hand(&self, now: Duration) -> u32 {
        match &self.state {
            State::Quota(quota) => quota.at_hand(now),
            _ => 0,
        }
    }

    /// How many requests passed, and how many were refused.
    pub fn counted(&self) -> (u64, u64) {
        (self.passed.load(Relaxed), self.refused.load(Relaxed))
    }

    /// What it has counted.
    pub fn fill(&self, now: Duration) -> Fill {
        let (mut keys, mut crowded, mut bytes, mut part) = (None, 0, size_of::<Self>(), None);
        let left = match &self.state {
            State::Bucket(bucket) => bucket.pace.left(bucket.mark(), now).now,
            State::Warm(pace, warm) => pace.left(warm.mark(), now).now,
            State::Keyed(pace, keyed) => {
                let seen = keyed.seen(pace.at(now));
                (keys, crowded) = (Some((seen.in_use, seen.of)), seen.crowded);
                bytes += keyed.bytes();
                pace.left(seen.highest, now).now
            }
            State::Sliding(sliding) => {
                bytes += sliding.bytes();
                sliding.left(now).now
            }
            State::Allotted(allotted) => {
                bytes += size_of::<Allotted>() + allotted.bytes();
                part = Some(allotted.part());
                allotted.left(allotted.mark(), now).now
            }
            State::Quota(quota) => {
                bytes += size_of::<Quota>();
                quota.left(now, self.most).now
            }
            State::Open { open, max } => max.saturating_sub(open.load(Relaxed)),
        };
        Fill {
            most: self.most,
            used: self.most.saturating_sub(left),
            passed: self.passed.load(Relaxed),
            waited: self.waited.load(Relaxed),
            refused: self.refused.load(Relaxed),
            keys,
            crowded,
            bytes,
            part,
        }
    }
}

#[cfg(test)]
mod tests;
