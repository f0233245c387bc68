//! Which requests a process does while it has more to do than it can: by its processor and by how late it is, whatever
//! matters least left out first.
//!
//! What is left out is a *cut* through all requests, ordered by priority: a whole priority, and a share of the next one by
//! chance. Each look moves it: over a bound, the part of that priority that is still done shrinks by how far it is over, at
//! most by half, unless what is over falls already: what has gathered has to be done first; clearly under it, it grows by a
//! tenth, unless that rises; between the two nothing moves. So steps are as large as what they change, and the cut comes to
//! rest whatever is offered. (Rejected: a whole priority at a time, by which everything is done
//! or nothing where all requests are of one; an integral of the error, which winds up while nothing is offered.)

use std::time::Duration;

use leno_model::snapshot::Priority;

/// A priority is so many parts of the cut.
const WHOLE: u32 = 1000;
/// The least part of a priority that is done before the next is cut too, and that is always done of the highest.
const LEAST: f64 = 0.05;
/// The least that is done grows so, look by look.
const GROWS: f64 = 1.1;
/// Below so much of a bound there is room for more.
const ROOM: f64 = 0.8;
/// What is less than so much of what it was before falls.
const FALLS: f64 = 0.98;

/// From what on there is too much to do; what has no bound is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// How late a worker may be.
    pub late: Option<Duration>,
    /// How much of its processors may be used, in permille.
    pub cpu: Option<u16>,
}

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Busy {
    /// How late the latest worker is.
    pub late: Duration,
    /// How much of the processors is used, in permille, if anybody says so.
    pub cpu: Option<u16>,
}

/// What is left out: so many parts of all priorities, the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cut(u32);

/// Moves a cut.
#[derive(Debug, Clone)]
pub struct Cutting {
    bounds: Bounds,
    /// What the look before has come to.
    before: f64,
    /// Priorities that are left out whole.
    whole: u32,
    /// Of the next one, what is done.
    done: f64,
}

// === impl Bounds ===

impl Bounds {
    /// Whether nothing is bounded.
    pub fn is_none(&self) -> bool {
        self.late.is_none() && self.cpu.is_none()
    }
}

// === impl Cut ===

impl Cut {
    /// As one number, to be passed between threads.
    pub fn word(self) -> u32 {
        self.0
    }

    /// Of such a number.
    pub fn of_word(word: u32) -> Self {
        Self(word)
    }

    /// Whether nothing is left out.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// How many of a thousand requests of a priority are left out.
    pub fn of(self, priority: Priority) -> u32 {
        self.0.saturating_sub(rank(priority) * WHOLE).min(WHOLE)
    }
}

/// How many priorities matter less.
fn rank(priority: Priority) -> u32 {
    match priority {
        Priority::Sheddable => 0,
        Priority::SheddablePlus => 1,
        Priority::Critical => 2,
        Priority::CriticalPlus => 3,
    }
}

// === impl Cutting ===

impl Cutting {
    /// Nothing is left out yet.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, before: 0.0, whole: 0, done: 1.0 }
    }

    /// What is left out from now on. To be called four times a second.
    pub fn step(&mut self, busy: Busy) -> Cut {
        let late = self.bounds.late.map(|most| busy.late.as_secs_f64() / most.as_secs_f64().max(0.001));
        // What a processor has to do beyond what it can is not seen: the last tenth of it counts for more.
        let cpu = self.bounds.cpu.zip(busy.cpu).map(|(most, used)| {
            let (used, most) = (f64::from(used) / 1000.0, f64::from(most.clamp(1, 999)) / 1000.0);
            if used > most { 1.0 + (used - most) / (1.0 - most) } else { used / most }
        });
        let fill = late.into_iter().chain(cpu).fold(0.0, f64::max);
        let before = std::mem::replace(&mut self.before, fill);
        // At the end of its range a processor cannot rise any more, so that standing still is no fall.
        if fill > 1.0 && fill > before * FALLS {
            self.shrink(1.0 / fill.min(2.0));
        } else if fill < ROOM && (fill <= before || fill < ROOM / 2.0) {
            self.grow();
        }
        let done = (self.done * f64::from(WHOLE)).round() as u32;
        Cut(self.whole * WHOLE + WHOLE - done.min(WHOLE))
    }

    fn shrink(&mut self, by: f64) {
        self.done *= by;
        if self.done >= LEAST {
            return;
        }
        if self.whole < rank(Priority::CriticalPlus) {
            (self.whole, self.done) = (self.whole + 1, 1.0);
        } else {
            self.done = LEAST;
        }
    }

    fn grow(&mut self) {
        self.done *= GROWS;
        if self.done < 1.0 {
            return;
        }
        if self.whole > 0 {
            (self.whole, self.done) = (self.whole - 1, LEAST);
        } else {
            self.done = 1.0;
        }
    }
}

#[cfg(test)]
mod tests;
