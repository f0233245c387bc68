//! One proxy's side of a limit that is shared: how much is wanted, when to ask, and what holds while nobody answers.
//!
//! What is wanted is what came, passed or refused, smoothed over some tenths of a second; a rise that met a refusal counts
//! sooner. Whoever has little at hand asks before its time, unless the server has just said that there is no more.

use std::time::Duration;

use leno_model::snapshot::{RateFallback, RateForm, RateLimit};

use super::{Allotment, Ask, EVERY, Terms, VALID};
use crate::Limiter;
use crate::rate::{Gate, Part, Standing};

/// Time between two questions of a proxy to which nothing comes.
const EVERY_IDLE: Duration = Duration::from_secs(1);
/// Time between two questions at least.
pub(super) const GAP: Duration = Duration::from_millis(20);
/// Over which what came is smoothed.
const SMOOTHED: Duration = Duration::from_millis(300);
/// The same where somebody was refused.
const SMOOTHED_RISE: Duration = Duration::from_millis(100);
/// Less is not counted by itself.
const COUNTED_EVERY: Duration = Duration::from_millis(10);
/// Requests a second that are none.
const NONE: f64 = 0.02;

/// What a limit that is shared says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Whole {
    /// Its numbers.
    pub terms: Terms,
    /// What is done while no server answers.
    pub fallback: RateFallback,
}

/// When a proxy asks for a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due(pub Duration);

/// A proxy's part of a limit, between it and the server.
#[derive(Debug)]
pub struct Holding {
    whole: Whole,
    demand: Demand,
    asked: Option<Duration>,
    /// Not earlier, whatever comes.
    not_before: Duration,
    every: Duration,
    valid: Duration,
    /// It has less than before, and the server is to know that it knows.
    is_lowered: bool,
    /// The server has no more.
    is_limited: bool,
    /// From when on it does without a server.
    away_at: Option<Duration>,
    is_away: bool,
    proxies: u32,
}

/// How many requests come, passed or refused.
#[derive(Debug)]
pub(super) struct Demand {
    /// In a second.
    pub(super) wanted: f64,
    /// What had passed, and what had been refused, at a moment.
    counted: (u64, u64, Duration),
}

// === impl Demand ===

impl Demand {
    pub(super) fn new(now: Duration, limiter: &Limiter) -> Self {
        let (passed, refused) = limiter.counted();
        Self { wanted: 0.0, counted: (passed, refused, now) }
    }

    pub(super) fn look(&mut self, now: Duration, limiter: &Limiter) {
        let (passed, refused, then) = self.counted;
        let time = now.saturating_sub(then);
        if time >= COUNTED_EVERY {
            let (passed_now, refused_now) = limiter.counted();
            let came = (passed_now - passed) + (refused_now - refused);
            let rate = came as f64 / time.as_secs_f64();
            let over = if refused_now > refused && rate > self.wanted { SMOOTHED_RISE } else { SMOOTHED };
            self.wanted += (rate - self.wanted) * (1.0 - (-time.as_secs_f64() / over.as_secs_f64()).exp());
            if self.wanted < NONE {
                self.wanted = 0.0;
            }
            self.counted = (passed_now, refused_now, now);
        }
    }
}

// === impl Whole ===

impl Whole {
    /// Of a limit that is shared; none of any other.
    pub fn of(limit: &RateLimit) -> Option<Self> {
        let (Some(shared), RateForm::Bucket { rate, burst, .. }) = (limit.shared, limit.form) else { return None };
        let second = rate.per.max(Duration::from_nanos(1)).as_secs_f64();
        let terms = Terms {
            rate: f64::from(rate.requests.max(1)) / second,
            burst: f64::from(burst.max(1)),
            per_proxy: shared.per_proxy,
        };
        Some(Self { terms, fallback: shared.fallback })
    }
}

// === impl Holding ===

impl Holding {
    /// Of which the server knows nothing yet.
    pub fn new(now: Duration, whole: Whole, limiter: &Limiter) -> Self {
        Self {
            whole,
            demand: Demand::new(now, limiter),
            asked: None,
            not_before: now,
            every: EVERY,
            valid: VALID,
            is_lowered: false,
            is_limited: false,
            away_at: Some(now + VALID),
            is_away: false,
            proxies: 0,
        }
    }

    /// Counts what came, and does without a server where none has answered for long enough.
    pub fn look(&mut self, now: Duration, limiter: &Limiter) {
        self.demand.look(now, limiter);
        if self.away_at.is_some_and(|at| at <= now) && !self.is_away {
            self.is_away = true;
            limiter.allot(now, self.without_a_server());
        }
    }

    /// When it is to ask.
    pub fn due(&self, limiter: &Limiter) -> Due {
        let Some(asked) = self.asked else { return Due(self.not_before) };
        let is_urgent = self.is_lowered || limiter.is_hungry() && !self.is_limited;
        let is_idle =
            self.demand.wanted == 0.0 && limiter.part().is_none_or(|part| part.rate == 0.0) && !limiter.is_hungry();
        let after = if is_urgent {
            GAP
        } else if is_idle && !self.is_away {
            EVERY_IDLE.max(self.every)
        } else {
            self.every
        };
        Due((asked + after).max(self.not_before))
    }

    /// When it next has something to do but to ask.
    pub fn wakes(&self) -> Option<Duration> {
        self.away_at.filter(|_| !self.is_away)
    }

    /// What it asks now.
    pub fn ask(&mut self, now: Duration, limiter: &Limiter) -> Ask {
        limiter.heard();
        self.asked = Some(now);
        self.is_lowered = false;
        let holding = limiter.part().map_or(0.0, |part| part.rate_at(now));
        Ask { wanted: self.demand.wanted, holding }
    }

    /// The server has answered what was asked at `asked`, and wants to be asked again after `every`.
    pub fn answered(
        &mut self,
        now: Duration,
        asked: Duration,
        allotment: &Allotment,
        every: Duration,
        limiter: &Limiter,
    ) {
        let before = limiter.part().map_or(0.0, |part| part.rate_at(now));
        limiter.allot(
            now,
            Part {
                standing: Standing::Allotted,
                rate: allotment.rate,
                depth: allotment.burst,
                until: asked + allotment.valid,
                gate: Gate::Counted,
                proxies: allotment.proxies,
            },
        );
        self.is_lowered = allotment.rate < before;
        self.is_limited = allotment.rate < self.demand.wanted;
        (self.away_at, self.is_away) = (None, false);
        (self.every, self.valid, self.proxies) = (every.max(GAP), allotment.valid, allotment.proxies);
    }

    /// Nothing was answered, or that there is no such limit; ask again `after` this time.
    pub fn unanswered(&mut self, now: Duration, after: Duration) {
        // By then what others had has ended too, who have lost the server as well.
        self.away_at.get_or_insert(now + self.valid);
        self.not_before = now + after;
    }

    fn without_a_server(&self) -> Part {
        let Terms { rate, burst, per_proxy } = self.whole.terms;
        let among = if per_proxy { 1.0 } else { f64::from(self.proxies.max(1)) };
        let (among, gate) = match self.whole.fallback {
            RateFallback::Share => (among, Gate::Counted),
            RateFallback::Local => (1.0, Gate::Counted),
            RateFallback::Allow => (1.0, Gate::Open),
            RateFallback::Deny => (1.0, Gate::Closed),
        };
        Part {
            standing: Standing::Away,
            rate: rate / among,
            depth: (burst / among).max(1.0),
            until: Duration::MAX,
            gate,
            proxies: self.proxies,
        }
    }
}
