//! A histogram of durations with buckets that grow by 2^(1/8): any quantile within 4.5 %, sums exact.
//!
//! Eight buckets for each doubling, from 16 µs to 71 minutes: 224 in all. The index comes from the position of the
//! highest bit and seven comparisons of the bits behind it: no logarithm, no search. Buckets stand in chunks of four
//! doublings that are allocated when first hit, so that a destination that answers in 1 to 8 ms costs 0.4 kB, not 1.8.
//! HDR histograms were rejected for their size (16 linear buckets for each doubling), DDSketch for its maps.
//!
//! Two histograms merge by adding; since boundaries are fixed, this holds across workers, proxies and versions.
//!
//! Hot path: no locks held, one allocation at a chunk's first use, no logs.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets for each doubling.
const PER_OCTAVE: usize = 8;
/// Doublings in a chunk.
const CHUNK_OCTAVES: usize = 4;
const CHUNK: usize = PER_OCTAVE * CHUNK_OCTAVES;
const CHUNKS: usize = 7;
/// The number of buckets; the last one holds all that is longer.
pub const BUCKETS: usize = CHUNK * CHUNKS;
/// The highest bit of the shortest duration that is told apart: 16 µs.
const LOWEST_BIT: u32 = 4;

/// (2^(k/8) − 1) · 65,536 for k = 1 to 7: where the buckets of one doubling begin, in the 16 bits behind the highest.
const STEPS: [u64; 7] = [5_932, 12_400, 19_454, 27_146, 35_535, 44_682, 54_658];

/// Istio's boundaries, in milliseconds.
pub const MILLISECOND_BOUNDS: &[f64] = &[
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Boundaries in seconds, those of Prometheus' clients with two more at each end.
pub const SECOND_BOUNDS: &[f64] =
    &[0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The unit in which a histogram is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// As Istio's metrics.
    Milliseconds,
    /// As Prometheus recommends.
    Seconds,
}

/// A histogram of one shard.
#[derive(Default)]
pub struct LogHistogram {
    chunks: [OnceLock<Box<[AtomicU64; CHUNK]>>; CHUNKS],
    sum_us: AtomicU64,
}

/// What a histogram held when it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// Counts by bucket; shorter than [`BUCKETS`] when the rest is 0.
    counts: Vec<u64>,
    /// The sum of all durations in microseconds.
    pub sum_us: u64,
}

// === impl Unit ===

impl Unit {
    /// The bounds that are printed.
    pub fn bounds(self) -> &'static [f64] {
        match self {
            Self::Milliseconds => MILLISECOND_BOUNDS,
            Self::Seconds => SECOND_BOUNDS,
        }
    }

    /// The bounds as they are printed.
    pub(crate) fn bound_texts(self) -> &'static [String] {
        static TEXTS: [OnceLock<Vec<String>>; 2] = [const { OnceLock::new() }; 2];
        TEXTS[self as usize].get_or_init(|| self.bounds().iter().map(f64::to_string).collect())
    }

    /// Microseconds in one unit.
    pub fn microseconds(self) -> f64 {
        match self {
            Self::Milliseconds => 1e3,
            Self::Seconds => 1e6,
        }
    }
}

// === impl LogHistogram ===

impl LogHistogram {
    /// Counts one duration.
    pub fn observe(&self, value: Duration) {
        let us = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        let index = bucket_of(us);
        let chunk = self.chunks[index / CHUNK].get_or_init(|| Box::new([const { AtomicU64::new(0) }; CHUNK]));
        chunk[index % CHUNK].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// Adds what is in here to `into`.
    pub fn add_to(&self, into: &mut HistogramSnapshot) {
        for (n, chunk) in self.chunks.iter().enumerate() {
            let Some(chunk) = chunk.get() else { continue };
            for (i, cell) in chunk.iter().enumerate() {
                into.add(n * CHUNK + i, cell.load(Relaxed));
            }
        }
        into.sum_us = into.sum_us.wrapping_add(self.sum_us.load(Relaxed));
    }
}

/// The bucket of a duration in microseconds.
fn bucket_of(us: u64) -> usize {
    if us < 1 << LOWEST_BIT {
        return 0;
    }
    let highest = us.ilog2();
    let behind = ((us << (63 - highest)) << 1) >> 48;
    let step = STEPS.iter().filter(|start| behind >= **start).count();
    ((highest - LOWEST_BIT) as usize * PER_OCTAVE + step).min(BUCKETS - 1)
}

/// Where a bucket begins, in microseconds.
fn lower_bound(index: usize) -> f64 {
    (f64::from(LOWEST_BIT) + index as f64 / PER_OCTAVE as f64).exp2()
}

// === impl HistogramSnapshot ===

impl HistogramSnapshot {
    /// A snapshot of pairs of bucket and count, as a report holds them. Unknown buckets are dropped.
    pub fn from_sparse(pairs: impl IntoIterator<Item = (u32, u64)>, sum_us: u64) -> Self {
        let mut snapshot = Self { counts: Vec::new(), sum_us };
        pairs.into_iter().for_each(|(bucket, count)| snapshot.add_bucket(bucket, count));
        snapshot
    }

    /// The buckets that are not empty.
    pub fn sparse(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(i, count)| (i as u32, *count))
    }

    /// Adds another.
    pub fn merge(&mut self, other: &Self) {
        for (index, count) in other.sparse() {
            self.add(index as usize, count);
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
    }

    /// What was counted since `earlier`; none when a count went down, as it does after a restart.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        if earlier.counts.len() > self.counts.len() {
            return None;
        }
        let mut counts = self.counts.clone();
        for (now, then) in counts.iter_mut().zip(&earlier.counts) {
            *now = now.checked_sub(*then)?;
        }
        Some(Self { counts, sum_us: self.sum_us.checked_sub(earlier.sum_us)? })
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    /// The duration that a share `q` (0 to 1) of all is not longer than, within 4.5 %. None when empty.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * total as f64).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        let index = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        // The geometric middle is off by the same share at both ends.
        let middle = lower_bound(index) * (0.5 / PER_OCTAVE as f64).exp2();
        Some(Duration::from_nanos((middle * 1e3) as u64))
    }

    /// The mean. None when empty.
    pub fn mean(&self) -> Option<Duration> {
        self.sum_us.checked_div(self.count()).map(Duration::from_micros)
    }

    /// How many are not longer than `bound` microseconds. A bucket that the bound cuts counts in proportion, so the
    /// result grows with the bound.
    pub fn count_up_to(&self, bound: f64) -> u64 {
        let mut sum = 0;
        for (index, count) in self.counts.iter().enumerate() {
            let (from, to) = (if index == 0 { 0.0 } else { lower_bound(index) }, lower_bound(index + 1));
            if index == BUCKETS - 1 || from >= bound {
                break;
            }
            sum += if to <= bound { *count } else { (*count as f64 * (bound - from) / (to - from)) as u64 };
        }
        sum
    }

    /// Adds to one bucket. An unknown one is dropped.
    pub fn add_bucket(&mut self, bucket: u32, count: u64) {
        if (bucket as usize) < BUCKETS {
            self.add(bucket as usize, count);
        }
    }

    fn add(&mut self, index: usize, count: u64) {
        if count == 0 {
            return;
        }
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] = self.counts[index].wrapping_add(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bucket_begins_where_its_bound_says() {
        for index in 1..BUCKETS {
            let start = lower_bound(index).ceil() as u64;
            // Below a few hundred microseconds whole numbers are coarser than buckets.
            if lower_bound(index + 1) - lower_bound(index) > 2.0 {
                let step = start / 65_536 + 1;
                assert_eq!(bucket_of(start + step), index, "{start} µs");
                assert_eq!(bucket_of(start - step - 1), index - 1, "{start} µs");
            }
        }
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn what_was_counted_since_is_the_difference_and_a_restart_has_none() {
        let histogram = LogHistogram::default();
        let read = || {
            let mut snapshot = HistogramSnapshot::default();
            histogram.add_to(&mut snapshot);
            snapshot
        };
        histogram.observe(Duration::from_millis(3));
        let earlier = read();
        histogram.observe(Duration::from_millis(200));
        let since = read().since(&earlier).unwrap();
        assert_eq!((since.count(), since.sum_us), (1, 200_000));
        assert_eq!(HistogramSnapshot::default().since(&earlier), None);
    }

    #[test]
    fn an_idle_histogram_is_small() {
        assert!(size_of::<LogHistogram>() <= 128, "{}", size_of::<LogHistogram>());
    }

    proptest! {
        #[test]
        fn quantiles_are_within_five_percent(values in prop::collection::vec(500_u64..60_000_000, 1..400)) {
            let ours = LogHistogram::default();
            let mut exact = values.clone();
            exact.sort_unstable();
            values.iter().for_each(|v| ours.observe(Duration::from_micros(*v)));
            let mut snapshot = HistogramSnapshot::default();
            ours.add_to(&mut snapshot);
            for q in [0.5, 0.9, 0.99, 0.999] {
                let rank = ((q * values.len() as f64).ceil() as usize).max(1);
                let (want, got) = (exact[rank - 1] as f64, snapshot.quantile(q).unwrap().as_secs_f64() * 1e6);
                prop_assert!((got - want).abs() <= want * 0.05, "q{q}: {got} for {want}");
            }
        }

        #[test]
        fn merging_loses_nothing(a in prop::collection::vec(0_u64..1 << 40, 0..50), b in prop::collection::vec(0_u64..1 << 40, 0..50)) {
            let (one, two, both) = (LogHistogram::default(), LogHistogram::default(), LogHistogram::default());
            a.iter().for_each(|v| { one.observe(Duration::from_micros(*v)); both.observe(Duration::from_micros(*v)) });
            b.iter().for_each(|v| { two.observe(Duration::from_micros(*v)); both.observe(Duration::from_micros(*v)) });
            let mut merged = HistogramSnapshot::default();
            one.add_to(&mut merged);
            two.add_to(&mut merged);
            let mut want = HistogramSnapshot::default();
            both.add_to(&mut want);
            prop_assert_eq!(merged, want);
        }

        #[test]
        fn the_printed_buckets_never_go_down(values in prop::collection::vec(0_u64..1 << 36, 0..100)) {
            let snapshot = HistogramSnapshot::from_sparse(values.iter().map(|v| (bucket_of(*v) as u32, 1)), 0);
            let printed: Vec<u64> = MILLISECOND_BOUNDS.iter().map(|b| snapshot.count_up_to(b * 1e3)).collect();
            prop_assert!(printed.is_sorted());
            prop_assert!(*printed.last().unwrap() <= snapshot.count());
        }
    }
}
