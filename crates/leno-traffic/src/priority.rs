//! How requests are shared among priorities, by how many of each are able to take them: Envoy's arithmetic.
//!
//! A priority that has 72 of 100 members or more is as good as whole: there are [`OVERPROVISIONING`] as many as are needed.
//! Below, what it cannot carry goes to the next. Where all of them together cannot carry everything, each that has less
//! than the panic threshold is used as if all its members were able; where that is so of all, members count alone.

/// Percentage of the members that are needed which are taken to be there.
const OVERPROVISIONING: u64 = 140;

/// The most priorities; those beyond count as the last.
pub const PRIORITIES_MAX: usize = 8;

/// The members of a priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crew {
    /// How many there are.
    pub members: u32,
    /// How many of them can take requests.
    pub able: u32,
}

/// Who gets what. A word, so that it changes as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Percentages whose sum is 100.
    shares: [u8; PRIORITIES_MAX],
    /// A bit for each priority whose members are used whether they are able or not.
    panics: u8,
}

// === impl Crew ===

impl Crew {
    /// Percentage of what it is meant for that it can carry.
    pub fn availability(self) -> u8 {
        let able = OVERPROVISIONING * u64::from(self.able);
        able.checked_div(self.members.into()).map_or(0, |percent| percent.min(100) as u8)
    }

    fn is_below(self, threshold: u32) -> bool {
        u64::from(self.able) * 100 < u64::from(threshold) * u64::from(self.members)
    }
}

// === impl Split ===

impl Split {
    /// Everything to the first.
    pub const FIRST: Self = Self { shares: [100, 0, 0, 0, 0, 0, 0, 0], panics: 0 };

    /// Shares among priorities, the first of which comes first. At most [`PRIORITIES_MAX`].
    pub fn new(crews: &[Crew], panic_threshold: u32) -> Self {
        let total: u64 = crews.iter().map(|crew| u64::from(crew.availability())).sum();
        let total = total.min(100);
        let mut split = Self { shares: [0; PRIORITIES_MAX], panics: 0 };
        if total == 100 {
            split.spread(crews, |crew| u64::from(crew.availability()), total);
            return split;
        }
        for (at, crew) in crews.iter().enumerate() {
            split.panics |= u8::from(crew.is_below(panic_threshold)) << at;
        }
        let members: u64 = crews.iter().map(|crew| u64::from(crew.members)).sum();
        let all_panic = crews.iter().enumerate().all(|(at, crew)| crew.members == 0 || split.panics(at));
        if all_panic && members > 0 {
            split.spread(crews, |crew| u64::from(crew.members), members);
        } else if total > 0 {
            split.spread(crews, |crew| u64::from(crew.availability()), total);
        } else {
            return Self::FIRST;
        }
        split
    }

    /// The share of a priority, in percent.
    pub fn share(self, priority: usize) -> u8 {
        self.shares[priority]
    }

    /// Whether all members of a priority are used, able or not.
    pub fn panics(self, priority: usize) -> bool {
        self.panics >> priority & 1 == 1
    }

    /// The priority for a number that is as good as random.
    pub fn draw(self, bits: impl FnOnce() -> u64) -> usize {
        if self.shares[0] == 100 {
            return 0;
        }
        let mut left = (bits() % 100) as u8;
        for (priority, share) in self.shares.into_iter().enumerate() {
            match left.checked_sub(share) {
                Some(rest) => left = rest,
                None => return priority,
            }
        }
        0
    }

    /// As a word.
    pub(crate) fn pack(self) -> u64 {
        let shares = self.shares.into_iter().rev().fold(0, |word, share| word << 7 | u64::from(share));
        shares << 8 | u64::from(self.panics)
    }

    /// Of such a word.
    pub(crate) fn unpack(word: u64) -> Self {
        let mut shares = [0; PRIORITIES_MAX];
        for (priority, share) in shares.iter_mut().enumerate() {
            *share = (word >> (8 + 7 * priority) & 0x7f) as u8;
        }
        Self { shares, panics: word as u8 }
    }

    /// Gives each what it is worth while there is something left, and what rounding leaves to the first that got any.
    fn spread(&mut self, crews: &[Crew], worth: impl Fn(Crew) -> u64, total: u64) {
        let mut left = 100;
        for (share, crew) in self.shares.iter_mut().zip(crews) {
            *share = left.min(worth(*crew) * 100 / total) as u8;
            left -= u64::from(*share);
        }
        let first = self.shares.iter_mut().zip(crews).find(|(_, crew)| worth(**crew) > 0);
        first.into_iter().for_each(|(share, _)| *share += left as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shares and panics of priorities with so many members, of whom so many are able.
    fn split(crews: &[(u32, u32)], threshold: u32) -> (Vec<u8>, Vec<bool>) {
        let crews: Vec<Crew> = crews.iter().map(|(members, able)| Crew { members: *members, able: *able }).collect();
        let split = Split::new(&crews, threshold);
        assert_eq!(split.shares.iter().map(|share| u32::from(*share)).sum::<u32>(), 100, "{crews:?}");
        assert_eq!(Split::unpack(split.pack()), split);
        let of = 0..crews.len();
        (of.clone().map(|at| split.share(at)).collect(), of.map(|at| split.panics(at)).collect())
    }

    #[test]
    fn the_first_priority_keeps_everything_until_less_than_72_of_100_are_able() {
        for able in [100, 80, 72] {
            assert_eq!(split(&[(100, able), (100, 100)], 0).0, [100, 0]);
        }
        assert_eq!(split(&[(100, 71), (100, 100)], 0).0, [99, 1]);
        assert_eq!(split(&[(100, 50), (100, 100)], 0).0, [70, 30]);
        assert_eq!(split(&[(100, 0), (100, 100)], 0).0, [0, 100]);
        assert_eq!(split(&[(100, 0), (0, 0), (100, 20), (100, 100)], 0).0, [0, 0, 28, 72]);
    }

    #[test]
    fn what_all_together_cannot_carry_is_shared_as_they_can() {
        // Envoy's documentation: 25 % of each of two.
        assert_eq!(split(&[(100, 25), (100, 25)], 0).0, [50, 50]);
        assert_eq!(split(&[(100, 5), (100, 65)], 0).0, [8, 92]);
    }

    #[test]
    fn nobody_panics_while_others_can_carry_it() {
        assert_eq!(split(&[(100, 30), (100, 100)], 50).1, [false, false]);
        assert_eq!(split(&[(100, 72)], 100).1, [false]);
    }

    #[test]
    fn whoever_has_less_than_the_threshold_panics_when_it_is_too_little_for_all() {
        assert_eq!(split(&[(100, 49)], 50), (vec![100], vec![true]));
        assert_eq!(split(&[(100, 50)], 50), (vec![100], vec![false]));
        assert_eq!(split(&[(100, 10), (100, 55)], 50), (vec![16, 84], vec![true, false]));
    }

    #[test]
    fn when_all_panic_members_count() {
        assert_eq!(split(&[(30, 3), (10, 1)], 50), (vec![75, 25], vec![true, true]));
        assert_eq!(split(&[(0, 0), (10, 0), (10, 0)], 50).0, [0, 50, 50]);
    }

    #[test]
    fn without_a_threshold_nobody_panics_and_the_first_gets_what_nobody_can_take() {
        assert_eq!(split(&[(10, 0), (10, 0)], 0), (vec![100, 0], vec![false, false]));
        assert_eq!(split(&[], 50), (vec![], vec![]));
    }

    #[test]
    fn priorities_are_drawn_by_their_shares() {
        let split = Split::new(&[Crew { members: 100, able: 50 }, Crew { members: 100, able: 100 }], 0);
        let drawn: Vec<usize> = (0..100).map(|bits| split.draw(|| bits)).collect();
        assert_eq!(drawn.iter().filter(|priority| **priority == 1).count(), 30);
    }
}
