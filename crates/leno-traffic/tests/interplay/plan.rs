//! What a seed says: who is there, with which policies, and what breaks.

use std::time::Duration;

use leno_model::snapshot::{
    Admission, BalancePolicy, Balancing, Breaker, Ejection, Limits, LoadReports, Priority, Queue, Shedding,
};
use leno_traffic::budget::BudgetTerms;

use crate::judge::Rule;

/// Microseconds since the beginning.
pub(crate) type Micros = u64;

pub(crate) const MS: Micros = 1_000;
pub(crate) const SECOND: Micros = 1_000 * MS;

/// When something breaks, when it is whole again, when the last request comes.
pub(crate) const FROM: Micros = 3 * SECOND;
pub(crate) const TO: Micros = 7 * SECOND;
pub(crate) const END: Micros = 12 * SECOND;

/// How many requests come in a second, of all callers together.
const RATE: usize = 1_600;

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) bug: Option<Bug>,
    pub(crate) callers: usize,
    /// Between the requests of a caller, on average.
    pub(crate) gap: Micros,
    pub(crate) instances: usize,
    /// Of each instance; its slots are in proportion.
    pub(crate) weights: Vec<u32>,
    pub(crate) slots: u32,
    pub(crate) service: Micros,
    pub(crate) policy: BalancePolicy,
    pub(crate) balancing: Balancing,
    pub(crate) retries: u32,
    pub(crate) backoff: Duration,
    pub(crate) budget: BudgetTerms,
    pub(crate) try_timeout: Micros,
    pub(crate) deadline: Micros,
    pub(crate) breaker: Option<Breaker>,
    pub(crate) ejection: Option<Ejection>,
    pub(crate) limits: Limits,
    /// What callers do not even send.
    pub(crate) admission: Option<Admission>,
    /// What stands before each instance.
    pub(crate) shedding: Option<Shedding>,
    pub(crate) fault: Fault,
}

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    /// One instance takes so many times as long.
    Slow(u32),
    /// So many instances die.
    Dead(usize, How),
    /// One zone of three.
    Zone(How),
    All(How),
    /// So many times as many requests come.
    Flood(u64),
}

/// How an instance is that is not well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Connections break, and none is made.
    Refuses,
    /// It answers with an error.
    Fails,
    /// It takes requests and never answers.
    Hangs,
}

/// What is put in on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Every wait before a retry is as long as any other.
    NoJitter,
    /// Retries are not asked whether one is left.
    BudgetIgnored,
    /// A breaker that is half open lets everything through.
    ProbeStorm,
    /// Everybody takes the first instance among those with the fewest open requests.
    Stampede,
    /// What stands before an instance lets everything in.
    OpenGate,
    /// What stands before an instance takes all requests for equal.
    PriorityIgnored,
}

const ZONES: usize = 3;

// === impl Bug ===

impl Bug {
    pub(crate) const ALL: [Bug; 6] =
        [Bug::NoJitter, Bug::BudgetIgnored, Bug::ProbeStorm, Bug::Stampede, Bug::OpenGate, Bug::PriorityIgnored];

    pub(crate) fn found_by(self) -> Rule {
        match self {
            Bug::NoJitter => Rule::Herd,
            Bug::BudgetIgnored => Rule::RetryStorm,
            Bug::ProbeStorm => Rule::ProbeStorm,
            Bug::Stampede => Rule::Fairness,
            Bug::OpenGate => Rule::Goodput,
            Bug::PriorityIgnored => Rule::Priority,
        }
    }
}

// === impl Plan ===

impl Plan {
    pub(crate) fn draw(seed: u64, bug: Option<Bug>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let policy = match random.u32(..46) {
            0..14 => BalancePolicy::PeakEwma,
            14..19 => BalancePolicy::LeastRequest,
            19..22 => BalancePolicy::BestAvailable,
            22..30 => BalancePolicy::RoundRobin,
            30..36 => BalancePolicy::Random,
            36..39 => BalancePolicy::WeightedRoundRobin,
            39..42 => BalancePolicy::WeightedResponseTime,
            42..45 => BalancePolicy::RingHash,
            _ => BalancePolicy::Maglev,
        };
        // Tables of policies that hash are large, and each caller has one.
        let hashes = matches!(policy, BalancePolicy::RingHash | BalancePolicy::Maglev);
        let is_flood = random.u32(..6) == 0;
        let (callers, instances) = match hashes {
            true => (8, random.usize(6..12)),
            // What stands before an instance is to find out more than one or two.
            false if is_flood => (random.usize(40..240), random.usize(9..16)),
            false => (random.usize(40..240), random.usize(9..80)),
        };
        let heavy = if random.u32(..3) == 0 { 2 } else { 1 };
        let weights: Vec<u32> = (0..instances).map(|n| if n % 2 == 0 { heavy } else { 1 }).collect();
        let service = random.u64(40..120) * MS;
        // So many are at work in all, when all is well; that is not much more than a third of what the instances can do.
        let busy = RATE as f64 * service as f64 / SECOND as f64;
        let slots = (busy / 0.4 / f64::from(weights.iter().sum::<u32>())).ceil().max(2.0) as u32;
        let try_timeout = service * random.u64(6..12);
        let fault = if is_flood { Fault::Flood(random.u64(4..7)) } else { fault(&mut random, instances) };
        let mut limits = limits(&mut random, (busy / callers as f64) as u32);
        if is_flood {
            // What reaches the instances is to be what they can do, and not what callers keep to themselves.
            limits.requests = None;
        }
        Self {
            seed,
            bug,
            callers,
            gap: SECOND * callers as u64 / RATE as u64,
            instances,
            weights,
            slots,
            service,
            policy,
            retries: random.u32(..4).min(2),
            backoff: Duration::from_millis(random.u64(25..60)),
            // A quiet caller may retry that often a second all the same.
            budget: BudgetTerms { min_per_second: [0, 0, 3][random.usize(..3)], ..BudgetTerms::default() },
            try_timeout,
            deadline: try_timeout * 3,
            breaker: (random.u32(..3) > 0).then(|| breaker(&mut random)),
            ejection: (random.u32(..3) > 0).then(|| ejection(&mut random)),
            limits,
            admission: (random.u32(..3) == 0).then_some(Admission {
                factor: 200,
                window: Duration::from_secs(2),
                requests_min: random.u32(5..20),
            }),
            shedding: (is_flood || random.bool()).then(|| Shedding {
                min: 2,
                max: 1_000,
                tolerance: [25, 25, 50, 100][random.usize(..4)],
                wait: Duration::from_millis(random.u64(5..20)),
            }),
            fault,
            balancing: Balancing {
                panic_threshold: [0, 50][random.usize(..2)],
                load_reports: Some(LoadReports {
                    blackout: Duration::from_millis(500),
                    expiration: Duration::from_secs(3),
                    update: Duration::from_millis(300),
                    error_penalty: 100,
                }),
                ..Balancing::default()
            },
        }
    }

    /// Whether an instance breaks.
    pub(crate) fn breaks(&self, instance: usize) -> bool {
        match self.fault {
            Fault::Nothing => false,
            Fault::Slow(_) => instance == 0,
            Fault::Dead(count, _) => instance < count,
            Fault::Zone(_) => instance.is_multiple_of(ZONES),
            Fault::All(_) | Fault::Flood(_) => true,
        }
    }

    /// How many requests the instances do in a second, all together.
    pub(crate) fn capacity(&self) -> f64 {
        f64::from(self.slots * self.weights.iter().sum::<u32>()) * SECOND as f64 / self.service as f64
    }

    /// How it is then.
    pub(crate) fn how(&self) -> Option<How> {
        match self.fault {
            Fault::Nothing | Fault::Slow(_) | Fault::Flood(_) => None,
            Fault::Dead(_, how) | Fault::Zone(how) | Fault::All(how) => Some(how),
        }
    }
}

/// How much a request matters.
pub(crate) fn priority(random: &mut fastrand::Rng) -> Priority {
    match random.u32(..100) {
        0..10 => Priority::CriticalPlus,
        10..60 => Priority::Critical,
        60..85 => Priority::SheddablePlus,
        _ => Priority::Sheddable,
    }
}

fn breaker(random: &mut fastrand::Rng) -> Breaker {
    Breaker {
        failure_ratio: Some(50),
        slow_ratio: None,
        slow_after: Duration::from_secs(1),
        consecutive: None,
        failures: None,
        window: Duration::from_millis(random.u64(1_000..4_000)),
        buckets: [1, 10, 20][random.usize(..3)],
        requests_min: random.u32(5..15),
        open: Duration::from_millis(random.u64(300..1_000)),
        probes: random.u32(1..4),
        above: random.bool(),
    }
}

fn ejection(random: &mut fastrand::Rng) -> Ejection {
    let runs = random.bool();
    Ejection {
        consecutive_errors: runs.then(|| random.u32(2..6)),
        consecutive_gateway_errors: None,
        consecutive_local_errors: None,
        failure_ratio: (!runs).then_some(50),
        slow_ratio: None,
        slow_after: Duration::from_secs(1),
        window: Duration::from_secs(2),
        requests_min: random.u32(3..8),
        base_time: Duration::from_millis(random.u64(300..800)),
        time_max: Duration::from_secs(2),
        share_max: [10, 34, 50, 100][random.usize(..4)],
    }
}

/// More than are open at once when all is well.
fn limits(random: &mut fastrand::Rng, open: u32) -> Limits {
    let queue = Queue { size: random.u32(1..16), timeout: Duration::from_millis(random.u64(20..300)) };
    Limits {
        requests: random.bool().then(|| 3 * open + random.u32(8..30)),
        queue: random.bool().then_some(queue),
        retries: (random.u32(..3) == 0).then(|| random.u32(1..6)),
        ..Limits::default()
    }
}

fn fault(random: &mut fastrand::Rng, instances: usize) -> Fault {
    let how = [How::Refuses, How::Fails, How::Hangs][random.usize(..3)];
    match random.u32(..10) {
        0 => Fault::Nothing,
        1..3 => Fault::Slow(random.u32(5..20)),
        3..5 => Fault::Dead(random.usize(1..=instances / 4), how),
        5..7 => Fault::Zone(how),
        _ => Fault::All(how),
    }
}
