//! Best available (Ribbon's `BestAvailableRule`): of all members the one with the fewest open requests for its weight.
//!
//! Least request looks at two; this one walks over all of them for each pick, so that nobody is picked who has more than
//! another. Of those that are equal one is drawn by weight. Ribbon takes the first, so that callers who have nothing open
//! all ask the same one.

use super::{Ask, Balance, Set};

/// Looks at open requests only.
#[derive(Debug, Clone, Copy, Default)]
pub struct BestAvailable;

impl Balance for BestAvailable {
    fn pick(&self, set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
        for _ in 0..set.draws_max(ask.now) {
            let best = best(set, ask)?;
            if set.takes(best, ask) {
                return Some(best);
            }
        }
        best(set, ask)
    }
}

/// One walk, so that all are compared by what they have open at one look, whatever other workers do meanwhile.
fn best(set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
    let (mut best, mut least, mut weights) = (None, f32::INFINITY, 0);
    for (number, slot) in set.slots.iter().enumerate() {
        if set.is_excluded(number, ask) {
            continue;
        }
        let (cost, weight) = (set.occupancy(slot, ask.now), u64::from(slot.weight));
        if cost < least {
            (best, least, weights) = (Some(number), cost, weight);
        } else if cost == least {
            weights += weight;
            if ask.random.below(weights) < weight {
                best = Some(number);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use leno_model::snapshot::BalancePolicy;

    use super::super::suite::{members, seeded};
    use super::super::{Ask, Picker};

    #[test]
    fn nobody_is_picked_who_has_more_open_than_another() {
        let members = members(&[1; 12]);
        let (picker, mut random) = (Picker::new(BalancePolicy::BestAvailable, &members, 1), seeded(5));
        let mut open = Vec::new();
        for n in 0..1_000 {
            let mut ask = Ask { now: Duration::ZERO, random: &mut random, hash: None, excluded: &[] };
            let picked = picker.pick(&mut ask).unwrap();
            let counts = members.iter().map(|member| member.load.open_requests());
            assert_eq!(Some(members[picked].load.open_requests()), counts.min());
            open.push(members[picked].load.open());
            if n % 3 > 0 {
                open.swap_remove(n * 7 % open.len());
            }
        }
    }
}
