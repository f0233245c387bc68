//! Shares of turns that change while requests go on (gRPC's static stride scheduler).
//!
//! A round that is laid out anew whenever shares change would need somebody to lay it out. Here all slots stand in turn, and
//! each takes a part of its turns: all of them the one with the greatest share, the others accordingly, spread evenly. A pick is
//! one addition for each turn that it looks at.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::{Ask, RoundRobin, Set, Slot};
use crate::window::millis;

/// All turns.
const PART_MAX: u32 = 1 << 16;

/// Turns that a pick looks at, before it takes one that is not due.
const LOOKS_MAX: usize = 64;

/// Who takes which part of its turns.
#[derive(Debug)]
pub(super) struct Strides {
    /// By weight, and whose turn it is.
    turns: RoundRobin,
    /// Of each slot, of [`PART_MAX`]; 0 where all go by weight.
    parts: Box<[AtomicU32]>,
    /// When they were found, in milliseconds and one more.
    found: AtomicU64,
}

// === impl Strides ===

impl Strides {
    /// By weight, beginning somewhere.
    pub(super) fn new(set: &Set, seed: u64) -> Self {
        let parts = set.slots.iter().map(|_| AtomicU32::new(0)).collect();
        Self { turns: RoundRobin::new(set, seed), parts, found: AtomicU64::new(0) }
    }

    /// Whether shares are to be found anew, by this one of those who pick.
    pub(super) fn is_due(&self, now: Duration, every: Duration) -> bool {
        let (now_ms, found) = (millis(now) + 1, self.found.load(Relaxed));
        let is_due = found == 0 || now_ms >= found.saturating_add(millis(every));
        is_due && self.found.compare_exchange(found, now_ms, Relaxed, Relaxed).is_ok()
    }

    /// Gives each slot its share beside the others', more than 0.
    pub(super) fn set(&self, set: &Set, share: impl Fn(&Slot) -> f32) {
        let most = set.slots.iter().map(&share).fold(f32::MIN_POSITIVE, f32::max);
        for (part, slot) in self.parts.iter().zip(&set.slots) {
            let of_all = (share(slot) / most * PART_MAX as f32).round() as u32;
            part.store(of_all.clamp(1, PART_MAX), Relaxed);
        }
    }

    /// Has all go by weight.
    pub(super) fn clear(&self) {
        self.parts.iter().for_each(|part| part.store(0, Relaxed));
    }

    /// The next that takes its turn and is neither excluded nor passed over.
    pub(super) fn pick(&self, set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
        for _ in 0..set.draws_max(ask.now) {
            let slot = self.next()?;
            if set.takes(slot, ask) {
                return Some(slot);
            }
        }
        set.walk(ask, None)
    }

    fn next(&self) -> Option<usize> {
        let count = self.parts.len().max(1) as u64;
        let mut slot = 0;
        for _ in 0..LOOKS_MAX {
            let turn = self.turns.turn();
            slot = (turn % count) as usize;
            let part = u64::from(self.parts.get(slot)?.load(Relaxed));
            if part == 0 {
                return self.turns.at(turn);
            }
            // Half a stride apart, so that neighbours do not take theirs in the same rounds.
            let passed = part.wrapping_mul(turn / count).wrapping_add(slot as u64 * u64::from(PART_MAX / 2));
            if passed % u64::from(PART_MAX) >= u64::from(PART_MAX) - part {
                break;
            }
        }
        Some(slot)
    }
}
