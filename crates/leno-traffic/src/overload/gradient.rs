//! How much room there is, from the times that answers take: Envoy's gradient, whose base is found without shutting the door.
//!
//! Every window of 100 ms the median of its times is put beside the base, the time of an answer that waited for nothing.
//! While it is at most `tolerance` longer there is more room, by the square root of what there is; beyond that there is less,
//! in proportion. A room that was not full is no reason to change it.
//!
//! The base is the shortest median of late. It can be wrong in two ways: because it was never seen (the instance was full from
//! the start), or because the instance has become slower. So a room that is full is halved from time to time, until that makes
//! answers no faster: the last median is the base. Envoy shuts all but three out for that (`min_rtt_calc_params`); halving
//! leaves half, and rarely a quarter, for a tenth of a second or two. When is drawn by a seed, so that instances do not do it
//! together.

use std::time::Duration;

use leno_model::snapshot::Shedding;

/// Times are put together for so long.
const WINDOW: Duration = Duration::from_millis(100);
/// Where fewer come, they are waited for so long.
const OVERDUE: Duration = Duration::from_secs(1);
const SAMPLES_MIN: u32 = 10;
/// Where nothing is known (Netflix's `initialLimit`).
const LIMIT_FIRST: f64 = 20.0;
/// The first look for the base comes so long after the room was full first, others after each other.
const PROBE_FIRST: Duration = Duration::from_secs(2);
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// Answers that are at most so much faster are no faster.
const NO_FASTER: f64 = 0.9;
/// The room grows by so much at most, and its square root: answers tell of it only when they come, and what was let in until
/// then is in.
const GROWTH_MAX: f64 = 1.25;
/// How far the base goes towards a longer time when nobody waits.
const DRIFT: f64 = 0.1;

/// The room before an instance.
#[derive(Debug, Clone, Copy)]
pub struct Gradient {
    terms: Shedding,
    limit: f64,
    /// Seconds; 0 while it is not known.
    base: f64,
    window_began: Duration,
    window_ends: Duration,
    /// When the base is looked for next; none while the room was never full.
    probe_at: Option<Duration>,
    probe: Option<Probe>,
    seed: u64,
}

/// What came in a window.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// The median of the times; none where nothing was answered.
    pub median: Option<Duration>,
    /// The most that were open at once.
    pub peak: u32,
}

/// The base is being looked for.
#[derive(Debug, Clone, Copy)]
struct Probe {
    /// Room and median before it.
    limit: f64,
    median: f64,
    /// The median with twice the room.
    before: f64,
    /// What was let in before it was halved is still being answered.
    settles: bool,
}

// === impl Gradient ===

impl Gradient {
    /// Nothing known.
    pub fn new(terms: Shedding, seed: u64) -> Self {
        let limit = LIMIT_FIRST.clamp(terms.min.into(), terms.max.into());
        let zero = Duration::ZERO;
        Self { terms, limit, base: 0.0, window_began: zero, window_ends: zero, probe_at: None, probe: None, seed }
    }

    /// How many may be open.
    pub fn limit(&self) -> u32 {
        (self.limit as u32).clamp(self.terms.min, self.terms.max)
    }

    /// The time of an answer that waits for nothing.
    pub fn base(&self) -> Option<Duration> {
        (self.base > 0.0).then(|| Duration::from_secs_f64(self.base))
    }

    /// When the window ends that has begun.
    pub fn window_ends(&self) -> Duration {
        self.window_ends
    }

    /// How many answers say something.
    pub fn samples_min(&self) -> u32 {
        if self.probe.is_some() { SAMPLES_MIN.min(self.limit().max(3)) } else { SAMPLES_MIN }
    }

    /// Whether as many as there are have to do.
    pub fn is_overdue(&self, now: Duration) -> bool {
        now >= self.window_began + OVERDUE
    }

    /// A window is over.
    pub fn settle(&mut self, now: Duration, window: Window) {
        self.begin_window(now, WINDOW);
        let Some(median) = window.median.map(|median| median.as_secs_f64()) else { return };
        if let Some(probe) = self.probe.take() {
            return self.go_on(now, probe, median);
        }
        if f64::from(window.peak) < self.limit.floor() {
            // Nobody waits here, so that this is what it takes.
            self.base =
                if self.base == 0.0 || median < self.base { median } else { self.base + (median - self.base) * DRIFT };
            return;
        }
        self.base = if self.base == 0.0 { median } else { self.base.min(median) };
        self.move_from(self.limit, median);
        match self.probe_at {
            None => self.probe_at = Some(now + self.jittered(PROBE_FIRST)),
            Some(at) if now >= at => {
                self.probe_at = Some(now + self.jittered(PROBE_EVERY));
                self.halve(now, Probe { limit: self.limit, median, before: median, settles: true });
            }
            Some(_) => {}
        }
    }

    /// Half of the room answered in this time.
    fn go_on(&mut self, now: Duration, probe: Probe, median: f64) {
        if probe.settles {
            self.probe = Some(Probe { settles: false, ..probe });
            // Long enough for the answers that say something.
            self.begin_window(now, Duration::from_secs_f64(median).min(WINDOW));
            return;
        }
        if median < probe.before * NO_FASTER && self.limit() > self.terms.min.max(1) {
            return self.halve(now, Probe { before: median, settles: true, ..probe });
        }
        self.base = median.min(probe.before);
        self.move_from(probe.limit, probe.median);
    }

    fn halve(&mut self, now: Duration, probe: Probe) {
        self.limit = self.clamped(self.limit / 2.0);
        self.probe = Some(probe);
        self.begin_window(now, Duration::from_secs_f64(probe.before * 1.5).min(OVERDUE));
    }

    /// More room or less, as this median beside the base has it.
    fn move_from(&mut self, limit: f64, median: f64) {
        let most = self.base * (1.0 + f64::from(self.terms.tolerance) / 100.0);
        let kept = limit * (most / median.max(1e-6)).clamp(0.5, GROWTH_MAX);
        self.limit = self.clamped(kept + kept.sqrt());
    }

    fn clamped(&self, limit: f64) -> f64 {
        limit.clamp(self.terms.min.into(), self.terms.max.into())
    }

    fn begin_window(&mut self, now: Duration, length: Duration) {
        (self.window_began, self.window_ends) = (now, now + length);
    }

    /// 15 % more or less.
    fn jittered(&mut self, time: Duration) -> Duration {
        // Of a sequence that is even enough for this (Weyl, by the golden ratio).
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        time.mul_f64(0.85 + 0.3 * (self.seed >> 11) as f64 / (1_u64 << 53) as f64)
    }
}
