//! What is compared: the terms of a library's breaker, and the same for leno's.

use std::time::Duration;

use leno_model::snapshot::Breaker as Terms;

/// Whose breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Library {
    Hystrix,
    Sentinel,
    Resilience4j,
}

/// One set of terms. `theirs` are the words that the driver takes.
pub(crate) struct Case {
    pub(crate) library: Library,
    pub(crate) theirs: &'static str,
    pub(crate) ours: Terms,
    /// Of Hystrix: how often it takes a snapshot, in ms.
    pub(crate) snapshot: u64,
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Hystrix and Resilience4j let a probe through when more than their time is over, leno when it is over.
const LATER: u64 = 1;
/// Hystrix looks when a snapshot is taken, leno told of an answer a millisecond before has been open for that much longer.
const LOOKED: u64 = 1;

const CLOSED_BY_NOTHING: Terms = Terms {
    failure_ratio: None,
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
};

const fn hystrix(theirs: &'static str, window: u64, snapshot: u64, volume: u32, percent: u32, sleep: u64) -> Case {
    let ours = Terms {
        failure_ratio: Some(percent),
        window: ms(window),
        buckets: (window / snapshot) as u32,
        requests_min: volume,
        open: ms(sleep + LATER + LOOKED),
        ..CLOSED_BY_NOTHING
    };
    Case { library: Library::Hystrix, theirs, ours, snapshot }
}

const fn sentinel(theirs: &'static str, ours: Terms) -> Case {
    Case { library: Library::Sentinel, theirs, ours: Terms { above: true, buckets: 1, ..ours }, snapshot: 0 }
}

const fn resilience4j(theirs: &'static str, ours: Terms) -> Case {
    // One second each.
    let buckets = ours.window.as_secs() as u32;
    Case { library: Library::Resilience4j, theirs, ours: Terms { buckets, ..ours }, snapshot: 0 }
}

pub(crate) const CASES: &[Case] = &[
    // The preset, with more snapshots than twice a second, or there would be no more than twenty requests in a window.
    hystrix("10000 100 20 50 5000", 10_000, 100, 20, 50, 5_000),
    hystrix("10000 500 5 50 5000", 10_000, 500, 5, 50, 5_000),
    hystrix("2000 100 4 75 700", 2_000, 100, 4, 75, 700),
    hystrix("1000 50 3 20 300", 1_000, 50, 3, 20, 300),
    // The preset with each thing that opens it.
    sentinel(
        "ratio 0.5 0 1000 5 10",
        Terms { failure_ratio: Some(50), window: ms(1_000), requests_min: 5, open: ms(10_000), ..CLOSED_BY_NOTHING },
    ),
    sentinel(
        "slow 0.6 200 1000 5 10",
        Terms {
            slow_ratio: Some(60),
            slow_after: ms(200 + LATER),
            window: ms(1_000),
            requests_min: 5,
            open: ms(10_000),
            ..CLOSED_BY_NOTHING
        },
    ),
    sentinel(
        "slow 1.0 50 2000 3 1",
        Terms {
            slow_ratio: Some(100),
            slow_after: ms(50 + LATER),
            window: ms(2_000),
            requests_min: 3,
            open: ms(1_000),
            ..CLOSED_BY_NOTHING
        },
    ),
    sentinel(
        "count 4 0 1000 5 2",
        Terms { failures: Some(4), window: ms(1_000), requests_min: 5, open: ms(2_000), ..CLOSED_BY_NOTHING },
    ),
    sentinel(
        "ratio 0.25 0 500 2 1",
        Terms { failure_ratio: Some(25), window: ms(500), requests_min: 2, open: ms(1_000), ..CLOSED_BY_NOTHING },
    ),
    // The preset with a window of time.
    resilience4j(
        "100 50 100 60000 100 60000 10",
        Terms {
            failure_ratio: Some(50),
            slow_ratio: Some(100),
            slow_after: ms(60_000 + LATER),
            window: ms(100_000),
            requests_min: 100,
            open: ms(60_000 + LATER),
            probes: 10,
            ..CLOSED_BY_NOTHING
        },
    ),
    resilience4j(
        "10 50 80 300 10 2000 3",
        Terms {
            failure_ratio: Some(50),
            slow_ratio: Some(80),
            slow_after: ms(300 + LATER),
            requests_min: 10,
            open: ms(2_000 + LATER),
            probes: 3,
            ..CLOSED_BY_NOTHING
        },
    ),
    resilience4j(
        "5 30 50 100 4 1000 1",
        Terms {
            failure_ratio: Some(30),
            slow_ratio: Some(50),
            slow_after: ms(100 + LATER),
            window: ms(5_000),
            requests_min: 4,
            open: ms(1_000 + LATER),
            ..CLOSED_BY_NOTHING
        },
    ),
];
