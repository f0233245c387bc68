//! A mark for each key, in room that is fixed from the start, whoever sends how many keys.
//!
//! A key has its place in one of a few *sets* of [`WAYS`] neighbours, by a hash that nobody outside can compute. A key that
//! comes anew takes a place that is free: one whose mark time has passed, so that its bucket is full, and nothing is lost by
//! forgetting whose it was. Where no neighbour is idle it takes the place with the lowest mark, **and the mark with it**.
//!
//! That is what makes it safe (Space-Saving, Metwally 2005): marks in a set never fall while they matter, and who loses its
//! place has a mark no higher than any other of its set. When it comes back it takes one that is at least as high. So no key
//! ever gets more than its limit by pushing itself or others out; when all places of a set are in use, somebody new may get
//! less. Rejected: the least recently used goes, which hands a full bucket to whoever sends enough other keys between; and
//! refusing what comes anew, by which one caller shuts out all others.
//!
//! Key and mark are two words that change apart: taking a place over changes the key alone. Where workers race for the same
//! place, a request may be counted for the neighbour it races with, and one request more than the limit may pass.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Places among which a key finds its own: four cache lines hold them.
const WAYS: usize = 16;

#[derive(Debug)]
pub(super) struct Keyed {
    places: Box<[Place]>,
    /// Secret.
    seed: u64,
    crowded: AtomicU64,
}

#[derive(Debug, Default)]
struct Place {
    /// 0 is nobody's.
    key: AtomicU64,
    mark: AtomicU64,
}

/// What there is, for people.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Places whose buckets are not full.
    pub(super) in_use: u32,
    pub(super) of: u32,
    /// The mark that is furthest ahead.
    pub(super) highest: u64,
    /// Times that a place was taken over that was in use.
    pub(super) crowded: u64,
}

// === impl Keyed ===

impl Keyed {
    /// For so many keys, rounded up to a power of two.
    pub(super) fn new(keys: u32, seed: u64) -> Self {
        let places = (keys as usize).next_power_of_two().max(WAYS);
        Self { places: (0..places).map(|_| Place::default()).collect(), seed, crowded: AtomicU64::new(0) }
    }

    /// A key of several parts, in their order. What is secret comes first, so that nobody outside finds two that are the same.
    pub(super) fn key(&self, parts: impl Iterator<Item = u64>) -> u64 {
        parts.fold(self.seed, |before, part| mixed(before) ^ part)
    }

    /// The mark of a key.
    pub(super) fn count_of(&self, key: u64, at: u64) -> &AtomicU64 {
        let key = mixed(key) | 1;
        let sets = self.places.len() / WAYS;
        // The lowest bit is always set: others choose.
        let first = ((key >> 32) as usize % sets) * WAYS;
        let set = &self.places[first..first + WAYS];
        loop {
            let (mut lowest, mut least, mut holder) = (&set[0], u64::MAX, 0);
            for place in set {
                let held = place.key.load(Relaxed);
                if held == key {
                    return &place.mark;
                }
                let mark = if held == 0 { 0 } else { place.mark.load(Relaxed) };
                if mark < least {
                    (lowest, least, holder) = (place, mark, held);
                }
            }
            if lowest.key.compare_exchange(holder, key, Relaxed, Relaxed).is_ok() {
                if least > at {
                    self.crowded.fetch_add(1, Relaxed);
                }
                return &lowest.mark;
            }
        }
    }

    pub(super) fn seen(&self, at: u64) -> Seen {
        let marks = || self.places.iter().map(|place| place.mark.load(Relaxed));
        Seen {
            in_use: marks().filter(|mark| *mark > at).count() as u32,
            of: self.places.len() as u32,
            highest: marks().max().unwrap_or_default(),
            crowded: self.crowded.load(Relaxed),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.places)
    }
}

/// Spreads a number over all its bits (the finisher of MurmurHash3).
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ bits >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ bits >> 33
}
