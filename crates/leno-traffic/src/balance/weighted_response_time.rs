//! Weighted response time (Ribbon's `WeightedResponseTimeRule`): in turn, the less often the slower a member answers.
//!
//! A member's share is what the mean response times of all come to, less its own; times its weight. They are found anew every
//! 30 s. A mean is that of all answers since the proxy knows the member, as Ribbon's is: it forgets nothing, so that who was
//! slow for long is for long seldom asked. (Peak EWMA forgets, and sees within a request what this sees in half a minute.)
//! Ribbon draws at random; here shares are the same, in turn. Before anybody has answered it is round robin, as with Ribbon.

use std::time::Duration;

use super::strides::Strides;
use super::{Ask, Balance, Set, Slot};

/// Ribbon's `ServerWeightTaskTimerInterval`.
const EVERY: Duration = Duration::from_secs(30);

/// Less than this, in milliseconds, is no share to go by, as with Ribbon.
const LEAST_MS: f64 = 0.001;

/// By mean response times, in turn.
#[derive(Debug)]
pub struct WeightedResponseTime(Strides);

// === impl WeightedResponseTime ===

impl WeightedResponseTime {
    /// Begins somewhere.
    pub fn new(set: &Set, seed: u64) -> Self {
        Self(Strides::new(set, seed))
    }

    #[cold]
    fn find(&self, set: &Set) {
        let mean_ms = |slot: &Slot| slot.load.mean().map_or(0.0, |mean| mean.as_secs_f64() * 1e3);
        let total: f64 = set.slots.iter().map(mean_ms).sum();
        let share = |slot: &Slot| (total - mean_ms(slot)).max(0.0) * f64::from(slot.weight);
        match set.slots.iter().map(share).sum::<f64>() < LEAST_MS {
            true => self.0.clear(),
            false => self.0.set(set, |slot| share(slot) as f32),
        }
    }
}

impl Balance for WeightedResponseTime {
    fn pick(&self, set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
        if self.0.is_due(ask.now, EVERY) {
            self.find(set);
        }
        self.0.pick(set, ask)
    }
}

#[cfg(test)]
mod tests {
    use leno_model::snapshot::BalancePolicy;

    use super::super::suite::{members, seeded};
    use super::super::{Member, Picker};
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn counts(picker: &Picker, count: usize, now: Duration, picks: u32) -> Vec<u32> {
        let (mut random, mut counts) = (seeded(11), vec![0; count]);
        for _ in 0..picks {
            let mut ask = Ask { now, random: &mut random, hash: None, excluded: &[] };
            counts[picker.pick(&mut ask).unwrap()] += 1;
        }
        counts
    }

    fn answer(members: &[Member], times: &[&[u64]]) {
        let ms = |(member, times): (&Member, &&[u64])| {
            times.iter().for_each(|ms| member.load.time(Duration::from_millis(*ms)));
        };
        members.iter().zip(times).for_each(ms);
    }

    /// Nearly so many each: a count begins and ends anywhere.
    fn is(counts: &[u32], wanted: [u32; 3]) -> bool {
        counts.iter().zip(wanted).all(|(got, wanted)| got.abs_diff(wanted) <= 3)
    }

    #[test]
    fn a_share_is_what_all_take_less_its_own_from_every_half_minute_on() {
        let members = members(&[1, 1, 1]);
        let picker = Picker::new(BalancePolicy::WeightedResponseTime, &members, 5);
        assert!(is(&counts(&picker, 3, S(1), 900), [300, 300, 300]), "nobody has answered");
        answer(&members, &[&[10, 30], &[30], &[50]]);
        assert!(is(&counts(&picker, 3, S(30), 900), [300, 300, 300]), "of 30 s");
        assert!(is(&counts(&picker, 3, S(31), 1_000), [400, 350, 250]), "80, 70 and 50 of 200");
        answer(&members, &[&[160], &[], &[]]);
        assert!(is(&counts(&picker, 3, S(61), 8_800), [2_400, 3_500, 2_900]), "80, 117 and 97 of 293");
    }

    #[test]
    fn who_has_not_answered_counts_as_the_fastest_and_one_alone_gets_all() {
        let members = members(&[1, 1, 2]);
        answer(&members, &[&[20], &[20], &[]]);
        let picker = Picker::new(BalancePolicy::WeightedResponseTime, &members, 5);
        assert!(is(&counts(&picker, 3, S(1), 1_200), [200, 200, 800]), "20, 20 and 40 times 2");
        let alone = Picker::new(BalancePolicy::WeightedResponseTime, &members[..1], 5);
        assert_eq!(counts(&alone, 1, S(1), 100), [100]);
    }
}
