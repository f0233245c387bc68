//! Round robin by weight: a round in which each member stands as often as its weight says, spread evenly, and one
//! cursor for all workers.
//!
//! The round is laid out once (earliest deadline first: the k-th turn of weight w is due at (k + ½) / w), so that a pick
//! is one atomic addition. Weights are divided by their greatest common divisor and, where the round would still be
//! longer than [`ROUND_MAX`], rounded to shares of it. Rejected: smooth weighted round robin, which walks all members.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Ask, Balance, Set};

/// The longest round that weights may ask for; more members than that have one turn each at least.
const ROUND_MAX: u64 = 4096;

/// In turn.
#[derive(Debug)]
pub struct RoundRobin {
    round: Box<[u32]>,
    cursor: Cursor,
}

/// On a cache line of its own: all workers write it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Cursor(AtomicU64);

// === impl RoundRobin ===

impl RoundRobin {
    /// Lays out the round and starts somewhere: in which round matters too, where not all take each of their turns.
    pub fn new(set: &Set, seed: u64) -> Self {
        let weights: Vec<u64> = set.slots.iter().map(|slot| u64::from(slot.weight)).collect();
        let round = lay_out(&turns(&weights));
        // Half of all numbers are left until the first comes again.
        Self { round, cursor: Cursor(AtomicU64::new(seed & (u64::MAX >> 1))) }
    }

    /// The number of the next turn.
    pub(super) fn turn(&self) -> u64 {
        self.cursor.0.fetch_add(1, Relaxed)
    }

    /// The slot whose turn it is.
    pub(super) fn at(&self, turn: u64) -> Option<usize> {
        self.round.get((turn % self.round.len().max(1) as u64) as usize).map(|slot| *slot as usize)
    }
}

impl Balance for RoundRobin {
    fn pick(&self, set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
        for _ in 0..set.draws_max(ask.now) {
            let slot = self.at(self.turn())?;
            if set.takes(slot, ask) {
                return Some(slot);
            }
        }
        set.walk(ask, None)
    }
}

/// How many turns each weight has in a round.
fn turns(weights: &[u64]) -> Vec<u64> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let sum = weights.iter().sum::<u64>() / divisor;
    if sum <= ROUND_MAX.max(weights.len() as u64) {
        return weights.iter().map(|weight| weight / divisor).collect();
    }
    let share = |weight: &u64| (weight / divisor * ROUND_MAX + sum / 2) / sum;
    weights.iter().map(|weight| share(weight).max(1)).collect()
}

fn lay_out(turns: &[u64]) -> Box<[u32]> {
    // Deadlines as fractions of the round, in integers that compare exactly enough: 2^40 to the round.
    let due = |slot: usize, taken: u64| ((2 * taken + 1) << 40) / (2 * turns[slot]);
    let mut heap: BinaryHeap<Reverse<(u64, usize, u64)>> =
        (0..turns.len()).map(|slot| Reverse((due(slot, 0), slot, 0))).collect();
    let mut round = Vec::with_capacity(turns.iter().sum::<u64>() as usize);
    while let Some(Reverse((_, slot, taken))) = heap.pop() {
        round.push(slot as u32);
        if taken + 1 < turns[slot] {
            heap.push(Reverse((due(slot, taken + 1), slot, taken + 1)));
        }
    }
    round.into()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_spread_over_the_round() {
        assert_eq!(*lay_out(&turns(&[1, 1, 1])), [0, 1, 2]);
        assert_eq!(*lay_out(&turns(&[200, 100])), [0, 1, 0]);
        assert_eq!(*lay_out(&turns(&[5, 1, 1])), [0, 0, 0, 1, 2, 0, 0]);
    }

    #[test]
    fn a_round_is_exact_while_it_is_short_and_bounded_when_not() {
        assert_eq!(turns(&[6, 4, 2]), [3, 2, 1]);
        let long = turns(&[1_000_000, 999_999, 1]);
        assert_eq!(long, [2048, 2048, 1]);
        assert_eq!(turns(&vec![7; 10_000]).iter().sum::<u64>(), 10_000);
    }

    #[test]
    fn no_turns_make_no_round() {
        assert!(lay_out(&turns(&[])).is_empty());
    }
}
