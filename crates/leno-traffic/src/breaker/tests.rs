//! Breakers with a clock of their own.

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const FAST: Duration = ms(5);

/// Hystrix's constants.
fn hystrix() -> Terms {
    Terms {
        failure_ratio: Some(50),
        slow_ratio: None,
        slow_after: ms(1_000),
        consecutive: None,
        failures: None,
        window: ms(10_000),
        buckets: 10,
        requests_min: 20,
        open: ms(5_000),
        probes: 1,
        above: false,
    }
}

/// Sentinel's: a window that does not roll, and ratios that have to be exceeded.
fn sentinel() -> Terms {
    Terms { window: ms(1_000), buckets: 1, requests_min: 5, open: ms(10_000), above: true, ..hystrix() }
}

/// Resilience4j's.
fn resilience4j() -> Terms {
    Terms { requests_min: 100, window: ms(100_000), open: ms(60_000), probes: 10, slow_ratio: Some(100), ..hystrix() }
}

fn call(breaker: &Breaker, now: u64, mark: Mark) -> bool {
    let passed = breaker.pass(ms(now));
    passed.iter().for_each(|passed| passed.settle(ms(now), mark, FAST));
    passed.is_ok()
}

fn calls(breaker: &Breaker, now: u64, good: usize, failed: usize) {
    (0..good).for_each(|_| assert!(call(breaker, now, Mark::Good)));
    (0..failed).for_each(|_| assert!(call(breaker, now, Mark::Error)));
}

fn state(breaker: &Breaker) -> State {
    breaker.seen(ms(0)).state
}

#[test]
fn half_of_twenty_open_it_and_nineteen_are_too_few() {
    let breaker = Breaker::new(&hystrix());
    calls(&breaker, 0, 10, 9);
    assert_eq!(state(&breaker), State::Closed);
    calls(&breaker, 1, 0, 1);
    assert_eq!(state(&breaker), State::Open);
    assert_eq!(breaker.pass(ms(4_000)).err(), Some(Refused(ms(1_001))));
    let seen = breaker.seen(ms(4_000));
    assert_eq!((seen.since, seen.opened, seen.refused), (ms(1), 1, 1));
}

#[test]
fn one_probe_closes_it_with_an_empty_window_or_opens_it_anew() {
    let breaker = Breaker::new(&hystrix());
    calls(&breaker, 0, 0, 20);
    let probe = breaker.pass(ms(5_000)).unwrap();
    assert!(breaker.pass(ms(5_000)).is_err(), "there is one");
    probe.settle(ms(5_100), Mark::Local, FAST);
    assert!(breaker.pass(ms(10_099)).is_err(), "its time begins anew with the failure");
    assert!(call(&breaker, 10_100, Mark::Good));
    assert_eq!(state(&breaker), State::Closed);
    calls(&breaker, 10_200, 0, 19);
    assert_eq!(state(&breaker), State::Closed, "what was before is forgotten");
}

#[test]
fn a_probe_whose_caller_leaves_is_given_back_and_one_that_never_ends_makes_room() {
    let breaker = Breaker::new(&hystrix());
    calls(&breaker, 0, 0, 20);
    drop(breaker.pass(ms(5_000)).unwrap());
    let lost = breaker.pass(ms(5_001)).unwrap();
    assert!(breaker.pass(ms(9_999)).is_err());
    let next = breaker.pass(ms(10_000)).unwrap();
    next.settle(ms(10_001), Mark::Good, FAST);
    lost.settle(ms(20_000), Mark::Error, FAST);
    assert_eq!(state(&breaker), State::Closed);
}

#[test]
fn answers_to_what_was_asked_before_it_opened_do_not_count() {
    let breaker = Breaker::new(&hystrix());
    let (early, late) = (breaker.pass(ms(0)).unwrap(), breaker.pass(ms(0)).unwrap());
    calls(&breaker, 0, 0, 20);
    early.settle(ms(100), Mark::Good, FAST);
    let probe = breaker.pass(ms(5_000)).unwrap();
    late.settle(ms(5_001), Mark::Good, FAST);
    assert_eq!(state(&breaker), State::HalfOpen);
    probe.settle(ms(5_002), Mark::Good, FAST);
    assert_eq!(state(&breaker), State::Closed);
}

#[test]
fn sentinels_ratio_has_to_be_exceeded_within_one_bucket() {
    let breaker = Breaker::new(&sentinel());
    calls(&breaker, 0, 5, 5);
    assert_eq!(state(&breaker), State::Closed, "half is not more than half");
    calls(&breaker, 999, 0, 1);
    assert_eq!(state(&breaker), State::Open);
    let edge = Breaker::new(&sentinel());
    calls(&edge, 999, 0, 4);
    calls(&edge, 1_000, 0, 4);
    assert_eq!(state(&edge), State::Closed, "a bucket ended between");
    let all = Breaker::new(&Terms { failure_ratio: Some(100), ..sentinel() });
    calls(&all, 0, 0, 5);
    assert_eq!(state(&all), State::Open, "more than all is not possible, and all are enough");
}

#[test]
fn slow_answers_open_it_and_a_slow_probe_keeps_it_open() {
    let breaker = Breaker::new(&Terms { failure_ratio: None, slow_ratio: Some(60), ..sentinel() });
    let slow = |now: u64| breaker.pass(ms(now)).unwrap().settle(ms(now), Mark::Good, ms(1_000));
    (0..4).for_each(slow);
    assert_eq!(state(&breaker), State::Closed);
    slow(5);
    assert_eq!(state(&breaker), State::Open);
    slow(10_005);
    assert_eq!(state(&breaker), State::Open);
    assert!(call(&breaker, 20_005, Mark::Error), "this breaker does not look at failures");
    assert_eq!(state(&breaker), State::Closed);
}

#[test]
fn ten_probes_decide_together() {
    let breaker = Breaker::new(&resilience4j());
    calls(&breaker, 0, 50, 50);
    let probe = |now: u64, failed: usize| {
        let probes: Vec<_> = (0..10).map(|_| breaker.pass(ms(now)).unwrap()).collect();
        assert!(breaker.pass(ms(now)).is_err(), "ten and no more");
        for (n, probe) in probes.iter().enumerate() {
            probe.settle(ms(now), if n < failed { Mark::Gateway } else { Mark::Good }, FAST);
        }
    };
    probe(60_000, 5);
    assert_eq!(state(&breaker), State::Open);
    probe(120_000, 4);
    assert_eq!(state(&breaker), State::Closed);
}

#[test]
fn probes_that_come_seldom_decide_too_and_a_lost_one_costs_no_other() {
    let breaker = Breaker::new(&resilience4j());
    calls(&breaker, 0, 50, 50);
    // Nine in as many minutes, and one that never ends.
    (1..=9).for_each(|n| assert!(call(&breaker, n * 60_000, Mark::Good)));
    let lost = breaker.pass(ms(9 * 60_000)).unwrap();
    assert_eq!(state(&breaker), State::HalfOpen);
    assert!(call(&breaker, 10 * 60_000, Mark::Good));
    assert_eq!(state(&breaker), State::Closed);
    lost.settle(ms(11 * 60_000), Mark::Error, FAST);
    assert_eq!(breaker.seen(ms(11 * 60_000)).counts, Counts::default(), "it is of before");
}

#[test]
fn failures_in_a_row_and_a_number_of_failures_open_it_too() {
    let run = Breaker::new(&Terms { failure_ratio: None, consecutive: Some(3), ..hystrix() });
    calls(&run, 0, 0, 2);
    calls(&run, 0, 1, 2);
    assert_eq!(state(&run), State::Closed);
    calls(&run, 0, 0, 1);
    assert_eq!(state(&run), State::Open);
    assert!(call(&run, 5_000, Mark::Error));
    assert_eq!(state(&run), State::Open, "one failed probe is enough");
    let number = Breaker::new(&Terms { failure_ratio: None, failures: Some(6), ..sentinel() });
    calls(&number, 0, 100, 6);
    assert_eq!(state(&number), State::Closed);
    calls(&number, 0, 0, 1);
    assert_eq!(state(&number), State::Open);
}

#[test]
fn threads_open_it_once_and_send_one_probe() {
    let breaker = Breaker::new(&hystrix());
    let race = |now: u64, mark: Mark| {
        let passed = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        passed.fetch_add(u32::from(call(&breaker, now, mark)), Relaxed);
                    }
                });
            }
        });
        passed.into_inner()
    };
    race(0, Mark::Error);
    assert_eq!(breaker.seen(ms(0)).opened, 1);
    assert_eq!(race(5_000, Mark::Error), 1, "one probe, which fails");
    assert_eq!(breaker.seen(ms(0)).opened, 2);
}

/// A seeded run: the destination is bad for half a minute. How many of the requests that reached it failed.
fn simulate(seed: u64, terms: &Terms) -> (u32, u64) {
    let (mut random, breaker) = (fastrand::Rng::with_seed(seed), Breaker::new(terms));
    let mut failed = 0;
    for now in (0..60_000_u64).step_by(2) {
        let Ok(passed) = breaker.pass(ms(now)) else { continue };
        let is_bad = (10_000..40_000).contains(&now) && random.u32(..100) < 90;
        failed += u32::from(is_bad);
        passed.settle(ms(now), if is_bad { Mark::Local } else { Mark::Good }, FAST);
    }
    assert_eq!(state(&breaker), State::Closed, "seed {seed}: it is closed when all is well");
    (failed, breaker.seen(ms(0)).opened)
}

#[test]
fn a_bad_destination_is_hardly_asked_and_asked_again_when_it_is_well() {
    for seed in 0..50 {
        let (failed, opened) = simulate(seed, &hystrix());
        // Half of a window of 5,000 answers, each time that a lucky probe closed it.
        assert!(failed < 13_500 / 2, "seed {seed}: {failed} of 13,500");
        assert!((1..=40).contains(&opened), "seed {seed}: {opened}");
    }
}
