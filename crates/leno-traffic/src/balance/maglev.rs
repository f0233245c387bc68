//! Maglev (Eisenbud et al., NSDI 2016): a table of a prime number of places that the members fill in turn, each by its
//! own permutation, so that shares are even to less than a percent and a look-up is one index. A member that goes moves
//! its keys and about one in a hundred of the others'.
//!
//! Weights as Envoy has them: a member takes its k-th place when the heaviest has had as many turns as give it k. Envoy goes
//! round all members for every turn of the heaviest; here a heap says who is next, so that a weight of 1 beside one of
//! 1,000,000 costs nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Ask, Balance, Set, mix};

/// Places in the table where nobody says how many, a prime: Envoy's default.
const PLACES: usize = 65_537;

/// The most members that have places, if those are more; whoever comes behind them takes nothing while one of them is there.
const MEMBERS_MAX: usize = 65_535;

/// Stands in a place that nobody has taken yet.
const FREE: u16 = u16::MAX;

/// How many places of a key are looked at before a walk finds whoever is left.
const ATTEMPTS: u64 = 16;

/// By hash, in a table.
#[derive(Debug)]
pub struct Maglev {
    /// The slot that has each place; empty without members.
    places: Box<[u16]>,
}

/// Where a member is in its permutation, and how many places it has taken.
struct Turn {
    next: usize,
    skip: usize,
    taken: u64,
}

// === impl Maglev ===

impl Maglev {
    /// Fills the table.
    pub fn new(set: &Set) -> Self {
        if set.slots.is_empty() {
            return Self { places: Box::default() };
        }
        let size = set.table_size.map_or(PLACES, |size| size as usize);
        let members = &set.slots[..set.slots.len().min(MEMBERS_MAX)];
        let mut turns: Vec<Turn> = members.iter().map(|slot| Turn::new(slot.key, size)).collect();
        // Times in units that a weight of 2^32 - 1 still divides well; a million turns of a weight of 1 are more than 64 bits.
        let due = |slot: usize, taken: u64| (u128::from(taken + 1) << 44) / u128::from(members[slot].weight);
        let mut heap: BinaryHeap<Reverse<(u128, usize)>> =
            (0..members.len()).map(|slot| Reverse((due(slot, 0), slot))).collect();
        let mut places = vec![FREE; size];
        for _ in 0..size {
            let Some(Reverse((_, slot))) = heap.pop() else { break };
            let turn = &mut turns[slot];
            while places[turn.next] != FREE {
                turn.step(size);
            }
            places[turn.next] = slot as u16;
            turn.step(size);
            turn.taken += 1;
            heap.push(Reverse((due(slot, turn.taken), slot)));
        }
        Self { places: places.into() }
    }
}

impl Balance for Maglev {
    fn pick(&self, set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
        let Some(hash) = ask.hash else { return set.draw(ask, None) };
        // Who was tried already: other places of the same key, so that its second choice is always the same too.
        for attempt in 0..ATTEMPTS {
            let place = if attempt == 0 { hash } else { mix(hash, attempt) } % self.places.len().max(1) as u64;
            let slot = usize::from(*self.places.get(place as usize)?);
            if set.takes(slot, ask) {
                return Some(slot);
            }
        }
        set.walk(ask, None)
    }
}

// === impl Turn ===

impl Turn {
    fn new(key: u64, size: usize) -> Self {
        let places = size as u64;
        let (next, skip) = (mix(key, 0) % places, mix(key, 1) % (places - 1) + 1);
        Self { next: next as usize, skip: skip as usize, taken: 0 }
    }

    fn step(&mut self, size: usize) {
        self.next = (self.next + self.skip) % size;
    }
}

#[cfg(test)]
mod tests {
    use leno_model::snapshot::{BalancePolicy, Balancing};

    use super::super::suite::{members, moved_keys};
    use super::*;

    fn shares(weights: &[u32]) -> Vec<usize> {
        let table = Maglev::new(&Set::of(members(weights).iter().enumerate(), &Balancing::default()));
        let mut counts = vec![0; weights.len()];
        table.places.iter().for_each(|slot| counts[usize::from(*slot)] += 1);
        counts
    }

    #[test]
    fn places_are_shared_as_the_weights_say() {
        assert_eq!(shares(&[1]), [PLACES]);
        for count in shares(&[7; 10]) {
            assert!(count.abs_diff(PLACES / 10) <= 1, "{count}");
        }
        for weights in [[1, 2, 5], [100, 200, 500], [500_000_000, 1_000_000_000, 2_500_000_000]] {
            let counts = shares(&weights);
            for (count, part) in counts.iter().zip([1.0, 2.0, 5.0]) {
                let wanted = PLACES as f64 * part / 8.0;
                assert!((*count as f64 - wanted).abs() <= 2.0, "{weights:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn a_table_has_as_many_places_as_it_is_to_have() {
        for size in [101, 655_357] {
            let balancing = Balancing { table_size: Some(size), ..Balancing::default() };
            let table = Maglev::new(&Set::of(members(&[10_000, 10_000, 1]).iter().enumerate(), &balancing));
            let counts = [0, 1, 2].map(|slot| table.places.iter().filter(|place| **place == slot).count());
            assert_eq!((table.places.len(), counts[2]), (size as usize, size as usize / 20_001));
            assert!(counts[0].abs_diff(counts[1]) <= 1, "{counts:?}");
        }
    }

    #[test]
    fn members_of_very_different_weights_and_very_many_make_a_table_all_the_same() {
        assert_eq!(shares(&[1, 1_000_000]), [0, PLACES]);
        let counts = shares(&vec![1; MEMBERS_MAX + 10]);
        assert!(counts[..MEMBERS_MAX].iter().all(|count| (1..=2).contains(count)));
        assert!(counts[MEMBERS_MAX..].iter().all(|count| *count == 0));
    }

    #[test]
    fn a_member_that_goes_moves_its_own_keys_and_few_others() {
        for count in [3, 10, 100] {
            let (of_others, of_its_own) = moved_keys(BalancePolicy::Maglev, count);
            assert!(of_others < 0.04, "{count} members: {of_others}");
            assert_eq!(of_its_own, 1.0);
        }
    }
}
