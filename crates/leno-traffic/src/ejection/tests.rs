//! Ejection with a clock of its own.

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const FAST: Duration = ms(5);
const OTHERS: Crowd = Crowd { members: 10, out: 0 };

fn terms() -> Ejection {
    Ejection {
        consecutive_errors: Some(5),
        consecutive_gateway_errors: None,
        consecutive_local_errors: None,
        failure_ratio: None,
        slow_ratio: None,
        slow_after: ms(1_000),
        window: ms(10_000),
        requests_min: 20,
        base_time: ms(30_000),
        time_max: ms(300_000),
        share_max: 10,
    }
}

fn ratio(failure: Option<u32>, slow: Option<u32>) -> Ejection {
    Ejection { consecutive_errors: None, failure_ratio: failure, slow_ratio: slow, ..terms() }
}

/// An endpoint under watch.
struct Watched {
    terms: Ejection,
    conduct: Conduct,
    load: Load,
}

impl Watched {
    fn by(terms: Ejection) -> Self {
        Self { conduct: Conduct::new(&terms), load: Load::new(), terms }
    }

    fn answers(&self, now: u64, mark: Mark, took: Duration) -> Option<Cause> {
        self.conduct.observe(&self.terms, &self.load, ms(now), (mark, took), || OTHERS)
    }

    fn fails(&self, now: u64, times: usize) -> Option<Cause> {
        (0..times).map(|_| self.answers(now, Mark::Error, FAST)).last().flatten()
    }

    /// It is tried and answers so.
    fn tried(&self, now: u64, mark: Mark) -> Option<Cause> {
        self.load.picked(ms(now));
        self.answers(now, mark, FAST)
    }

    fn is_out(&self, now: u64) -> bool {
        self.load.is_out(ms(now))
    }
}

#[test]
fn failures_in_a_row_eject_and_a_good_answer_between_begins_the_row_anew() {
    let one = Watched::by(terms());
    assert_eq!(one.fails(0, 4), None);
    one.answers(0, Mark::Good, FAST);
    assert_eq!(one.fails(0, 4), None);
    assert_eq!(one.fails(0, 1), Some(Cause::Consecutive));
    assert!(one.is_out(0) && one.is_out(29_999) && !one.is_out(30_000));
}

#[test]
fn a_gateways_failures_and_those_without_an_answer_have_rows_of_their_own() {
    let gateway = Ejection { consecutive_errors: None, consecutive_gateway_errors: Some(2), ..terms() };
    let one = Watched::by(gateway);
    one.answers(0, Mark::Gateway, FAST);
    one.answers(0, Mark::Error, FAST);
    assert_eq!(one.answers(0, Mark::Gateway, FAST), None, "an error of its own ended the row");
    assert_eq!(one.answers(0, Mark::Local, FAST), Some(Cause::Consecutive));
    let split = Watched::by(Ejection { consecutive_local_errors: Some(3), ..terms() });
    for _ in 0..2 {
        split.answers(0, Mark::Local, FAST);
    }
    assert_eq!(split.fails(0, 4), None, "no answer counts for itself only, and an answer ended that row");
    assert_eq!(split.fails(0, 1), Some(Cause::Consecutive));
}

#[test]
fn a_share_of_failures_ejects_from_the_least_number_of_answers_on() {
    let one = Watched::by(ratio(Some(50), None));
    for n in 0..10 {
        one.answers(n, Mark::Good, FAST);
    }
    assert_eq!(one.fails(20, 9), None, "19 answers are too few");
    assert_eq!(one.fails(30, 1), Some(Cause::FailureRatio));
}

#[test]
fn what_has_left_the_window_does_not_eject() {
    let one = Watched::by(ratio(Some(50), None));
    assert_eq!(one.fails(999, 19), None);
    assert_eq!(one.fails(10_000, 1), None, "the first second is out of the window");
    let other = Watched::by(ratio(Some(50), None));
    other.fails(999, 19);
    assert_eq!(other.fails(9_999, 1), Some(Cause::FailureRatio));
}

#[test]
fn a_share_of_slow_answers_ejects_and_a_failure_is_not_slow() {
    let one = Watched::by(ratio(None, Some(80)));
    for _ in 0..4 {
        one.answers(0, Mark::Good, ms(999));
    }
    for n in 0..15 {
        assert_eq!(one.answers(n, Mark::Good, ms(1_000)), None);
    }
    assert_eq!(one.answers(20, Mark::Good, ms(1_000)), Some(Cause::SlowRatio));
    let failing = Watched::by(ratio(None, Some(80)));
    for _ in 0..40 {
        assert_eq!(failing.answers(0, Mark::Error, ms(5_000)), None);
    }
}

#[test]
fn a_probe_that_is_good_brings_it_back_and_one_that_fails_costs_more_time() {
    let one = Watched::by(terms());
    one.fails(0, 5);
    assert_eq!(one.answers(10_000, Mark::Good, FAST), None, "asked before it was ejected");
    assert!(one.is_out(10_000));
    assert_eq!(one.tried(30_000, Mark::Error), Some(Cause::Probe));
    assert!(one.is_out(89_999) && !one.is_out(90_000), "twice the base time");
    assert_eq!(one.tried(90_000, Mark::Good), None);
    assert_eq!(one.load.standing(), Standing::In);
    assert!(!one.is_out(90_000));
}

#[test]
fn one_request_a_second_is_a_probe() {
    let one = Watched::by(terms());
    one.fails(0, 5);
    one.load.picked(ms(30_000));
    assert_eq!(one.load.standing(), Standing::Probing);
    assert!(one.is_out(30_999) && !one.is_out(31_000));
}

#[test]
fn time_outside_grows_to_its_limit_and_is_forgiven_window_by_window() {
    let one = Watched::by(Ejection { time_max: ms(70_000), ..terms() });
    one.fails(0, 5);
    one.tried(30_000, Mark::Gateway);
    one.tried(90_000, Mark::Gateway);
    assert!(one.is_out(159_999) && !one.is_out(160_000), "70 s and not 90");
    one.tried(160_000, Mark::Good);
    assert_eq!(one.conduct.ejected().1, 3);
    one.fails(175_000, 5);
    assert_eq!(one.conduct.ejected(), (ms(175_000), 3), "15 s forgave one, and this is one more");
    one.tried(300_000, Mark::Good);
    one.fails(900_000, 5);
    assert!(!one.is_out(930_000), "long ago is long forgiven");
}

#[test]
fn no_more_are_out_than_may_be_and_one_of_several_always_may() {
    let allowed = |members, out, share_max| allows(&Ejection { share_max, ..terms() }, Crowd { members, out });
    assert!(allowed(10, 0, 10) && !allowed(10, 1, 10));
    assert!(allowed(30, 2, 10) && !allowed(30, 3, 10));
    assert!(allowed(2, 0, 10) && !allowed(2, 1, 10));
    assert!(!allowed(1, 0, 10) && !allowed(1, 0, 99), "the last one stays");
    assert!(!allowed(3, 2, 99) && allowed(3, 2, 100) && allowed(1, 0, 100));
}

#[test]
fn one_that_may_not_go_goes_as_soon_as_it_may() {
    let one = Watched::by(terms());
    let full = Crowd { members: 10, out: 1 };
    for _ in 0..20 {
        let observed = one.conduct.observe(&one.terms, &one.load, ms(0), (Mark::Error, FAST), || full);
        assert_eq!(observed, None);
    }
    assert_eq!(one.fails(1, 1), Some(Cause::Consecutive));
}

/// A seeded run of ten endpoints, of which two are bad for a while: who is out, how often, and what the callers saw.
fn simulate(seed: u64) -> (usize, u32) {
    let mut random = fastrand::Rng::with_seed(seed);
    let terms = Ejection { base_time: ms(1_000), share_max: 20, ..terms() };
    let all: Vec<Watched> = (0..10).map(|_| Watched::by(terms)).collect();
    let (mut failed, mut most_out) = (0, 0);
    for now in 0..60_000_u64 {
        let is_bad = |n: usize| n < 2 && now < 30_000;
        let eligible: Vec<usize> = (0..10).filter(|n| !all[*n].is_out(now)).collect();
        most_out = most_out.max(10 - eligible.len());
        let n = eligible[random.usize(..eligible.len())];
        all[n].load.picked(ms(now));
        let mark = if is_bad(n) { Mark::Gateway } else { Mark::Good };
        failed += u32::from(mark != Mark::Good);
        let crowd = || Crowd { members: 10, out: all.iter().filter(|one| one.load.standing() != Standing::In).count() };
        all[n].conduct.observe(&terms, &all[n].load, ms(now), (mark, FAST), crowd);
    }
    assert!(all.iter().all(|one| one.load.standing() == Standing::In), "seed {seed}: all are back");
    (most_out, failed)
}

#[test]
fn bad_ones_are_out_others_never_and_all_come_back() {
    for seed in 0..50 {
        let (most_out, failed) = simulate(seed);
        assert_eq!(most_out, 2, "seed {seed}");
        // Five in a row for each of the two, then one probe for each time outside: 1, 2, 3… s until 30 s are over.
        assert!(failed <= 2 * (5 + 8), "seed {seed}: {failed} failures of 30,000 requests");
    }
}

#[test]
fn whoever_sees_it_fail_at_the_same_moment_ejects_it_once() {
    let terms = Ejection { consecutive_errors: Some(1), ..terms() };
    let mut ejections = 0;
    for _ in 0..1_000 {
        let (one, ready) = (Watched::by(terms), AtomicU32::new(0));
        let fail = || {
            ready.fetch_add(1, Relaxed);
            while ready.load(Relaxed) < 2 {
                std::thread::yield_now();
            }
            usize::from(one.answers(0, Mark::Error, FAST).is_some())
        };
        ejections += std::thread::scope(|scope| {
            let other = scope.spawn(fail);
            fail() + other.join().unwrap()
        });
        assert_eq!(one.conduct.ejected().1, 1);
    }
    assert_eq!(ejections, 1_000);
}
