//! A sliding window, exactly: a ring with a place for each request of the limit, that keeps when it was taken, and is free
//! again as long after that as the window is long.
//!
//! Whatever the workers do at once, a place is taken by one of them (its time is compared and exchanged), so no stretch of
//! time as long as the window ever has more requests than there are places. The places are taken in a circle: the next one is
//! the oldest, and where that is not free none is. Rejected: counts of parts of the window, which are smaller and wrong at
//! the edges by a part.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use leno_model::snapshot::Rate;

use super::bucket::nanos;
use super::{Granted, Left, Refused};

#[derive(Debug)]
pub(super) struct Sliding {
    /// When each was taken, in nanoseconds and one more; 0 never was.
    places: Box<[AtomicU64]>,
    /// How many were taken; the remainder by the number of places is the oldest.
    taken: AtomicU64,
    per: u64,
}

// === impl Sliding ===

impl Sliding {
    pub(super) fn new(rate: Rate) -> Self {
        let places = (0..rate.requests.max(1)).map(|_| AtomicU64::new(0)).collect();
        Self { places, taken: AtomicU64::new(0), per: nanos(rate.per).max(1) }
    }

    pub(super) fn take(&self, now: Duration) -> Result<Granted, Refused> {
        let now = nanos(now) + 1;
        loop {
            let taken = self.taken.load(Relaxed);
            let (oldest, time) = self.place(taken);
            if time != 0 && time + self.per > now {
                // Somebody may have taken it and not yet said so: then it is the newest, and the next one is the oldest.
                let (next, last) = (self.place(taken + 1).1, self.place(taken + self.places.len() as u64 - 1).1);
                let is_newest = next < time && last <= time;
                if is_newest || self.taken.load(Relaxed) != taken {
                    self.say(taken);
                    continue;
                }
                return Err(Refused { after: Duration::from_nanos(time + self.per - now), mark: 0 });
            }
            let took = oldest.compare_exchange(time, now, Relaxed, Relaxed).is_ok();
            self.say(taken);
            if took {
                return Ok(Granted { wait: Duration::ZERO, holds: false, mark: 0 });
            }
        }
    }

    /// How many places are free, and when the next one is.
    pub(super) fn left(&self, now: Duration) -> Left {
        let (now, taken) = (nanos(now) + 1, self.taken.load(Relaxed));
        let is_free = |ahead: u64| {
            let time = self.place(taken + ahead).1;
            time == 0 || time + self.per <= now
        };
        // From the oldest on they are free up to one, and then not.
        let (mut free, mut end) = (0, self.places.len() as u64);
        while free < end {
            let middle = (free + end) / 2;
            if is_free(middle) { free = middle + 1 } else { end = middle }
        }
        let reset = match free == self.places.len() as u64 {
            true => 0,
            false => (self.place(taken + free).1 + self.per).saturating_sub(now),
        };
        Left { now: free as u32, reset: Duration::from_nanos(reset) }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.places)
    }

    fn place(&self, number: u64) -> (&AtomicU64, u64) {
        let place = &self.places[(number % self.places.len() as u64) as usize];
        (place, place.load(Relaxed))
    }

    /// Says that the place of this number was taken, unless somebody has.
    fn say(&self, number: u64) {
        let _ = self.taken.compare_exchange(number, number + 1, Relaxed, Relaxed);
    }
}
