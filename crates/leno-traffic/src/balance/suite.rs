//! What every policy must do, whatever else it looks at. Each test runs for all of `POLICIES`, and for expressions that say
//! the same as one of them.

use std::time::Duration;

use leno_model::expression::{self, Facts};
use leno_model::seam;
use leno_model::snapshot::{self, SlowStart};

use super::*;
use crate::load::Outcome;

/// Seeded random numbers.
pub(super) struct Seeded(fastrand::Rng);

impl seam::Random for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }
}

pub(super) fn seeded(seed: u64) -> Seeded {
    Seeded(fastrand::Rng::with_seed(seed))
}

pub(super) fn members(weights: &[u32]) -> Vec<Member> {
    let key = |n: usize| fastrand::Rng::with_seed(n as u64).u64(..);
    let member = |(n, weight): (usize, &u32)| Member::new(key(n), *weight);
    weights.iter().enumerate().map(member).collect()
}

/// A policy, with an expression where it is by one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tested {
    policy: BalancePolicy,
    expression: Option<(Gives, &'static str)>,
}

/// What is said of them by least request, peak EWMA, at random, best available and round robin.
const EXPRESSIONS: [(Gives, &str); 6] = [
    (Gives::Cost, "occupancy"),
    (Gives::Cost, "latencyMs * occupancy"),
    (Gives::Cost, "1.0"),
    (Gives::CostOfAll, "occupancy"),
    (Gives::Weight, "weight"),
    (Gives::Weight, "has(reported.utilization) ? reported.requestsPerSecond / reported.utilization : weight"),
];

impl From<BalancePolicy> for Tested {
    fn from(policy: BalancePolicy) -> Self {
        Self { policy, expression: None }
    }
}

fn for_each_policy(test: impl Fn(Tested)) {
    POLICIES.iter().for_each(|(policy, _)| test((*policy).into()));
    let policy = BalancePolicy::Expression;
    EXPRESSIONS.into_iter().for_each(|expression| test(Tested { policy, expression: Some(expression) }));
}

fn picker(policy: impl Into<Tested>, members: &[Member], seed: u64) -> Picker {
    tuned(policy, &Balancing::default(), members, seed)
}

fn tuned(policy: impl Into<Tested>, balancing: &Balancing, members: &[Member], seed: u64) -> Picker {
    let Tested { policy, expression } = policy.into();
    let Some((gives, text)) = expression else { return Picker::tuned(policy, balancing, members, seed) };
    let (read, nothing) = (expression::Expression::read(text).unwrap(), Facts::default());
    let program = |member: &Member| Some(Arc::new(read.resolve(member.weight, &nothing, &nothing)));
    let members: Vec<Member> = members.iter().map(|of| Member { program: program(of), ..of.clone() }).collect();
    let expression = Some(snapshot::Expression { gives, text: text.into() });
    Picker::tuned(policy, &Balancing { expression, ..balancing.clone() }, &members, seed)
}

/// How often each member is picked when requests come and go one after the other, each taking 5 ms.
fn counts(policy: impl Into<Tested>, members: &[Member], excluded: &[usize], picks: u32) -> Vec<u32> {
    let picker = picker(policy, members, 5);
    let mut random = seeded(11);
    let mut counts = vec![0; members.len()];
    let latency = Duration::from_millis(5);
    for n in 0..picks {
        let mut ask = Ask { now: latency * n, random: &mut random, hash: None, excluded };
        let Some(picked) = picker.pick(&mut ask) else { continue };
        counts[picked] += 1;
        members[picked].load.open().finish(latency * (n + 1), latency, Outcome::Answered);
    }
    counts
}

/// How often each member is picked when there are always `open` requests open and each member does one thing at a time.
fn counts_under_load(policy: impl Into<Tested>, weights: &[u32], open: usize, picks: usize) -> Vec<u32> {
    let servers: Vec<Server> =
        weights.iter().map(|weight| Server::new(*weight, Duration::from_millis(100) / *weight)).collect();
    simulate(policy, &servers, open, picks, 17).counts
}

fn assert_shares(counts: &[u32], weights: &[u32], tolerance: f64, what: &str) {
    let (picks, sum) = (f64::from(counts.iter().sum::<u32>()), f64::from(weights.iter().sum::<u32>()));
    for (count, weight) in counts.iter().zip(weights) {
        let (got, wanted) = (f64::from(*count) / picks, f64::from(*weight) / sum);
        assert!((got - wanted).abs() <= tolerance, "{what}: {counts:?} for {weights:?}");
    }
}

#[test]
fn equal_members_get_equal_shares() {
    for_each_policy(|policy| {
        for count in [1, 2, 3, 10, 100] {
            let weights = vec![1; count];
            let counts = counts(policy, &members(&weights), &[], 20_000);
            assert_shares(&counts, &weights, 0.02, &format!("{policy:?}"));
        }
    });
}

#[test]
fn shares_are_as_the_weights() {
    for_each_policy(|policy| {
        for weights in [&[1, 3][..], &[1, 2, 3, 4], &[10, 1, 1, 1, 1], &[100, 0, 50]] {
            let counts = counts(policy, &members(weights), &[], 20_000);
            assert_shares(&counts, weights, 0.02, &format!("{policy:?}"));
        }
    });
}

#[test]
fn shares_are_as_the_weights_under_load_too() {
    for_each_policy(|policy| {
        for weights in [&[1, 1][..], &[1, 3], &[1, 2, 3, 4]] {
            let counts = counts_under_load(policy, weights, 40, 20_000);
            assert_shares(&counts, weights, 0.06, &format!("{policy:?}"));
        }
    });
}

/// Which members keys meet that are as many as this, of a policy that hashes.
fn hashed_counts(policy: impl Into<Tested>, members: &[Member], keys: u32) -> Vec<u32> {
    let picker = picker(policy, members, 5);
    let mut random = seeded(13);
    let mut counts = vec![0; members.len()];
    for _ in 0..keys {
        let hash = Some(seam::Random::next_u64(&mut random));
        let mut ask = Ask { now: Duration::ZERO, random: &mut random, hash, excluded: &[] };
        counts[picker.pick(&mut ask).unwrap()] += 1;
    }
    counts
}

#[test]
fn keys_are_shared_as_the_weights() {
    for (policy, tolerance) in [(BalancePolicy::RingHash, 0.04), (BalancePolicy::Maglev, 0.01)] {
        for weights in [&[1][..], &[100; 3], &[1; 10], &[1, 3], &[100, 200, 300, 400], &[10, 1, 1, 1, 1], &[100, 0, 50]]
        {
            let counts = hashed_counts(policy, &members(weights), 40_000);
            assert_shares(&counts, weights, tolerance, &format!("{policy:?}"));
        }
    }
}

#[test]
fn the_busiest_of_many_has_not_much_more_keys_than_the_average() {
    for (policy, skew) in [(BalancePolicy::RingHash, 1.20), (BalancePolicy::Maglev, 1.10)] {
        let counts = hashed_counts(policy, &members(&[100; 50]), 200_000);
        let most = f64::from(counts.iter().copied().max().unwrap()) / (200_000.0 / 50.0);
        assert!(most < skew, "{policy:?}: {most}");
    }
}

#[test]
fn a_weight_of_zero_takes_nothing() {
    for_each_policy(|policy| {
        assert_eq!(counts(policy, &members(&[0, 1, 0]), &[], 100), [0, 100, 0], "{policy:?}");
        assert_eq!(counts(policy, &members(&[0, 0]), &[], 100), [0, 0], "{policy:?}");
        assert_eq!(counts(policy, &members(&[0, 1]), &[1], 100), [0, 0], "{policy:?}");
    });
}

#[test]
fn a_member_that_was_removed_takes_nothing_and_the_rest_share_it() {
    for_each_policy(|policy| {
        let mut members = members(&[1, 1, 1, 1]);
        members[2].eligible = false;
        let counts = counts(policy, &members, &[], 20_000);
        assert_shares(&counts, &[1, 1, 0, 1], 0.02, &format!("{policy:?}"));
    });
}

#[test]
fn nobody_is_picked_when_nobody_is_eligible() {
    for_each_policy(|policy| {
        let mut one = members(&[1]);
        one[0].eligible = false;
        assert_eq!(counts(policy, &one, &[], 10), [0], "{policy:?}");
        assert!(counts(policy, &[], &[], 10).is_empty(), "{policy:?}");
    });
}

#[test]
fn excluded_members_are_not_picked_even_if_one_is_left() {
    for_each_policy(|policy| {
        let heavy_excluded = counts(policy, &members(&[1_000_000, 1, 1_000_000]), &[0, 2], 1000);
        assert_eq!(heavy_excluded, [0, 1000, 0], "{policy:?}");
        assert_eq!(counts(policy, &members(&[1, 1]), &[1, 0], 1000), [0, 0], "{policy:?}");
    });
}

#[test]
fn pickers_with_different_seeds_start_with_different_members() {
    for_each_policy(|policy| {
        let members = members(&[1; 16]);
        let first = |seed| {
            let ask = &mut Ask { now: Duration::ZERO, random: &mut seeded(seed), hash: None, excluded: &[] };
            picker(policy, &members, seed).pick(ask).unwrap()
        };
        let firsts: std::collections::HashSet<usize> = (0..64).map(first).collect();
        assert!(firsts.len() > 8, "{policy:?}: {firsts:?}");
    });
}

/// Of so many members one goes: the share of the others' keys that move, and of its own.
pub(super) fn moved_keys(policy: BalancePolicy, count: usize) -> (f64, f64) {
    let mut members = members(&vec![100; count]);
    let before = picker(policy, &members, 1);
    members[1].eligible = false;
    let after = picker(policy, &members, 2);
    let mut random = seeded(7);
    let (mut others, mut own) = ((0, 0), (0, 0));
    for _ in 0..10_000 {
        let hash = Some(seam::Random::next_u64(&mut random));
        let mut pick = |picker: &Picker| {
            picker.pick(&mut Ask { now: Duration::ZERO, random: &mut random, hash, excluded: &[] }).unwrap()
        };
        let (was, is) = (pick(&before), pick(&after));
        assert_eq!(was, pick(&before), "a key meets the same member again");
        let keys = if was == 1 { &mut own } else { &mut others };
        *keys = (keys.0 + u32::from(was != is), keys.1 + 1);
    }
    (f64::from(others.0) / f64::from(others.1), f64::from(own.0) / f64::from(own.1))
}

// === simulation ===

/// An endpoint that works on one request at a time; others wait in its queue.
pub(super) struct Server {
    pub(super) weight: u32,
    /// How long one request takes, by the time of the simulation.
    pub(super) service: Box<dyn Fn(Duration) -> Duration>,
    pub(super) fails: bool,
}

/// What a simulation counted.
pub(super) struct Simulated {
    pub(super) counts: Vec<u32>,
    /// Who was picked when.
    pub(super) picks: Vec<(Duration, usize)>,
}

// === impl Server ===

impl Server {
    pub(super) fn new(weight: u32, service: Duration) -> Self {
        Self::varying(weight, move |_| service)
    }

    pub(super) fn varying(weight: u32, service: impl Fn(Duration) -> Duration + 'static) -> Self {
        Self { weight, service: Box::new(service), fails: false }
    }
}

/// A closed loop: `open` callers, each of which asks again as soon as it was answered. Service times vary by a factor
/// of 0.5 to 1.5.
pub(super) fn simulate(
    policy: impl Into<Tested>,
    servers: &[Server],
    open: usize,
    picks: usize,
    seed: u64,
) -> Simulated {
    let mut random = seeded(seed);
    let members = members(&servers.iter().map(|server| server.weight).collect::<Vec<_>>());
    let picker = picker(policy, &members, seed);
    let mut free_at = vec![Duration::ZERO; servers.len()];
    let mut callers = std::collections::BinaryHeap::new();
    let mut requests: Vec<Option<(usize, Duration, crate::Open)>> = (0..open).map(|_| None).collect();
    (0..open).for_each(|caller| callers.push(std::cmp::Reverse((Duration::ZERO, caller))));
    let mut out = Simulated { counts: vec![0; servers.len()], picks: Vec::with_capacity(picks) };
    while out.picks.len() < picks {
        let std::cmp::Reverse((now, caller)) = callers.pop().unwrap();
        if let Some((server, since, request)) = requests[caller].take() {
            let outcome = if servers[server].fails { Outcome::Failed } else { Outcome::Answered };
            request.finish(now, now - since, outcome);
        }
        let picked = picker.pick(&mut Ask { now, random: &mut random, hash: None, excluded: &[] }).unwrap();
        out.counts[picked] += 1;
        out.picks.push((now, picked));
        requests[caller] = Some((picked, now, members[picked].load.open()));
        let service = (servers[picked].service)(now).mul_f64(0.5 + random.0.f64());
        free_at[picked] = free_at[picked].max(now) + service;
        callers.push(std::cmp::Reverse((free_at[picked], caller)));
    }
    out
}

#[test]
fn one_that_is_out_takes_nothing_until_its_time_is_over_and_then_one_request_a_second() {
    for_each_policy(|policy| {
        let members = members(&[1, 1, 1]);
        let (picker, mut random) = (picker(policy, &members, 5).watched(true), seeded(3));
        members[1].load.put_out(Duration::from_secs(10));
        let mut picks = |from: u64, to: u64| {
            let mut counts = [0; 3];
            for ms in from..to {
                let hash = Some(random.next_u64());
                let mut ask = Ask { now: Duration::from_millis(ms), random: &mut random, hash, excluded: &[] };
                counts[picker.pick(&mut ask).expect("two are in")] += 1;
            }
            counts
        };
        let before = picks(0, 10_000);
        assert!(before[1] == 0 && before[0] > 1_000 && before[2] > 1_000, "{policy:?}: {before:?}");
        assert_eq!(picks(10_000, 13_000)[1], 3, "{policy:?}: probes");
    });
}

#[test]
fn when_all_are_out_none_is_picked() {
    for_each_policy(|policy| {
        let members = members(&[1, 2]);
        members.iter().for_each(|member| assert!(member.load.put_out(Duration::from_secs(10))));
        let (picker, mut random) = (picker(policy, &members, 5).watched(true), seeded(3));
        let mut ask = Ask { now: Duration::from_secs(1), random: &mut random, hash: Some(7), excluded: &[] };
        assert_eq!(picker.pick(&mut ask), None, "{policy:?}");
    });
}

/// How often each member is picked by requests of different keys from one time to another, one in each millisecond.
fn counts_between(picker: &Picker, members: usize, from: Duration, to: Duration) -> Vec<u32> {
    let (mut counts, mut random) = (vec![0; members], seeded(29));
    for ms in from.as_millis()..to.as_millis() {
        let (now, hash) = (Duration::from_millis(ms as u64), Some(random.next_u64()));
        let mut ask = Ask { now, random: &mut random, hash, excluded: &[] };
        counts[picker.pick(&mut ask).expect("somebody can be picked")] += 1;
    }
    counts
}

#[test]
fn one_that_is_new_comes_to_its_share_as_time_goes_by() {
    let s = Duration::from_secs;
    let slow_start = Some(SlowStart { window: s(100), aggression: 100, share_min: 10 });
    let balancing = Balancing { slow_start, ..Balancing::default() };
    for_each_policy(|policy| {
        for (new, weights) in [(vec![3], [1, 1, 1, 1]), (vec![3], [1, 2, 3, 2]), (vec![1, 3], [1, 1, 1, 1])] {
            let mut members = members(&weights);
            new.iter().for_each(|new| members[*new].since = Some(s(1000)));
            let picker = tuned(policy, &balancing, &members, 5);
            for (from, part) in [(1000, 0.1), (1050, 0.55), (1100, 1.0), (5000, 1.0)] {
                let counts = counts_between(&picker, 4, s(from), s(from + 10));
                let part = |member| if new.contains(&member) { part } else { 1.0 };
                let parts: Vec<f64> = (0..4).map(|member| f64::from(weights[member]) * part(member)).collect();
                let share = |of: f64, all: &[f64]| of / all.iter().sum::<f64>();
                let counted: Vec<f64> = counts.iter().map(|count| f64::from(*count)).collect();
                for (got, wanted) in counted.iter().zip(&parts) {
                    let (got, wanted) = (share(*got, &counted), share(*wanted, &parts));
                    assert!((got - wanted).abs() < 0.04, "{policy:?} {weights:?} {new:?} at {from}: {counts:?}");
                }
            }
        }
    });
}

#[test]
fn when_all_are_new_the_older_ones_do_not_wait_for_the_younger() {
    let s = Duration::from_secs;
    let slow_start = Some(SlowStart { window: s(100), aggression: 100, share_min: 1 });
    let balancing = Balancing { slow_start, ..Balancing::default() };
    for_each_policy(|policy| {
        let mut members = members(&[1, 1, 1]);
        for (member, since) in members.iter_mut().zip([1000, 1000, 1040]) {
            member.since = Some(s(since));
        }
        let counts = counts_between(&tuned(policy, &balancing, &members, 5), 3, s(1050), s(1060));
        let part = f64::from(counts[2]) / f64::from(counts[0] + counts[1]) * 2.0;
        assert!((0.18..0.38).contains(&part), "{policy:?}: 15 of 55 seconds: {counts:?}");
    });
}

#[test]
fn a_key_moves_to_one_that_is_new_once_and_to_nobody_else() {
    let s = Duration::from_secs;
    let slow_start = Some(SlowStart { window: s(100), aggression: 100, share_min: 10 });
    let balancing = Balancing { slow_start, ..Balancing::default() };
    for policy in [BalancePolicy::RingHash, BalancePolicy::Maglev] {
        let mut members = members(&[1; 5]);
        members[4].since = Some(s(1000));
        let (picker, mut random) = (tuned(policy, &balancing, &members, 5), seeded(3));
        let mut moved = 0;
        for key in 0..500_u64 {
            let mut met = Vec::new();
            for at in 1000..1101 {
                let mut ask = Ask { now: s(at), random: &mut random, hash: Some(mix(key, 7)), excluded: &[] };
                met.push(picker.pick(&mut ask).unwrap());
            }
            met.dedup();
            assert!(met.len() == 1 || met.len() == 2 && met[1] == 4, "{policy:?}: {met:?}");
            moved += usize::from(met.len() == 2);
        }
        assert!((40..140).contains(&moved), "{policy:?}: nine tenths of a fifth of 500: {moved}");
    }
}

#[test]
fn in_panic_all_get_requests_as_if_they_were_able_and_only_then() {
    let (s, balancing) = (Duration::from_secs, Balancing { panic_threshold: 50, ..Balancing::default() });
    for_each_policy(|policy| {
        let mut members = members(&[1, 1, 1, 1]);
        for ill in [1, 2] {
            (members[ill].eligible, members[ill].standby) = (false, true);
        }
        let calm = tuned(policy, &balancing, &members, 5);
        assert_shares(&counts_between(&calm, 4, s(0), s(10)), &[1, 0, 0, 1], 0.03, &format!("{policy:?}"));
        (members[3].eligible, members[3].standby) = (false, true);
        let panicking = tuned(policy, &balancing, &members, 5);
        assert_shares(&counts_between(&panicking, 4, s(0), s(20)), &[1; 4], 0.04, &format!("{policy:?}"));
        assert_eq!((panicking.eligible(), panicking.can_take(1, s(0))), (4, true), "{policy:?}");
        assert_eq!((calm.eligible(), calm.can_take(1, s(0))), (2, false), "{policy:?}");
    });
}

#[test]
fn panic_begins_with_an_ejection_and_ends_when_enough_are_back() {
    let (s, balancing) = (Duration::from_secs, Balancing { panic_threshold: 50, ..Balancing::default() });
    for_each_policy(|policy| {
        let members = members(&[1, 1, 1, 1]);
        let picker = tuned(policy, &balancing, &members, 5).watched(true);
        [0, 1].iter().for_each(|out: &usize| assert!(members[*out].load.put_out(s(100))));
        assert_shares(&counts_between(&picker, 4, s(1), s(11)), &[0, 0, 1, 1], 0.03, &format!("{policy:?}"));
        members[2].load.put_out(s(60));
        let before = picker.pick(&mut Ask { now: s(20), random: &mut seeded(1), hash: None, excluded: &[] });
        assert!(before.is_some());
        assert_shares(&counts_between(&picker, 4, s(20), s(40)), &[1; 4], 0.04, &format!("{policy:?}"));
        assert!(picker.seen(s(40)).all(|seen| seen.panics && seen.crew.able == 1), "{policy:?}");
        members[2].load.take_in();
        assert_shares(&counts_between(&picker, 4, s(41), s(51)), &[0, 0, 1, 1], 0.03, &format!("{policy:?}"));
    });
}

#[test]
fn without_a_threshold_those_who_are_not_able_get_nothing_even_when_nobody_is() {
    for_each_policy(|policy| {
        let mut members = members(&[1, 1]);
        members.iter_mut().for_each(|member| (member.eligible, member.standby) = (false, true));
        assert_eq!(counts(policy, &members, &[], 100), [0, 0], "{policy:?}");
    });
}

#[test]
fn a_lesser_priority_gets_what_those_before_it_cannot_take() {
    let s = Duration::from_secs;
    for_each_policy(|policy| {
        let mut members = members(&[1; 6]);
        members[3..].iter_mut().for_each(|member| member.priority = 7);
        let picker = picker(policy, &members, 5).watched(true);
        let shares = |from: u64, wanted: &[u32; 6]| {
            assert_shares(&counts_between(&picker, 6, s(from), s(from + 20)), wanted, 0.04, &format!("{policy:?}"));
        };
        shares(0, &[1, 1, 1, 0, 0, 0]);
        members[0].load.put_out(s(1000));
        // Two of three carry 93 of 100.
        shares(20, &[0, 465, 465, 23, 23, 23]);
        [1, 2].iter().for_each(|out: &usize| assert!(members[*out].load.put_out(s(1000))));
        shares(40, &[0, 0, 0, 1, 1, 1]);
        [1, 2].iter().for_each(|back: &usize| members[*back].load.take_in());
        shares(60, &[0, 465, 465, 23, 23, 23]);
    });
}

#[test]
fn whoever_was_tried_in_every_priority_is_not_picked_again() {
    for_each_policy(|policy| {
        let mut members = members(&[1, 1, 1]);
        (members[1].priority, members[2].priority) = (1, 2);
        let picker = picker(policy, &members, 5);
        let pick = |excluded: &[usize]| {
            picker.pick(&mut Ask { now: Duration::ZERO, random: &mut seeded(1), hash: Some(9), excluded })
        };
        let picks = [pick(&[]), pick(&[0]), pick(&[0, 1]), pick(&[0, 1, 2])];
        assert_eq!(picks, [Some(0), Some(1), Some(2), None], "{policy:?}");
    });
}

/// Members in localities, of which each has a share.
fn in_localities(localities: &[(u32, u32)]) -> Vec<Member> {
    let mut members = members(&vec![1; localities.len()]);
    for (member, (id, weight)) in members.iter_mut().zip(localities) {
        member.locality = Some(Locality { id: *id, weight: *weight });
    }
    members
}

#[test]
fn localities_share_as_they_are_to_however_many_members_they_have() {
    let s = Duration::from_secs;
    for_each_policy(|policy| {
        let members = in_localities(&[(1, 80), (2, 20), (2, 20), (2, 20), (3, 0)]);
        let picker = picker(policy, &members, 5);
        let counts = counts_between(&picker, 5, s(0), s(30));
        assert_shares(&counts, &[240, 20, 20, 20, 0], 0.03, &format!("{policy:?}"));
    });
}

#[test]
fn a_locality_gives_up_what_it_cannot_carry_and_nothing_while_72_of_100_are_in() {
    let s = Duration::from_secs;
    for_each_policy(|policy| {
        let members = in_localities(&[(1, 50), (1, 50), (1, 50), (1, 50), (2, 50)]);
        let picker = picker(policy, &members, 5).watched(true);
        let shares = |from: u64, wanted: &[u32; 5]| {
            assert_shares(&counts_between(&picker, 5, s(from), s(from + 30)), wanted, 0.04, &format!("{policy:?}"));
        };
        members[0].load.put_out(s(10_000));
        shares(0, &[0, 20, 20, 20, 60]);
        // Half of four carry 70 of 100.
        members[1].load.put_out(s(10_000));
        shares(40, &[0, 0, 35, 35, 100]);
        [2, 3].iter().for_each(|out: &usize| assert!(members[*out].load.put_out(s(10_000))));
        shares(80, &[0, 0, 0, 0, 1]);
    });
}

#[test]
fn a_key_keeps_its_locality_and_its_member_there() {
    for policy in [BalancePolicy::RingHash, BalancePolicy::Maglev] {
        let members = in_localities(&[(1, 70), (1, 70), (2, 30), (2, 30)]);
        let (picker, mut random) = (picker(policy, &members, 5), seeded(3));
        for key in 0..100 {
            let mut pick = |hash| {
                picker.pick(&mut Ask { now: Duration::ZERO, random: &mut random, hash: Some(hash), excluded: &[] })
            };
            let first = pick(mix(key, 3));
            assert!(first.is_some() && (0..20).all(|_| pick(mix(key, 3)) == first), "{policy:?}");
        }
    }
}

#[test]
fn whoever_takes_nothing_anyway_is_no_part_of_the_crowd() {
    for_each_policy(|policy| {
        let mut members = members(&[1, 1, 0, 1, 1]);
        (members[0].eligible, members[0].standby, members[1].eligible, members[4].priority) = (false, true, false, 1);
        let picker = picker(policy, &members, 5).watched(true);
        members[2].load.put_out(Duration::from_secs(9));
        let crowd = picker.crowd();
        assert_eq!((crowd.members, crowd.out), (2, 0), "{policy:?}");
        members[3].load.put_out(Duration::from_secs(9));
        assert_eq!(picker.crowd().out, 1, "{policy:?}");
    });
}

#[test]
fn localities_that_can_carry_little_share_as_they_are_to_all_the_same() {
    let s = Duration::from_secs;
    for_each_policy(|policy| {
        let members = in_localities(&[(1, 50), (2, 50)].repeat(30));
        let picker = picker(policy, &members, 5).watched(true);
        members[2..].iter().for_each(|member| assert!(member.load.put_out(s(10_000))));
        let counts = counts_between(&picker, 60, s(0), s(30));
        assert_shares(&counts[..2], &[1, 1], 0.04, &format!("{policy:?}"));
    });
}
