//! A quota at the server and at a proxy: how much a proxy is given at once, and when it asks for more.
//!
//! What a proxy has at hand is lost when it ends, so it gets little: what comes to it in two seconds, and a hundredth of all at
//! most, or ten. It asks when half of that is used.

use std::time::Duration;

use super::holding::{Demand, GAP};
use super::{Ask, Due};
use crate::Limiter;
use crate::rate::Grant;

/// What comes in so many seconds is given at once.
const AHEAD_SECONDS: f64 = 2.0;
/// And never more than this part of the whole, or so many.
const PART: u32 = 100;
const FEW: u32 = 10;
/// Time between two questions where there is nothing to be had.
const EVERY_EMPTY: Duration = Duration::from_secs(1);
/// The same while enough is at hand.
const EVERY: Duration = Duration::from_secs(60);

/// What of a quota is given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// In which period; later ones have higher numbers.
    pub period: u64,
    /// How many.
    pub used: u32,
}

/// A proxy's part of a quota, between it and the server.
#[derive(Debug)]
pub struct QuotaHolding {
    demand: Demand,
    asked: Option<Duration>,
    not_before: Duration,
    is_used_up: bool,
}

// === impl Count ===

impl Count {
    /// Gives a proxy some of `requests` in this period: how many. A clock that goes back begins no period anew.
    pub fn give(&mut self, requests: u32, period: u64, ask: Ask) -> u32 {
        if period > self.period {
            *self = Self { period, used: 0 };
        }
        let ahead = (ask.wanted.max(0.0) * AHEAD_SECONDS).ceil().min(f64::from(u32::MAX)) as u32;
        let at_hand = ask.holding.clamp(0.0, f64::from(u32::MAX)) as u32;
        let wanted = ahead.clamp(1, (requests / PART).max(FEW)).saturating_sub(at_hand);
        let given = wanted.min(self.left(requests));
        self.used += given;
        given
    }

    /// How many are left of `requests`.
    pub fn left(&self, requests: u32) -> u32 {
        requests.saturating_sub(self.used)
    }
}

// === impl QuotaHolding ===

impl QuotaHolding {
    /// Of which the server knows nothing yet.
    pub fn new(now: Duration, limiter: &Limiter) -> Self {
        Self { demand: Demand::new(now, limiter), asked: None, not_before: now, is_used_up: false }
    }

    /// Counts what came.
    pub fn look(&mut self, now: Duration, limiter: &Limiter) {
        self.demand.look(now, limiter);
    }

    /// When it is to ask.
    pub fn due(&self, now: Duration, limiter: &Limiter) -> Due {
        let Some(asked) = self.asked else { return Due(self.not_before) };
        let after = if limiter.is_hungry() && !self.is_used_up {
            GAP
        } else if limiter.at_hand(now) == 0 {
            EVERY_EMPTY
        } else {
            EVERY
        };
        Due((asked + after).max(self.not_before))
    }

    /// What it asks now.
    pub fn ask(&mut self, now: Duration, limiter: &Limiter) -> Ask {
        limiter.heard();
        self.asked = Some(now);
        Ask { wanted: self.demand.wanted, holding: limiter.at_hand(now).into() }
    }

    /// The server has answered.
    pub fn answered(&mut self, grant: &Grant, limiter: &Limiter) {
        limiter.grant(grant);
        self.is_used_up = grant.left == 0;
    }

    /// Nothing was answered; ask again `after` this time.
    pub fn unanswered(&mut self, now: Duration, after: Duration) {
        self.asked = None;
        self.not_before = now + after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ask(wanted: f64, holding: f64) -> Ask {
        Ask { wanted, holding }
    }

    #[test]
    fn a_proxy_gets_what_it_needs_for_two_seconds_and_a_hundredth_at_most() {
        let mut count = Count::default();
        assert_eq!(count.give(100_000, 7, ask(0.0, 0.0)), 1, "one is at hand where nothing comes yet");
        assert_eq!(count.give(100_000, 7, ask(20.0, 0.0)), 40);
        assert_eq!(count.give(100_000, 7, ask(20.0, 30.0)), 10, "beside what it has");
        assert_eq!(count.give(100_000, 7, ask(f64::MAX, 0.0)), 1_000);
        assert_eq!((count.used, count.left(100_000)), (1_051, 98_949));
        assert_eq!(count.give(50, 8, ask(f64::NAN, f64::NAN)), 1, "another period begins with all");
    }

    #[test]
    fn never_is_more_given_than_there_is_whoever_asks_for_what() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (requests, mut count, mut given) = (random.u32(1..5_000), Count::default(), 0);
            for _ in 0..20_000 {
                let holding = if random.bool() { 0.0 } else { random.f64() * 100.0 };
                // A clock that goes back.
                let period = if random.u32(0..10) == 0 { 6 } else { 7 };
                let some = count.give(requests, period.max(count.period), ask(random.f64() * 1e4, holding));
                given += if count.period == 7 { some } else { 0 };
            }
            assert!(given <= requests, "seed {seed}: {given} of {requests}");
            assert_eq!(count.left(requests), 0, "seed {seed}");
            assert_eq!(count.give(requests, 6, ask(1.0, 0.0)), 0, "an earlier period does not begin anew");
        }
    }

    #[test]
    fn a_proxy_lets_through_what_it_has_until_the_period_ends_and_says_when_that_is() {
        use leno_model::snapshot::{Period, RateForm, RateLimit, RateTell};
        let form = RateForm::Quota { requests: 10, per: Period::Day };
        let terms = RateLimit {
            name: "day".into(),
            when: Vec::new(),
            key: Vec::new(),
            keys: 0,
            form,
            shared: None,
            tell: RateTell::Nothing,
        };
        let limiter = Limiter::new(&terms, 1);
        let passes = |now| limiter.take(0, now, None).is_ok();
        assert!(!passes(SECOND) && limiter.is_hungry(), "nothing was given yet");
        limiter.grant(&Grant { period: 7, requests: 2, ends: SECOND * 100, left: 0 });
        assert_eq!([passes(SECOND * 2), passes(SECOND * 2), passes(SECOND * 2)], [true, true, false]);
        let refused = limiter.take(0, SECOND * 2, None).unwrap_err();
        assert_eq!(refused.after, SECOND * 98, "until the next period begins");
        limiter.grant(&Grant { period: 7, requests: 1, ends: SECOND * 100, left: 3 });
        assert!(!passes(SECOND * 100), "what was of a period that is over is no more");
        limiter.grant(&Grant { period: 8, requests: 1, ends: SECOND * 200, left: 9 });
        assert_eq!([passes(SECOND * 101), passes(SECOND * 101)], [true, false]);
        assert_eq!(limiter.take(0, SECOND * 101, None).unwrap_err().after, SECOND, "there may be more at once");
    }
}
