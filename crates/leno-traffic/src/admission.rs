//! What a caller does not even ask, because it would be refused (Google's adaptive throttling, "Handling Overload" in Site
//! Reliability Engineering; Envoy's `admission_control`).
//!
//! ```text
//! share held back = min(80 %, max(0, (requests - factor × accepts) / (requests + 1)))     of the window, for each priority by itself
//! ```
//!
//! Requests are those that the caller had, held back or sent; accepts those of them that were done. As long as more than one
//! in `factor` is done nothing is held back. A service that does nothing is asked by a fifth of the requests all the same
//! ([`SHARE_MAX`], Envoy's `max_rejection_probability`): without that, a service that was away for a window is asked by one
//! request in thousands when it is back, and comes back over many windows. Chance decides for each, so that callers do not
//! swing together. A breaker opens and closes; this lets through as much as is done, and a little more.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use leno_model::snapshot::{Admission as Terms, Priority};

use crate::window::{Counts, Window};

const PRIORITIES: usize = Priority::ALL.len();
/// No more than this share is held back.
const SHARE_MAX: f64 = 0.8;
/// The steps in which a window rolls.
const STEPS: u32 = 20;

/// What is known of a destination, shared by workers, kept from table to table.
#[derive(Debug)]
pub struct Admission {
    terms: Terms,
    windows: [Window; PRIORITIES],
    held_back: [AtomicU64; PRIORITIES],
}

/// A request that was let go. Dropped without an end, it counts for nothing.
#[derive(Debug)]
pub struct Let<'a> {
    admission: &'a Admission,
    priority: Priority,
    is_settled: Cell<bool>,
}

/// It is held back, as is this share, in percent, of those like it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBack(pub u32);

// === impl Admission ===

impl Admission {
    /// Nothing known.
    pub fn new(terms: &Terms) -> Self {
        let window = || Window::new(terms.window, STEPS);
        Self { terms: *terms, windows: std::array::from_fn(|_| window()), held_back: Default::default() }
    }

    /// What it goes by.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Lets a request go or holds it back; `random` is 64 random bits.
    pub fn ask(&self, priority: Priority, now: Duration, random: u64) -> Result<Let<'_>, HeldBack> {
        let share = self.share(priority, now);
        // 53 random bits as a number from 0 to 1.
        if share > 0.0 && ((random >> 11) as f64 / (1_u64 << 53) as f64) < share {
            self.windows[priority as usize].count(now, true, false);
            self.held_back[priority as usize].fetch_add(1, Relaxed);
            return Err(HeldBack((share * 100.0) as u32));
        }
        Ok(Let { admission: self, priority, is_settled: Cell::new(false) })
    }

    /// The share of requests that is held back now, 0 to 1.
    pub fn share(&self, priority: Priority, now: Duration) -> f64 {
        let Counts { total, failed, .. } = self.windows[priority as usize].counts(now);
        if total < self.terms.requests_min {
            return 0.0;
        }
        let (requests, accepts) = (f64::from(total), f64::from(total.saturating_sub(failed)));
        let factor = f64::from(self.terms.factor) / 100.0;
        ((requests - factor * accepts) / (requests + 1.0)).clamp(0.0, SHARE_MAX)
    }

    /// How many were held back, by priority.
    pub fn held_back(&self) -> [u64; PRIORITIES] {
        self.held_back.each_ref().map(|held_back| held_back.load(Relaxed))
    }
}

// === impl Let ===

impl Let<'_> {
    /// It ended, and was done or not. Only the first word counts.
    pub fn settle(&self, now: Duration, done: bool) {
        if !self.is_settled.replace(true) {
            self.admission.windows[self.priority as usize].count(now, !done, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { factor: 200, window: Duration::from_secs(120), requests_min: 10 };

    /// So many a second for so long to a service that does so many a second; how many were sent and done.
    fn run(
        admission: &Admission,
        random: &mut fastrand::Rng,
        seconds: std::ops::Range<u64>,
        (offered, capacity): (u32, u32),
    ) -> (u32, u32) {
        let (mut sent, mut done) = (0, 0);
        for second in seconds {
            let mut room = capacity;
            for at in 0..offered {
                let now = Duration::from_secs(second) + Duration::from_secs(1) * at / offered;
                let Ok(going) = admission.ask(Priority::Critical, now, random.u64(..)) else { continue };
                let is_done = room > 0;
                room = room.saturating_sub(1);
                going.settle(now, is_done);
                sent += 1;
                done += u32::from(is_done);
            }
        }
        (sent, done)
    }

    #[test]
    fn twice_of_what_is_done_is_sent_and_no_more() {
        for seed in 0..20 {
            let (admission, mut random) = (Admission::new(&TERMS), fastrand::Rng::with_seed(seed));
            run(&admission, &mut random, 0..240, (100, 20));
            let (sent, done) = run(&admission, &mut random, 240..480, (100, 20));
            let times = f64::from(sent) / f64::from(done);
            assert!((1.8..2.2).contains(&times) && done > 240 * 19, "seed {seed}: {sent} sent, {done} done");
        }
    }

    #[test]
    fn nothing_is_held_back_of_what_a_service_does_with_half() {
        let (admission, mut random) = (Admission::new(&TERMS), fastrand::Rng::with_seed(1));
        assert_eq!(run(&admission, &mut random, 0..300, (100, 51)).0, 300 * 100);
    }

    #[test]
    fn a_service_that_does_nothing_is_asked_by_a_fifth_and_used_whole_when_it_is_back() {
        for seed in 0..20 {
            let (admission, mut random) = (Admission::new(&TERMS), fastrand::Rng::with_seed(seed));
            let (sent, _) = run(&admission, &mut random, 0..100, (50, 0));
            assert!((900..1200).contains(&sent), "seed {seed}: {sent}");
            run(&admission, &mut random, 100..400, (50, 50));
            assert_eq!(run(&admission, &mut random, 400..500, (50, 50)).0, 5000, "seed {seed}");
        }
    }

    #[test]
    fn each_priority_is_counted_for_itself() {
        let admission = Admission::new(&TERMS);
        for _ in 0..1000 {
            admission.ask(Priority::Sheddable, Duration::ZERO, u64::MAX).unwrap().settle(Duration::ZERO, false);
        }
        let share = |priority| admission.share(priority, Duration::ZERO);
        assert!(share(Priority::Sheddable) == SHARE_MAX && share(Priority::CriticalPlus) == 0.0);
        assert!(admission.ask(Priority::Sheddable, Duration::ZERO, 0).is_err());
        assert_eq!(admission.held_back(), [0, 0, 0, 1]);
    }
}
