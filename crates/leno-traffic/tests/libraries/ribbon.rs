//! Servers that trip and are left out, by Ribbon's `AvailabilityFilteringRule` and by `roundRobin` with `ejection`; and who is
//! chosen by its `BestAvailableRule` and by `bestAvailable`; and who gets which share by its `WeightedResponseTimeRule` and by
//! `weightedResponseTime`.

use std::collections::BTreeMap;
use std::time::Duration;

use leno_model::seam;
use leno_model::snapshot::{BalancePolicy, Ejection};
use leno_traffic::balance::{Ask, Member, Picker};
use leno_traffic::ejection::{Conduct, Mark};
use leno_traffic::load::Standing;

use crate::jvm::Jvm;

/// Where leno differs by choice, as `docs/from-ribbon.md` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Choice {
    /// Where every server is out, Ribbon asks one all the same.
    NobodyIsAsked,
    /// One that is tried again and answers with an error stays out; for Ribbon it has answered.
    ProbesMustBeGood,
}

/// What a sequence came to.
#[derive(Default)]
pub(crate) struct Ran {
    pub(crate) compared: usize,
    pub(crate) trips: usize,
    pub(crate) choices: BTreeMap<Choice, usize>,
}

/// As `docs/from-ribbon.md` has it. Ribbon forgets what was before with the first good answer, leno with each window.
const TERMS: Ejection = Ejection {
    consecutive_errors: None,
    consecutive_gateway_errors: None,
    consecutive_local_errors: Some(3),
    failure_ratio: None,
    slow_ratio: None,
    slow_after: Duration::from_secs(1),
    window: Duration::from_millis(1),
    requests_min: 1,
    base_time: Duration::from_secs(10),
    time_max: Duration::from_secs(30),
    share_max: 100,
};

struct Bits<'r>(&'r mut fastrand::Rng);

struct Ours {
    members: Vec<Member>,
    conducts: Vec<Conduct>,
    picker: Picker,
}

impl seam::Random for Bits<'_> {
    fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// So many calls, each answered before the next.
pub(crate) fn run(jvm: &mut Jvm, seed: u64, calls: usize) -> Ran {
    let (mut random, mut ran, mut now) = (fastrand::Rng::with_seed(seed), Ran::default(), 1_000_000);
    while ran.compared < calls {
        let ours = Ours::new(BalancePolicy::RoundRobin, random.usize(2..6));
        jvm.step(&format!("servers {now} {} AvailabilityFiltering", ours.members.len()));
        let choice = live(jvm, &ours, &mut random, &mut now, (&mut ran, calls));
        choice.into_iter().for_each(|choice| *ran.choices.entry(choice).or_default() += 1);
    }
    ran
}

/// So many calls, of which several are open at a time: whom leno asks has as little to do as whom Ribbon would have asked.
pub(crate) fn run_best_available(jvm: &mut Jvm, seed: u64, calls: usize) {
    let (mut random, mut now) = (fastrand::Rng::with_seed(seed), 1_000_000);
    let ours = Ours::new(BalancePolicy::BestAvailable, random.usize(2..9));
    jvm.step(&format!("servers {now} {} BestAvailable", ours.members.len()));
    let mut open = Vec::new();
    for _ in 0..calls {
        now += random.u64(..300);
        let (chosen, _) = jvm.step(&format!("choose {now}"));
        let mut ask = Ask { now: ms(now), random: &mut Bits(&mut random), hash: None, excluded: &[] };
        let picked = ours.picker.pick(&mut ask).unwrap();
        let open_at = |member: usize| ours.members[member].load.open_requests();
        assert_eq!(open_at(picked), open_at(chosen.parse().unwrap()), "{picked} and {chosen} at {now}");
        jvm.step(&format!("open {now} {picked}"));
        open.push((picked, ours.members[picked].load.open()));
        while !open.is_empty() && random.u32(..100) < 45 {
            let (member, _ended) = open.swap_remove(random.usize(..open.len()));
            jvm.step(&format!("close {now} {member}"));
        }
    }
}

/// So many times that shares are found anew, with answers between: each server has the share in turn that Ribbon draws it by.
pub(crate) fn run_weighted_response_time(jvm: &mut Jvm, seed: u64, times: usize) {
    const PICKS: u32 = 4_000;
    let (mut random, mut now) = (fastrand::Rng::with_seed(seed), 1_000_000);
    let ours = Ours::new(BalancePolicy::WeightedResponseTime, random.usize(2..7));
    jvm.step(&format!("servers {now} {} WeightedResponseTime", ours.members.len()));
    for _ in 0..times {
        for _ in 0..random.usize(1..9) {
            let (member, took) = (random.usize(..ours.members.len()), random.u64(1..400));
            jvm.step(&format!("time {now} {member} {took}"));
            ours.members[member].load.time(ms(took));
        }
        now += 30_000;
        let (sums, _) = jvm.step(&format!("weigh {now}"));
        let sums: Vec<f64> = sums.split(',').map(|sum| sum.parse().unwrap()).collect();
        let mut counts = vec![0; ours.members.len()];
        for _ in 0..PICKS {
            let mut ask = Ask { now: ms(now), random: &mut Bits(&mut random), hash: None, excluded: &[] };
            counts[ours.picker.pick(&mut ask).unwrap()] += 1;
        }
        let all = sums[sums.len() - 1];
        for (member, count) in counts.iter().enumerate() {
            let before = if member == 0 { 0.0 } else { sums[member - 1] };
            let wanted = (sums[member] - before) / all * f64::from(PICKS);
            assert!((f64::from(*count) - wanted).abs() <= 4.0, "{counts:?} by {sums:?} at {now}");
        }
    }
}

/// Until there were enough calls, or they part by choice.
fn live(
    jvm: &mut Jvm,
    ours: &Ours,
    random: &mut fastrand::Rng,
    now: &mut u64,
    (ran, calls): (&mut Ran, usize),
) -> Option<Choice> {
    // How well each server is.
    let well: Vec<u32> = ours.members.iter().map(|_| [5, 30, 95][random.usize(..3)]).collect();
    while ran.compared < calls {
        *now = ours.later(*now, random);
        let (chosen, tripped) = jvm.step(&format!("choose {now}"));
        assert_eq!(tripped, ours.tripped(*now), "{well:?} at {now}");
        let mut ask = Ask { now: ms(*now), random: &mut Bits(random), hash: None, excluded: &[] };
        let Some(picked) = ours.picker.pick(&mut ask) else {
            assert!(!tripped.contains('0'), "leno asks nobody, of {tripped}");
            return Some(Choice::NobodyIsAsked);
        };
        assert_eq!(picked.to_string(), chosen, "of {tripped}");
        let mark = match random.u32(..100) {
            draw if draw < well[picked] => Mark::Good,
            draw if draw % 10 == 0 => Mark::Error,
            _ => Mark::Local,
        };
        let was_out = ours.members[picked].load.standing() != Standing::In;
        ran.trips += usize::from(ours.observe(*now, picked, mark));
        let word = if mark == Mark::Local { "bad" } else { "good" };
        let (_, tripped) = jvm.step(&format!("note {now} {picked} {word}"));
        if was_out && mark == Mark::Error {
            assert_eq!(&tripped[picked..=picked], "0");
            return Some(Choice::ProbesMustBeGood);
        }
        assert_eq!(tripped, ours.tripped(*now), "{mark:?} of {picked} at {now}");
        ran.compared += 1;
    }
    None
}

// === impl Ours ===

impl Ours {
    fn new(policy: BalancePolicy, count: usize) -> Self {
        let members: Vec<Member> = (0..count as u64).map(|key| Member::new(key, 1)).collect();
        // Ribbon begins with the second.
        let picker = Picker::new(policy, &members, 1).watched(true);
        Self { conducts: members.iter().map(|_| Conduct::new(&TERMS)).collect(), members, picker }
    }

    /// Whether it is ejected for that.
    fn observe(&self, now: u64, member: usize, mark: Mark) -> bool {
        let crowd = || self.picker.crowd();
        self.conducts[member].observe(&TERMS, &self.members[member].load, ms(now), (mark, ms(1)), crowd).is_some()
    }

    fn tripped(&self, now: u64) -> String {
        let is_out = |member| !self.picker.can_take(member, ms(now));
        (0..self.members.len()).map(|member| if is_out(member) { '1' } else { '0' }).collect()
    }

    /// A little later, or when somebody's time is over, or a millisecond before or after.
    fn later(&self, now: u64, random: &mut fastrand::Rng) -> u64 {
        let over = self.members.iter().find_map(|member| match member.load.standing() {
            Standing::Out(until) if until > ms(now) => Some(until.as_millis() as u64),
            _ => None,
        });
        match (random.u32(..8), over) {
            (0, Some(over)) => over + random.u64(..3) - 1,
            (1, _) => now + random.u64(1..12_000),
            _ => now + random.u64(1..300),
        }
    }
}
