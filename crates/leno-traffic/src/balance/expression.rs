//! A policy of one's own: by what an expression of CEL says of each member (`leno_model::expression`).
//!
//! ```text
//! cost    two members drawn by weight, or all: the cheaper one        evaluated by each pick, for those that it compares
//! weight  shares of requests, in turn                                 evaluated once a second, by whoever picks then
//! ```
//!
//! What is no number is dearer than everything else, and no share; what is below 0 is no share either. Where one share is
//! infinite the others are none, and where there is none at all, members go by their weights. A member without a program costs
//! what [`super::LeastRequest`] compares.
//!
//! Turns by shares that change: places on a line as long as all shares, walked by the golden ratio, so that whatever the shares
//! are, a stretch of turns has nearly as many of each as it should (a Weyl sequence). [`super::strides`] looks at more turns the
//! less equal shares are, and cannot give nothing to anybody; a draw at random is as often wrong as the root of its count.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use leno_model::expression::{Now, Reported};
use leno_model::snapshot::Gives;

use super::{Ask, Balance, Set, Slot};
use crate::load::stamp;
use crate::window::millis;

/// The second of two has to cost less by this share of what the first does: latencies that fade by a hair must not undo what
/// was drawn by weight.
const MARGIN: f64 = 0.2;

/// Shares are found anew so often.
const EVERY: Duration = Duration::from_secs(1);

/// The greatest share, as a length on the line.
const LENGTH: f64 = (1_u64 << 32) as f64;

/// Of a turn, which is 2^64 long.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// By an expression.
#[derive(Debug)]
pub enum Expression {
    /// The cheaper one of two.
    Two,
    /// The cheapest one.
    All,
    /// By shares.
    Shares(Shares),
}

/// Places on a line.
#[derive(Debug)]
pub struct Shares {
    /// Where the place of each slot ends; all 0 where there are no shares.
    ends: Box<[AtomicU64]>,
    turn: AtomicU64,
    /// When they were found, in milliseconds and one more.
    found: AtomicU64,
}

// === impl Expression ===

impl Expression {
    /// Makes it as the set says.
    pub fn new(set: &Set, seed: u64) -> Self {
        match set.gives {
            None | Some(Gives::Cost) => Self::Two,
            Some(Gives::CostOfAll) => Self::All,
            Some(Gives::Weight) => {
                let ends = set.slots.iter().map(|_| AtomicU64::new(0)).collect();
                Self::Shares(Shares { ends, turn: AtomicU64::new(seed), found: AtomicU64::new(0) })
            }
        }
    }
}

impl Balance for Expression {
    fn pick(&self, set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
        match self {
            Self::Two => two(set, ask),
            Self::All => {
                for _ in 0..set.draws_max(ask.now) {
                    let cheapest = cheapest(set, ask)?;
                    if set.takes(cheapest, ask) {
                        return Some(cheapest);
                    }
                }
                cheapest(set, ask)
            }
            Self::Shares(shares) => shares.pick(set, ask),
        }
    }
}

fn two(set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
    let first = set.draw(ask, None)?;
    if set.slots.len() == 1 {
        return Some(first);
    }
    let Some(second) = set.draw(ask, Some(first)) else { return Some(first) };
    let cost = |slot: usize| cost(set, &set.slots[slot], ask.now);
    Some(if is_cheaper(cost(second), cost(first)) { second } else { first })
}

fn is_cheaper(second: f64, first: f64) -> bool {
    second < first && (first.is_infinite() || second < first - MARGIN * first.abs())
}

/// One walk; of those that cost the same one is drawn by weight.
fn cheapest(set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
    let (mut best, mut least, mut weights) = (None, f64::INFINITY, 0);
    for (number, slot) in set.slots.iter().enumerate() {
        if set.is_excluded(number, ask) {
            continue;
        }
        let (cost, weight) = (cost(set, slot, ask.now), u64::from(slot.weight));
        if cost < least || best.is_none() {
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

fn cost(set: &Set, slot: &Slot, now: Duration) -> f64 {
    let cost = value(set, slot, now);
    if cost.is_nan() { f64::INFINITY } else { cost }
}

/// What the expression says of a slot now.
pub(super) fn value(set: &Set, slot: &Slot, now: Duration) -> f64 {
    let open = slot.load.open_requests();
    let occupancy = f64::from(set.occupancy(slot, now));
    let Some(program) = &slot.program else { return occupancy };
    let reported = |last: crate::reported::Report| Reported {
        utilization: last.utilization.into(),
        requests_per_second: last.rate.into(),
        errors_per_second: last.errors.into(),
    };
    let heeded = set.heeds_reports.then(|| slot.load.reported(now, &set.load_reports)).flatten();
    program.run(&Now {
        open_requests: open.into(),
        occupancy,
        latency_ms: f64::from(slot.load.expected_ns(stamp(now), open)) / 1e6,
        reported: heeded.filter(|last| last.weight.is_some()).map(|last| reported(last.report)),
    })
}

// === impl Shares ===

impl Shares {
    fn pick(&self, set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
        let (now_ms, found) = (millis(ask.now) + 1, self.found.load(Relaxed));
        let is_due = found == 0 || now_ms >= found.saturating_add(millis(EVERY));
        if is_due && self.found.compare_exchange(found, now_ms, Relaxed, Relaxed).is_ok() {
            self.find(set, ask.now);
        }
        for _ in 0..set.draws_max(ask.now) {
            let slot = self.next(set);
            if set.takes(slot, ask) {
                return Some(slot);
            }
        }
        self.walk(set, ask).or_else(|| set.walk(ask, None))
    }

    #[cold]
    fn find(&self, set: &Set, now: Duration) {
        let value = |slot: &Slot| match &slot.program {
            Some(_) => value(set, slot, now),
            None => slot.weight.into(),
        };
        let values: Vec<f64> = set.slots.iter().map(value).collect();
        let is_infinite = values.contains(&f64::INFINITY);
        let share = |value: f64| match is_infinite {
            true => f64::from(u8::from(value == f64::INFINITY)),
            false if value > 0.0 => value,
            false => 0.0,
        };
        let most = values.iter().map(|value| share(*value)).fold(f64::MIN_POSITIVE, f64::max);
        let by_weight = values.iter().all(|value| share(*value) == 0.0);
        let most = if by_weight { set.slots.iter().map(|slot| slot.weight.into()).fold(1.0, f64::max) } else { most };
        let mut end = 0;
        for ((place, slot), value) in self.ends.iter().zip(&set.slots).zip(&values) {
            let share = if by_weight { slot.weight.into() } else { share(*value) };
            end += if share > 0.0 { (share / most * LENGTH).max(1.0) as u64 } else { 0 };
            place.store(end, Relaxed);
        }
    }

    fn next(&self, set: &Set) -> usize {
        let turn = self.turn.fetch_add(1, Relaxed).wrapping_mul(GOLDEN);
        let length = self.ends.last().map_or(0, |end| end.load(Relaxed));
        let at = ((u128::from(turn) * u128::from(length)) >> 64) as u64;
        // While somebody else finds them anew a place may be that of another slot.
        self.ends.partition_point(|end| end.load(Relaxed) <= at).min(set.slots.len().saturating_sub(1))
    }

    /// The next who has a share and is not excluded, from somewhere on.
    fn walk(&self, set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
        let from = self.next(set);
        let has_share = |slot: usize| {
            let end = |slot: usize| self.ends[slot].load(Relaxed);
            end(slot) > slot.checked_sub(1).map_or(0, end)
        };
        let mut slots = (from..set.slots.len()).chain(0..from);
        slots.find(|slot| has_share(*slot) && !set.is_excluded(*slot, ask))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use leno_model::expression::{self, Facts};
    use leno_model::snapshot::{self, BalancePolicy, Balancing};

    use super::super::suite::{members, seeded};
    use super::super::{Member, Picker};
    use super::*;
    use crate::load::Outcome;
    use crate::reported::Report;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn picker(gives: Gives, text: &str, members: &mut [Member]) -> Picker {
        let read = expression::Expression::read(text).unwrap();
        for member in members.iter_mut() {
            member.program = Some(Arc::new(read.resolve(member.weight, &Facts::default(), &Facts::default())));
        }
        let expression = Some(snapshot::Expression { gives, text: text.into() });
        let balancing = Balancing { expression, ..Balancing::default() };
        Picker::tuned(BalancePolicy::Expression, &balancing, members, 5)
    }

    fn counts(picker: &Picker, count: usize, from: Duration, picks: u32) -> Vec<u32> {
        let (mut random, mut counts) = (seeded(11), vec![0; count]);
        for n in 0..picks {
            let now = from + Duration::from_millis(n.into()) / 10;
            let mut ask = Ask { now, random: &mut random, hash: None, excluded: &[] };
            counts[picker.pick(&mut ask).unwrap()] += 1;
        }
        counts
    }

    /// Members of which each has as many requests open as stands there.
    fn busy(open: &[usize]) -> (Vec<Member>, Vec<crate::Open>) {
        let members = members(&vec![1; open.len()]);
        let open = members.iter().zip(open).flat_map(|(member, open)| (0..*open).map(|_| member.load.open()));
        let open = open.collect();
        (members, open)
    }

    #[test]
    fn the_cheapest_of_all_takes_everything_and_the_cheaper_of_two_nearly_so() {
        let (mut of_all, _open) = busy(&[5, 1, 3, 4]);
        let all = picker(Gives::CostOfAll, "openRequests", &mut of_all);
        assert_eq!(counts(&all, 4, S(0), 100), [0, 100, 0, 0]);
        let two = picker(Gives::Cost, "-openRequests", &mut of_all);
        let by_two = counts(&two, 4, S(0), 6_000);
        assert!(by_two[1] == 0 && by_two[0].abs_diff(3_000) < 300, "the busiest in every second pair: {by_two:?}");
    }

    #[test]
    fn what_is_no_number_is_dearer_than_everything_and_taken_where_there_is_nothing_else() {
        let (mut some, _open) = busy(&[0, 1, 2]);
        let text = "openRequests == 1.0 ? 0.0 / 0.0 : openRequests == 0.0 ? 1.0 / 0.0 : 1e300";
        for gives in [Gives::Cost, Gives::CostOfAll] {
            let got = counts(&picker(gives, text, &mut some), 3, S(0), 900);
            assert!(got[2] >= 300, "{gives:?}: {got:?}");
            let got = counts(&picker(gives, "0.0 / 0.0", &mut some), 3, S(0), 900);
            assert!(got.iter().all(|count| (150..450).contains(count)), "{gives:?}: {got:?}");
        }
    }

    #[test]
    fn shares_are_as_the_expression_says_in_any_stretch_and_found_anew_every_second() {
        let (mut some, open) = busy(&[1, 2, 0, 5]);
        let by_weight = picker(Gives::Weight, "openRequests", &mut some);
        for from in [0, 1, 2] {
            let got = counts(&by_weight, 4, S(from), 800);
            let wanted = [100_u32, 200, 0, 500];
            assert!(got[2] == 0 && got.iter().zip(wanted).all(|(got, wanted)| got.abs_diff(wanted) <= 3), "{got:?}");
        }
        drop(open);
        let _open = some[2].load.open();
        assert!(counts(&by_weight, 4, S(2) + Duration::from_millis(900), 10)[2] == 0, "of this second");
        assert_eq!(counts(&by_weight, 4, S(4), 100), [0, 0, 100, 0]);
    }

    #[test]
    fn what_is_no_share_gets_nothing_and_where_there_is_none_all_go_by_weight() {
        let (mut some, _open) = busy(&[0, 1, 2, 3]);
        let text = |of: &str| format!("openRequests == 0.0 ? 0.0 / 0.0 : openRequests == 1.0 ? -5.0 : {of}");
        let got = counts(&picker(Gives::Weight, &text("openRequests"), &mut some), 4, S(0), 500);
        assert!(got[..2] == [0, 0] && got[2].abs_diff(200) <= 3, "{got:?}");
        let text = text("openRequests == 2.0 ? 1.0 / 0.0 : 7.0");
        assert_eq!(counts(&picker(Gives::Weight, &text, &mut some), 4, S(0), 100), [0, 0, 100, 0]);
        let mut unequal = members(&[1, 3]);
        let got = counts(&picker(Gives::Weight, "0.0", &mut unequal), 2, S(0), 400);
        assert!(got[0].abs_diff(100) <= 3, "{got:?}");
    }

    #[test]
    fn latency_and_reports_are_what_an_endpoint_shows() {
        let mut some = members(&[1, 1]);
        for (member, (ms, utilization)) in some.iter().zip([(10, 0.9), (30, 0.2)]) {
            member.load.observe(S(1), Duration::from_millis(ms), Outcome::Answered);
            member.load.report(S(1), Report { rate: 50.0, errors: 0.0, utilization });
        }
        let faster = picker(Gives::CostOfAll, "latencyMs", &mut some);
        assert_eq!(counts(&faster, 2, S(2), 10), [10, 0]);
        let text = "has(reported.utilization) ? reported.utilization : 2.0 - latencyMs";
        let idler = picker(Gives::CostOfAll, text, &mut some);
        assert_eq!(counts(&idler, 2, S(2), 10), [0, 10], "the first 10 s say nothing: by latency, the slower one");
        assert_eq!(counts(&idler, 2, S(20), 10), [0, 10]);
        let busier = picker(Gives::CostOfAll, "1.0 - reported.utilization", &mut some);
        assert_eq!(counts(&busier, 2, S(20), 10), [10, 0]);
    }
}
