//! Weighted round robin by the load that endpoints report (gRPC's A58, Envoy's `client_side_weighted_round_robin`): each gets
//! requests as it could serve them, so that all are equally busy.
//!
//! They stand in turn, and take a part of their turns. Whoever picks when the parts are older than the update period finds them
//! anew, by one walk; a pick looks at fewer turns than [`RATIO_MAX`] on average.
//!
//! Who does not report has the mean of those who do, times its weight beside the mean of all. Where nobody reports it is round
//! robin by weight. Rejected: weights times reports, by which an endpoint on a larger machine has that counted twice.

use std::time::Duration;

use leno_model::snapshot::LoadReports;

use super::strides::Strides;
use super::{Ask, Balance, Set, Slot};

/// The most and the least that one may have beside the mean, as gRPC has it: who reports nonsense gets little, or not all.
const RATIO_MAX: f32 = 10.0;
const RATIO_MIN: f32 = 0.01;

/// By reported load, in turn.
#[derive(Debug)]
pub struct WeightedRoundRobin {
    strides: Strides,
    terms: LoadReports,
}

// === impl WeightedRoundRobin ===

impl WeightedRoundRobin {
    /// Begins somewhere.
    pub fn new(set: &Set, seed: u64) -> Self {
        Self { strides: Strides::new(set, seed), terms: set.load_reports }
    }

    #[cold]
    fn find(&self, set: &Set, now: Duration) {
        let reported = |slot: &Slot| slot.load.reported_weight(now, &self.terms);
        let weights = set.slots.iter().filter_map(reported);
        let (sum, count) = weights.fold((0.0, 0), |(sum, count), weight| (sum + weight, count + 1));
        if count == 0 {
            return self.strides.clear();
        }
        let mean = sum / count as f32;
        self.strides.set(set, |slot| {
            let beside_mean = reported(slot).map_or(slot.weight as f32 / set.mean_weight, |weight| weight / mean);
            beside_mean.clamp(RATIO_MIN, RATIO_MAX)
        });
    }
}

impl Balance for WeightedRoundRobin {
    fn pick(&self, set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
        if self.strides.is_due(ask.now, self.terms.update) {
            self.find(set, ask.now);
        }
        self.strides.pick(set, ask)
    }
}

#[cfg(test)]
mod tests {
    use leno_model::snapshot::{BalancePolicy, Balancing};

    use super::super::suite::{members, seeded};
    use super::super::{Member, Picker};
    use super::*;
    use crate::reported::Report;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn picker(members: &[Member], terms: LoadReports) -> Picker {
        let balancing = Balancing { load_reports: Some(terms), ..Balancing::default() };
        Picker::tuned(BalancePolicy::WeightedRoundRobin, &balancing, members, 5)
    }

    /// How many of so many picks each gets, from a time on, a millisecond apart.
    fn counts(picker: &Picker, count: usize, from: Duration, picks: u32) -> Vec<u32> {
        let (mut random, mut counts) = (seeded(11), vec![0; count]);
        for n in 0..picks {
            let now = from + Duration::from_millis(n.into());
            let mut ask = Ask { now, random: &mut random, hash: None, excluded: &[] };
            counts[picker.pick(&mut ask).unwrap()] += 1;
        }
        counts
    }

    fn report(member: &Member, now: Duration, utilization: f32) {
        let report = Report { rate: 100.0, errors: 0.0, utilization };
        member.load.report(now, report);
    }

    fn at_once() -> LoadReports {
        LoadReports { blackout: Duration::ZERO, ..LoadReports::DEFAULT }
    }

    #[test]
    fn who_reports_twice_the_utilization_gets_half_the_requests() {
        let members = members(&[1, 1, 1, 1]);
        let picker = picker(&members, at_once());
        [0.8, 0.4, 0.4, 0.2].iter().zip(&members).for_each(|(part, member)| report(member, S(1), *part));
        let counts = counts(&picker, 4, S(1), 18_000);
        assert_eq!(counts, [2_000, 4_000, 4_000, 8_000]);
    }

    #[test]
    fn shares_follow_reports_within_a_second_and_are_equal_before_the_first_and_after_the_last() {
        let members = members(&[1, 1]);
        let picker = picker(&members, LoadReports { expiration: S(60), ..LoadReports::DEFAULT });
        assert_eq!(counts(&picker, 2, S(1), 900), [450, 450]);
        (10..=30).for_each(|at| [0.9, 0.3].iter().zip(&members).for_each(|(part, of)| report(of, S(at), *part)));
        assert_eq!(counts(&picker, 2, S(15), 900), [450, 450], "they have reported for 5 s");
        assert_eq!(counts(&picker, 2, S(31), 900), [225, 675]);
        assert_eq!(counts(&picker, 2, S(95), 900), [450, 450], "nobody has for a minute");
    }

    #[test]
    fn who_reports_nothing_has_the_mean_of_the_others_and_its_weight_beside_it() {
        let members = members(&[1, 1, 1, 5]);
        let picker = picker(&members, at_once());
        [0.5, 0.25].iter().zip(&members).for_each(|(part, member)| report(member, S(1), *part));
        // 200 and 400, a mean of 300, half of it and five halves of it.
        let counts = counts(&picker, 4, S(1), 15_000);
        let wanted = [2_000, 4_000, 1_500, 7_500];
        assert!(counts.iter().zip(wanted).all(|(got, wanted)| got.abs_diff(wanted) <= 20), "{counts:?}");
    }

    #[test]
    fn who_reports_nonsense_gets_neither_everything_nor_nothing() {
        let members = members(&[1; 21]);
        let picker = picker(&members, at_once());
        members.iter().for_each(|member| report(member, S(1), 0.5));
        report(&members[20], S(1), 1e-20);
        let most = counts(&picker, 21, S(1), 30_000);
        assert!(most[20] < 30_000 * 100 / 101 && most[..20].iter().all(|count| *count > 0), "{most:?}");
        report(&members[20], S(40), 1e20);
        let least = counts(&picker, 21, S(40), 42_000);
        assert!((1..200).contains(&least[20]), "{least:?}");
    }

    #[test]
    fn what_a_pick_looks_at_is_bounded() {
        let members = members(&vec![1; 1_000]);
        let picker = picker(&members, at_once());
        members.iter().for_each(|member| report(member, S(1), 1.0));
        report(&members[7], S(1), 0.000_1);
        let counts = counts(&picker, 1_000, S(1), 40_000);
        assert!(counts.iter().all(|count| *count > 0), "{:?}", counts.iter().min());
        assert!(counts[7] > 250, "{} beside 40 on average", counts[7]);
    }
}
