//! Flow rules of Sentinel, and the limits that `leno convert` makes of them: who passes, who waits for how long, who is refused.

use std::time::Duration;

use leno_model::resource::rate_limit::RateLimit as Written;
use leno_model::snapshot::{Rate, RateForm, RateLimit, RateTell};
use leno_traffic::rate::Limiter;

use crate::converted;
use crate::jvm::Jvm;

const SECOND: u64 = 1000;
/// leno counts in parts of a nanosecond and rounds up.
const ROUNDED: Duration = Duration::from_nanos(1);

/// What sequences came to.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) compared: usize,
    pub(crate) refused: usize,
    pub(crate) waited: usize,
    /// Times that Sentinel let one through beyond its count in a second, because its window ends with a half of one.
    pub(crate) edges: usize,
}

/// A rule as Sentinel has it.
struct Rule {
    kind: &'static str,
    count: f64,
    queue_ms: u64,
}

/// So many requests, which are added to what there was.
pub(crate) fn run(jvm: &mut Jvm, seed: u64, requests: usize, ran: &mut Ran) {
    let (mut random, mut now, enough) = (fastrand::Rng::with_seed(seed), 1_000_000, ran.compared + requests);
    while ran.compared < enough {
        let rule = Rule::draw(&mut random);
        jvm.step(&format!("limit {now} {} {} {}", rule.kind, rule.count, rule.queue_ms));
        live(jvm, &rule, &mut random, &mut now, ran, enough);
    }
}

/// Until there were enough, or the two part at the edge of a window.
fn live(jvm: &mut Jvm, rule: &Rule, random: &mut fastrand::Rng, now: &mut u64, ran: &mut Ran, enough: usize) {
    let (limiter, mut passed, mut open) = (rule.converted(), Vec::new(), Vec::new());
    // More than there may be, about what there may be, or less.
    let apart = (1000.0 / rule.count) as u64 * random.u64(1..5);
    while ran.compared < enough {
        *now += random.u64(..=apart);
        while !open.is_empty() && random.u32(..100) < 40 {
            if open.swap_remove(random.usize(..open.len())) {
                limiter.leave();
            }
            jvm.step(&format!("exit {now}"));
        }
        let (answer, slept) = jvm.step(&format!("enter {now}"));
        let ours = limiter.take(0, Duration::from_millis(*now), None);
        let place = || format!("{} of {}, {} ms at {now}: {passed:?}", rule.kind, rule.count, rule.queue_ms);
        match (answer.as_str(), ours) {
            ("refused", Err(_)) => ran.refused += 1,
            ("passed", Ok(granted)) => {
                let theirs = Duration::from_nanos(slept.parse().unwrap());
                assert!(granted.wait.abs_diff(theirs) <= ROUNDED, "{theirs:?}, leno {:?}: {}", granted.wait, place());
                ran.waited += usize::from(!granted.wait.is_zero());
                passed.push(*now);
                open.push(granted.holds);
            }
            ("passed", Err(_)) if rule.kind == "reject" => {
                let within = passed.iter().filter(|time| **time + SECOND > *now).count();
                assert_eq!(within, rule.count as usize, "leno refuses early: {}", place());
                ran.edges += 1;
                return;
            }
            // Who would wait exactly as long as one may.
            ("passed", Err(refused)) if refused.after <= ROUNDED => return,
            (theirs, ours) => panic!("Sentinel {theirs}, leno {ours:?}: {}", place()),
        }
        ran.compared += 1;
    }
}

// === impl Rule ===

impl Rule {
    fn draw(random: &mut fastrand::Rng) -> Self {
        let (kind, count) = match random.u32(..3) {
            0 => ("reject", f64::from(random.u32(1..30))),
            1 => ("threads", f64::from(random.u32(1..6))),
            // Those whose distance is a whole number of milliseconds, or halves of them in a second.
            _ => ("queue", [1.0, 2.0, 4.0, 5.0, 10.0, 0.5, 2.5, 20.0, 40.0][random.usize(..9)]),
        };
        Self { kind, count, queue_ms: random.u64(..1500) }
    }

    /// What `leno convert` makes of it.
    fn converted(&self) -> Limiter {
        let (grade, behaviour) = (u32::from(self.kind != "threads"), if self.kind == "queue" { 2 } else { 0 });
        let rule = format!(
            r#"[{{"resource": "/x", "limitApp": "default", "grade": {grade}, "count": {}, "controlBehavior": {behaviour}, "maxQueueingTimeMs": {}}}]"#,
            self.count, self.queue_ms
        );
        Limiter::new(&in_force(&converted::limit(&rule)), 1)
    }
}

/// As control makes it of what is written.
fn in_force(written: &Written) -> RateLimit {
    let rate = |requests: u32, per: Duration| Rate { requests, per };
    let form = match (&written.limit, &written.window, &written.queue, &written.concurrency) {
        (Some(bucket), ..) => {
            let burst = bucket.burst.unwrap_or(bucket.requests).get();
            RateForm::Bucket { rate: rate(bucket.requests.get(), bucket.per.0), burst, warm_up: None }
        }
        (_, Some(window), ..) => RateForm::Window(rate(window.requests.get(), window.per.0)),
        (_, _, Some(queue), _) => {
            RateForm::Queue { rate: rate(queue.requests.get(), queue.per.0), timeout: queue.timeout(), warm_up: None }
        }
        (_, _, _, Some(open)) => RateForm::Concurrency(open.requests.get()),
        _ => panic!("{written:?} counts in no way"),
    };
    RateLimit {
        name: "x".into(),
        when: Vec::new(),
        key: Vec::new(),
        keys: 0,
        form,
        shared: None,
        tell: RateTell::Nothing,
    }
}
