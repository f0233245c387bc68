//! A destination that fails is not asked for a while (Hystrix, Sentinel, Resilience4j).
//!
//! ```text
//!   closed ── too many failures or slow answers ──► open ── its time is over ──► half open: so many probes
//!     ▲                                              ▲                             │            │
//!     │                                              └── too many of them fail ────┘            │
//!     └────────────────────────── enough of them are well ───────────────────────────────────────┘
//! ```
//!
//! Where it stands is one word: state, and since when. A request that passes a closed breaker pays a load, its answer one
//! atomic operation where shares are looked at; shares are added up only when an answer is bad. A probe whose caller
//! leaves is given back, and one that never ends makes room for others after the time for which the breaker is open.
//!
//! Ratios are reached at their value (Hystrix, Resilience4j), or, where the terms say so, only above it (Sentinel).

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use leno_model::snapshot::Breaker as Terms;

use crate::ejection::Mark;
use crate::window::{Counts, Window, millis};

/// The breaker of one destination, shared by workers, kept from table to table.
#[derive(Debug)]
#[repr(align(64))]
pub struct Breaker {
    terms: Terms,
    /// Milliseconds of the last change above two bits of [`State`]; 0 for one that was never open.
    state: AtomicU64,
    /// Failures in a row.
    run: AtomicU32,
    /// While it is half open: probes that were let through, and 22 bits each of ended, failed and slow ones.
    probes: AtomicU32,
    ended: AtomicU64,
    opened: AtomicU64,
    refused: AtomicU64,
    window: Window,
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Everything passes.
    Closed = 0,
    /// Nothing does.
    Open = 1,
    /// Probes do.
    HalfOpen = 2,
}

/// A request that passed. Dropped without an answer, it counts for nothing.
#[derive(Debug)]
pub struct Passed<'b> {
    breaker: &'b Breaker,
    /// It is a probe, and has no answer yet.
    is_probe: Cell<bool>,
    is_settled: Cell<bool>,
}

/// It is open: for so long at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub Duration);

/// What a breaker did, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Where it stands.
    pub state: State,
    /// Since when, in the time of the process.
    pub since: Duration,
    /// How often it opened.
    pub opened: u64,
    /// How many it refused.
    pub refused: u64,
    /// What its window holds.
    pub counts: Counts,
}

const TAG: u64 = 3;

// === impl Breaker ===

impl Breaker {
    /// One that is closed.
    pub fn new(terms: &Terms) -> Self {
        Self {
            terms: *terms,
            state: AtomicU64::new(0),
            run: AtomicU32::new(0),
            probes: AtomicU32::new(0),
            ended: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            window: Window::new(terms.window, terms.buckets),
        }
    }

    /// What it goes by.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Lets a request through, or says for how long it is open.
    pub fn pass(&self, now: Duration) -> Result<Passed<'_>, Refused> {
        let word = self.state.load(Relaxed);
        let is_probe = word & TAG != State::Closed as u64 && self.probe(word, now)?;
        Ok(Passed { breaker: self, is_probe: Cell::new(is_probe), is_settled: Cell::new(false) })
    }

    /// Counts one that was refused without asking it, because it is held open.
    pub fn count_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// What it did.
    pub fn seen(&self, now: Duration) -> Seen {
        let word = self.state.load(Relaxed);
        Seen {
            state: state_of(word),
            since: Duration::from_millis(word >> 2),
            opened: self.opened.load(Relaxed),
            refused: self.refused.load(Relaxed),
            counts: self.window.counts(now),
        }
    }

    /// Lets a probe through.
    #[cold]
    fn probe(&self, word: u64, now: Duration) -> Result<bool, Refused> {
        let over = (word >> 2) + millis(self.terms.open);
        let is_over = millis(now) >= over;
        match state_of(word) {
            State::Closed => return Ok(false),
            State::Open if is_over => {
                if self.change(word, State::HalfOpen, now) {
                    self.probes.store(1, Relaxed);
                    self.ended.store(0, Relaxed);
                    return Ok(true);
                }
            }
            State::HalfOpen => {
                let most = self.terms.probes;
                if self.probes.fetch_update(Relaxed, Relaxed, |probes| (probes < most).then(|| probes + 1)).is_ok() {
                    // This one has its time too. Whoever came between has said so.
                    let _ = is_over && self.change(word, State::HalfOpen, now);
                    return Ok(true);
                }
                // Those that have not ended by now may have been forgotten by whoever sent them: there is room for as many.
                if is_over && self.change(word, State::HalfOpen, now) {
                    let ended = (self.ended.load(Relaxed) >> 44) as u32;
                    self.probes.store((ended + 1).min(most), Relaxed);
                    return Ok(true);
                }
            }
            State::Open => {}
        }
        self.refused.fetch_add(1, Relaxed);
        Err(Refused(Duration::from_millis(over.saturating_sub(millis(now)))))
    }

    /// An answer while it is closed.
    fn count(&self, word: u64, now: Duration, failed: bool, slow: bool) {
        let terms = &self.terms;
        let has_shares = terms.failure_ratio.is_some() || terms.slow_ratio.is_some() || terms.failures.is_some();
        if has_shares {
            self.window.count(now, failed, slow);
        }
        if terms.consecutive.is_some() && !failed && self.run.load(Relaxed) != 0 {
            self.run.store(0, Relaxed);
        }
        if !failed && !slow {
            return;
        }
        let run = failed && terms.consecutive.is_some_and(|most| self.run.fetch_add(1, Relaxed) + 1 >= most);
        if (run || has_shares && self.is_too_much(self.window.counts(now))) && self.change(word, State::Open, now) {
            self.begin_anew();
            self.opened.fetch_add(1, Relaxed);
        }
    }

    /// The answer to a probe.
    fn count_probe(&self, word: u64, now: Duration, failed: bool, slow: bool) {
        if state_of(word) != State::HalfOpen {
            return;
        }
        let one = 1 << 44 | u64::from(failed) << 22 | u64::from(slow);
        let ended = self.ended.fetch_add(one, Relaxed) + one;
        let at = |shift: u32| (ended >> shift) as u32 & ((1 << 22) - 1);
        let counts = Counts { total: at(44), failed: at(22), slow: at(0) };
        if counts.total < self.terms.probes {
            return;
        }
        // Where no share of failures is looked at, one is too many.
        let failed = match (self.terms.failure_ratio, self.terms.consecutive.or(self.terms.failures)) {
            (Some(percent), _) => self.reaches(counts, counts.failed, percent),
            (None, Some(_)) => counts.failed > 0,
            (None, None) => false,
        };
        let slow = self.terms.slow_ratio.is_some_and(|percent| self.reaches(counts, counts.slow, percent));
        let next = if failed || slow { State::Open } else { State::Closed };
        if self.change(word, next, now) {
            self.begin_anew();
            self.opened.fetch_add(u64::from(next == State::Open), Relaxed);
        }
    }

    fn is_too_much(&self, counts: Counts) -> bool {
        let terms = &self.terms;
        let reaches = |part: u32, percent: Option<u32>| percent.is_some_and(|most| self.reaches(counts, part, most));
        let failures = terms.failures.is_some_and(|most| counts.failed > most - u32::from(!terms.above));
        counts.total >= terms.requests_min
            && (failures || reaches(counts.failed, terms.failure_ratio) || reaches(counts.slow, terms.slow_ratio))
    }

    /// Whether a part of all is too large. Above all of them nothing is, so that there all are enough.
    fn reaches(&self, counts: Counts, part: u32, percent: u32) -> bool {
        match self.terms.above && percent < 100 {
            true => u64::from(part) * 100 > u64::from(counts.total) * u64::from(percent),
            false => counts.reaches(part, percent),
        }
    }

    /// Of all who see the reason for a change, one makes it.
    fn change(&self, from: u64, to: State, now: Duration) -> bool {
        let to = millis(now) << 2 | to as u64;
        self.state.compare_exchange(from, to, Relaxed, Relaxed).is_ok()
    }

    fn begin_anew(&self) {
        self.run.store(0, Relaxed);
        self.window.clear();
    }
}

// === impl Passed ===

impl Passed<'_> {
    /// The answer, and how long it took. Only the first one counts.
    pub fn settle(&self, now: Duration, mark: Mark, took: Duration) {
        if self.is_settled.replace(true) {
            return;
        }
        let breaker = self.breaker;
        let failed = mark != Mark::Good;
        let slow = !failed && breaker.terms.slow_ratio.is_some() && took >= breaker.terms.slow_after;
        let word = breaker.state.load(Relaxed);
        match (self.is_probe.take(), state_of(word)) {
            (true, _) => breaker.count_probe(word, now, failed, slow),
            (false, State::Closed) => breaker.count(word, now, failed, slow),
            // Asked before it opened.
            (false, State::Open | State::HalfOpen) => {}
        }
    }
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        if self.is_probe.get() && state_of(self.breaker.state.load(Relaxed)) == State::HalfOpen {
            // It never says no: nobody takes more away than was let through, but for those of a time before.
            let _ = self.breaker.probes.fetch_update(Relaxed, Relaxed, |probes| Some(probes.saturating_sub(1)));
        }
    }
}

fn state_of(word: u64) -> State {
    match word & TAG {
        1 => State::Open,
        2 => State::HalfOpen,
        _ => State::Closed,
    }
}

#[cfg(test)]
mod tests;
