//! How many requests an instance takes at once, found out from how long it takes, and who is turned away beyond that.
//!
//! ```text
//! request ─ enter ─┬ room, and nobody waits ─► in ─ answered: its time ─► Gradient, once a window ─► how much room there is
//!                  └ none ─► waits by priority ─┬ somebody leaves ─► in
//!                                               └ too long ─► shed, and for a while the like of it at once
//! ```
//!
//! The room is a [`Bulkhead`] whose size [`Gradient`] moves. Where nobody comes beyond it, a request pays a few atomic
//! operations and no lock. Who finds no room waits for as long as the terms say (CoDel's target), and is then shed; for
//! [`BUSY_FOR`] from then on nobody of its priority waits, so that refusals come fast and cost little, and those of lower ones
//! do not even get the room that there may be: what matters least is shed first, and whole. One of the highest priority waits
//! for [`PATIENCE`], so that of it nothing is refused that fits into what can be done.

mod gradient;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use leno_model::snapshot::{Priority, Shedding};

pub use self::gradient::{Gradient, Window};
use crate::bulkhead::{Bulkhead, Entered, Fill, Waiting};
use crate::window::millis;

/// One of the highest priority waits for so long at least.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// After one was shed, those of its priority do not wait for so long, and those below are shed.
pub const BUSY_FOR: Duration = Duration::from_millis(100);
/// Those of the highest priority that may wait, at least.
const QUEUE_MIN: u32 = 1024;
const PRIORITIES: usize = Priority::ALL.len();

/// What stands before an instance, shared by all workers.
#[derive(Debug)]
pub struct Gate {
    terms: Shedding,
    room: Bulkhead,
    times: Times,
    /// The most that were open in this window.
    peak: AtomicU32,
    /// The time at which the window ends, in milliseconds.
    window_ends: AtomicU64,
    /// By priority: until when they do not wait, and until when they are not let in, in milliseconds.
    busy_until: [AtomicU64; PRIORITIES],
    shut_until: [AtomicU64; PRIORITIES],
    shed: [AtomicU64; PRIORITIES],
    gradient: Mutex<Gradient>,
}

/// A request that is in; it leaves when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it is leaving"]
pub struct In(Arc<Gate>);

/// It is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shed;

/// What a gate does, for people.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// How full it is.
    pub fill: Fill,
    /// The time that an answer takes when nobody waits, as far as it is known.
    pub base: Option<Duration>,
    /// Requests that were shed, by priority.
    pub shed: [u64; PRIORITIES],
}

/// Times in steps of a ninth; together they say the median.
#[derive(Debug)]
struct Times {
    counts: [AtomicU32; STEPS],
}

/// Eight for each doubling, from 8 µs to 18 minutes.
const STEPS: usize = 27 * 8;

// === impl Gate ===

impl Gate {
    /// One that knows nothing yet; `seed` keeps proxies from probing together.
    pub fn new(terms: Shedding, seed: u64) -> Self {
        let gradient = Gradient::new(terms, seed);
        let gate = Self {
            terms,
            room: Bulkhead::new(),
            times: Times { counts: [const { AtomicU32::new(0) }; STEPS] },
            peak: AtomicU32::new(0),
            window_ends: AtomicU64::new(0),
            busy_until: Default::default(),
            shut_until: Default::default(),
            shed: Default::default(),
            gradient: Mutex::new(gradient),
        };
        gate.set_room(gradient.limit());
        gate
    }

    /// What it goes by.
    pub fn terms(&self) -> &Shedding {
        &self.terms
    }

    /// Lets a request in, or turns it away; none where it may wait.
    pub fn enter(self: &Arc<Self>, priority: Priority, now: Duration) -> Result<Option<In>, Shed> {
        if millis(now) < self.shut_until[priority as usize].load(Relaxed) {
            return Err(self.turn_away(priority, now));
        }
        if let Some(entered) = self.room.try_enter() {
            return Ok(Some(self.admitted(entered)));
        }
        // It was full, whatever may be open in a moment.
        let fill = self.room.fill();
        self.peak.fetch_max(fill.max, Relaxed);
        let busy = millis(now) < self.busy_until[priority as usize].load(Relaxed);
        // Half of the queue is for the highest.
        if priority != Priority::CriticalPlus && (busy || fill.waiting >= fill.waiting_max / 2) {
            return Err(self.turn_away(priority, now));
        }
        Ok(None)
    }

    /// A place among those who wait for room, and how long one waits at most.
    pub fn wait(&self, priority: Priority, now: Duration) -> Result<(Waiting<'_>, Duration), Shed> {
        let waiting = self.room.wait_as(priority as u8).map_err(|_| self.turn_away(priority, now))?;
        let is_highest = priority == Priority::CriticalPlus;
        Ok((waiting, if is_highest { self.terms.wait.max(PATIENCE) } else { self.terms.wait }))
    }

    /// One that waited is in.
    pub fn admitted(self: &Arc<Self>, entered: Entered<'_>) -> In {
        entered.forget();
        self.peak.fetch_max(self.room.fill().open, Relaxed);
        In(self.clone())
    }

    /// One has waited in vain.
    pub fn gave_up(&self, priority: Priority, now: Duration) -> Shed {
        self.busy_until[priority as usize].store(millis(now + BUSY_FOR), Relaxed);
        self.room.count_late();
        self.turn_away(priority, now)
    }

    /// One that was in got its answer, so long after it came in.
    pub fn answered(&self, now: Duration, took: Duration) {
        self.times.count(took);
        if millis(now) < self.window_ends.load(Relaxed) {
            return;
        }
        // Whoever comes first settles the window; nobody waits for that.
        let mut gradient = match self.gradient.try_lock() {
            Ok(gradient) => gradient,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if millis(now) < self.window_ends.load(Relaxed) {
            return;
        }
        if self.times.total() >= gradient.samples_min() || gradient.is_overdue(now) {
            let window = Window { median: self.times.take(), peak: self.peak.swap(0, Relaxed) };
            gradient.settle(now, window);
            self.set_room(gradient.limit());
        }
        self.window_ends.store(millis(gradient.window_ends()), Relaxed);
    }

    /// What it does.
    pub fn seen(&self) -> Seen {
        let base = match self.gradient.lock() {
            Ok(gradient) => gradient.base(),
            Err(poisoned) => poisoned.into_inner().base(),
        };
        Seen { fill: self.room.fill(), base, shed: self.shed.each_ref().map(|shed| shed.load(Relaxed)) }
    }

    fn turn_away(&self, priority: Priority, now: Duration) -> Shed {
        let until = millis(now + BUSY_FOR);
        self.shut_until[priority as usize + 1..].iter().for_each(|shut| shut.store(until, Relaxed));
        self.shed[priority as usize].fetch_add(1, Relaxed);
        Shed
    }

    fn set_room(&self, limit: u32) {
        self.room.set(limit, limit.max(QUEUE_MIN));
    }
}

// === impl In ===

impl In {
    /// What it is in.
    pub fn gate(&self) -> &Gate {
        &self.0
    }
}

impl Drop for In {
    fn drop(&mut self) {
        self.0.room.leave();
    }
}

// === impl Times ===

impl Times {
    fn count(&self, time: Duration) {
        self.counts[step_of(time)].fetch_add(1, Relaxed);
    }

    fn total(&self) -> u32 {
        self.counts.iter().map(|count| count.load(Relaxed)).fold(0, u32::saturating_add)
    }

    /// The median, of what is forgotten with it.
    fn take(&self) -> Option<Duration> {
        let counts = self.counts.each_ref().map(|count| count.swap(0, Relaxed));
        let total: u64 = counts.iter().copied().map(u64::from).sum();
        let mut below = 0;
        let at = counts.iter().position(|count| {
            below += u64::from(*count);
            below * 2 >= total && total > 0
        });
        at.map(middle_of)
    }
}

fn step_of(time: Duration) -> usize {
    let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(8);
    let doubling = us.ilog2() as usize;
    let eighth = (us >> (doubling - 3)) as usize & 7;
    ((doubling - 3) * 8 + eighth).min(STEPS - 1)
}

fn middle_of(step: usize) -> Duration {
    let (doubling, eighth) = (step / 8, step % 8);
    let (from, width) = (((8 + eighth) as u64) << doubling, 1_u64 << doubling);
    Duration::from_micros(from + width / 2)
}

#[cfg(test)]
mod tests;
