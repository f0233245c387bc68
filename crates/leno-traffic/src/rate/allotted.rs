//! A token bucket whose rate the server allots, anew every tenth of a second: this proxy's part of a limit that all proxies
//! count together.
//!
//! Tokens come along a *line*, from a moment on at a rate until the allotment ends; a request takes one by moving the *mark*,
//! one atomic number, up to which tokens are used. A new line goes on where the last one stands, so that no change of rate
//! makes a token, and what did not fit into the bucket before stays lost. Together that bounds the proxies: what they have at
//! hand is never more than their depths, and what comes is never more than their rates, which the server keeps below the
//! limit.
//!
//! Lines are swapped by the control thread and read without a lock. Nobody waits for the server here: who finds nothing at
//! hand is refused, and the proxy asks for more at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::{Granted, Left, Refused};

/// A token, in the units in which they are counted.
const TOKEN: f64 = 1024.0;
const TOKEN_UNITS: u64 = 1024;
/// When to come again where nobody knows when there will be more.
const LATER: Duration = Duration::from_secs(1);
/// Whoever is refused is not sent away for longer.
const LATER_MAX: Duration = Duration::from_secs(60);

/// What a proxy may let through of a limit that is shared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// How it stands with the server.
    pub standing: Standing,
    /// Requests a second.
    pub rate: f64,
    /// Requests at once, 1 at least.
    pub depth: f64,
    /// Until when the rate holds.
    pub until: Duration,
    /// Everything passes, or nothing, whatever the rate is.
    pub gate: Gate,
    /// How many proxies hold the limit, as the server last said; 0 where it has said nothing.
    pub proxies: u32,
}

/// How a proxy stands with the server that allots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The server has not answered yet.
    Begun,
    /// It has what the server allots.
    Allotted,
    /// No server answers: it does what is said for that.
    Away,
}

/// Whether a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// As many pass as there is room for.
    Counted,
    /// All pass.
    Open,
    /// None passes.
    Closed,
}

/// A bucket that fills as the server says.
#[derive(Debug)]
pub(super) struct Allotted {
    line: ArcSwap<Line>,
    /// Units up to which tokens are used.
    mark: AtomicU64,
    hungry: AtomicBool,
}

/// How tokens come.
#[derive(Debug, Clone, Copy)]
struct Line {
    part: Part,
    since: Duration,
    /// Units that had come by then.
    base: u64,
    depth: u64,
}

// === impl Allotted ===

impl Allotted {
    /// With so many at hand, and nothing that comes until the server says so.
    pub(super) fn new(first: f64) -> Self {
        let part = Part {
            standing: Standing::Begun,
            rate: 0.0,
            depth: first.max(1.0),
            until: Duration::MAX,
            gate: Gate::Counted,
            proxies: 0,
        };
        let line = Line { part, since: Duration::ZERO, base: part.depth_units(), depth: part.depth_units() };
        Self { line: ArcSwap::from_pointee(line), mark: AtomicU64::new(0), hungry: AtomicBool::new(false) }
    }

    /// Goes on with this part.
    pub(super) fn set(&self, now: Duration, part: Part) {
        let before = self.line.load();
        let base = before.at(now);
        // A bucket that becomes deeper is not fuller for it.
        self.mark.fetch_max(base.saturating_sub(before.depth), Relaxed);
        self.line.store(Arc::new(Line { part, since: now, base, depth: part.depth_units() }));
    }

    pub(super) fn take(&self, now: Duration) -> Result<Granted, Refused> {
        let line = self.line.load();
        match line.part.gate {
            Gate::Counted => {}
            Gate::Open => return Ok(Granted { wait: Duration::ZERO, holds: false, mark: 0 }),
            Gate::Closed => return Err(Refused { after: LATER, mark: 0 }),
        }
        let at = line.at(now);
        let mut old = self.mark.load(Relaxed);
        loop {
            let new = old.max(at.saturating_sub(line.depth)) + TOKEN_UNITS;
            if new > at {
                self.want();
                return Err(Refused { after: line.time(new - at), mark: old });
            }
            match self.mark.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => {
                    if at - new < line.depth / 2 {
                        self.want();
                    }
                    return Ok(Granted { wait: Duration::ZERO, holds: false, mark: new });
                }
                Err(current) => old = current,
            }
        }
    }

    pub(super) fn left(&self, mark: u64, now: Duration) -> Left {
        let line = self.line.load();
        if line.part.gate != Gate::Counted {
            return Left { now: 0, reset: Duration::ZERO };
        }
        let at = line.at(now);
        let used = mark.max(at.saturating_sub(line.depth));
        let at_hand = at.saturating_sub(used).min(line.depth);
        let now = u32::try_from(at_hand / TOKEN_UNITS).unwrap_or(u32::MAX);
        Left { now, reset: if at_hand < line.depth { line.time(line.depth - at_hand) } else { Duration::ZERO } }
    }

    pub(super) fn mark(&self) -> u64 {
        self.mark.load(Relaxed)
    }

    pub(super) fn part(&self) -> Part {
        self.line.load().part
    }

    /// Whether little or nothing is at hand, since the last time that somebody [heard](Self::heard) so.
    pub(super) fn is_hungry(&self) -> bool {
        self.hungry.load(Relaxed)
    }

    pub(super) fn heard(&self) {
        self.hungry.store(false, Relaxed);
    }

    /// Written once for many requests, so that workers do not take the line from each other.
    fn want(&self) {
        if !self.hungry.load(Relaxed) {
            self.hungry.store(true, Relaxed);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Line>()
    }
}

// === impl Line ===

impl Line {
    /// Units that have come by then.
    fn at(&self, now: Duration) -> u64 {
        let passed = now.min(self.part.until).saturating_sub(self.since);
        self.base.saturating_add((passed.as_secs_f64() * self.part.rate * TOKEN) as u64)
    }

    /// How long so many take to come.
    fn time(&self, units: u64) -> Duration {
        if self.part.rate <= 0.0 {
            return LATER;
        }
        let seconds = units as f64 / (self.part.rate * TOKEN);
        Duration::try_from_secs_f64(seconds).map_or(LATER_MAX, |time| time.min(LATER_MAX))
    }
}

// === impl Part ===

impl Part {
    fn depth_units(&self) -> u64 {
        (self.depth.max(1.0) * TOKEN) as u64
    }

    /// Requests a second that it lets through at a moment.
    pub fn rate_at(&self, now: Duration) -> f64 {
        if self.gate != Gate::Closed && now < self.until { self.rate } else { 0.0 }
    }
}
