//! Ring hash (ketama, as Envoy, nginx and libmemcached): every member stands at many points of a ring, as many as its
//! weight says, and a key belongs to the next point. A member that comes or goes moves only the keys that are its own.
//!
//! For that to be so, how many points a member has must not depend on who else is there. Envoy fills a ring of at least
//! 1,024 points whatever there is, so that of three members the two that stay get more points when the third goes, and take
//! keys from each other; here a member of a given weight has as many as before. Only where the lightest weight passes a
//! power of two, or the ring would be longer than [`POINTS_MAX`], do all of them have more or fewer: twice, or half as many.
//!
//! Shares are as even as points are many: with 512 each, to about a twentieth. For even shares rather than few moved keys
//! there is Maglev.

use super::{Ask, Balance, Set, mix};

/// The most points on a ring; more members than that have one each.
const POINTS_MAX: u64 = 262_144;

/// The points of the lightest member, while the ring has room: these to twice as many.
const POINTS_EACH: u64 = 512;

/// The most points that are looked at for one that is not excluded, before a walk finds whoever is left.
const STEPS_MAX: usize = 4_096;

/// By hash, on a ring.
#[derive(Debug)]
pub struct RingHash {
    /// Sorted by place.
    points: Box<[Point]>,
}

/// The high half of 64 bits is enough to tell points apart, and halves what a look-up reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    at: u32,
    slot: u32,
}

// === impl RingHash ===

impl RingHash {
    /// Lays the points.
    pub fn new(set: &Set) -> Self {
        let weights: Vec<u64> = set.slots.iter().map(|slot| u64::from(slot.weight)).collect();
        let counts = point_counts(&weights);
        let mut points: Vec<Point> = Vec::with_capacity(counts.iter().sum::<u64>() as usize);
        for ((slot, of), count) in set.slots.iter().enumerate().zip(counts) {
            points.extend((0..count).map(|n| Point { at: (mix(of.key, n) >> 32) as u32, slot: slot as u32 }));
        }
        points.sort_unstable();
        Self { points: points.into() }
    }
}

impl Balance for RingHash {
    fn pick(&self, set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
        let Some(hash) = ask.hash else { return set.draw(ask, None) };
        let at = (hash >> 32) as u32;
        let first = self.points.partition_point(|point| point.at < at);
        // Who was tried already: the next on the ring, so that the second choice of a key is always the same too.
        let points = self.points[first..].iter().chain(&self.points[..first]).take(STEPS_MAX);
        let mut slots = points.map(|point| point.slot as usize);
        let found = slots.find(|slot| set.takes(*slot, ask));
        found.or_else(|| set.walk(ask, None))
    }
}

/// How many points each weight has. Those of one weight change only with powers of two of the lightest and of the sum.
fn point_counts(weights: &[u64]) -> Vec<u64> {
    let Some(lightest) = weights.iter().copied().min() else { return Vec::new() };
    let unit = 1 << lightest.max(1).ilog2();
    let of = |weight: u64, each: u64| (weight * each / unit).max(1);
    let mut each = POINTS_EACH;
    // Below one point for the unit, units are put together.
    let mut unit_shift = 0;
    loop {
        let counts: Vec<u64> = weights.iter().map(|weight| of(*weight >> unit_shift, each)).collect();
        let sum: u64 = counts.iter().sum();
        if sum <= POINTS_MAX || counts.iter().all(|count| *count == 1) {
            return counts;
        }
        if each > 1 { each /= 2 } else { unit_shift += 1 }
    }
}

#[cfg(test)]
mod tests {
    use leno_model::snapshot::{BalancePolicy, Balancing};

    use super::super::suite::{members, moved_keys};
    use super::*;

    #[test]
    fn a_member_that_goes_moves_its_own_keys_alone_however_few_there_are() {
        for count in [2, 3, 10, 100] {
            let (of_others, of_its_own) = moved_keys(BalancePolicy::RingHash, count);
            assert_eq!((of_others, of_its_own), (0.0, 1.0), "{count} members");
        }
    }

    #[test]
    fn a_ring_is_bounded_whatever_weights_ask_for() {
        let heavy: Vec<u64> = (0..1000).map(|n| if n == 0 { 1 } else { 1_000_000 }).collect();
        let counts = point_counts(&heavy);
        assert!(counts.iter().sum::<u64>() <= POINTS_MAX && counts[0] == 1 && counts[1] > 100, "{}", counts[1]);
        assert!(point_counts(&[u64::from(u32::MAX), 1]).iter().sum::<u64>() <= POINTS_MAX);
        assert!(point_counts(&vec![7; POINTS_MAX as usize + 1]).iter().all(|count| *count == 1));
        assert!(point_counts(&[]).is_empty());
    }

    #[test]
    fn points_are_as_the_weights_and_do_not_depend_on_the_others() {
        assert_eq!(point_counts(&[100, 100, 100]), [800; 3]);
        assert_eq!(point_counts(&[100, 300]), [800, 2400]);
        assert_eq!(point_counts(&[1; 512]), [POINTS_EACH; 512]);
        assert_eq!(point_counts(&[1; 513]), [POINTS_EACH / 2; 513]);
    }

    #[test]
    fn the_second_choice_of_a_key_is_always_the_same_and_another_one() {
        let set = Set::of(members(&[1; 5]).iter().enumerate(), &Balancing::default());
        let ring = RingHash::new(&set);
        let mut random = super::super::suite::seeded(3);
        for key in 0..200 {
            let hash = Some(mix(key, 9));
            let mut pick = |excluded: &[usize]| {
                let mut ask = Ask { now: std::time::Duration::ZERO, random: &mut random, hash, excluded };
                ring.pick(&set, &mut ask).unwrap()
            };
            let first = pick(&[]);
            let second = pick(&[first]);
            assert!(second != first && second == pick(&[first]));
        }
    }
}
