//! Metrics: a registry that hands out handles, and the handles that count.
//!
//! A series is resolved once, when configuration is made: [`Registry::counter`] takes a lock and compares strings.
//! The handle it returns is an `Arc` and counts without either. The shapes of the two Rust peers were rejected: a
//! `Family` look-up per request (prometheus-client) is a lock and a hash, a global recorder (metrics) hides who counts.
//!
//! Limits: at most [`Limits::series_per_family`] series in a family; what comes later is counted into one series
//! whose label values are `overflow`, so that sums stay right.

mod exposition;
mod histogram;
pub mod shard;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use exposition::LabelText;
pub use exposition::{Exposition, Kind};
pub use histogram::{BUCKETS, HistogramSnapshot, LogHistogram, MILLISECOND_BOUNDS, SECOND_BOUNDS, Unit};

use crate::edge::{Edge, EdgeKey};
use shard::PerShard;

/// How much a registry holds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Series in one family. Default 1,000.
    pub series_per_family: usize,
    /// Edges. Default 2,000: at a kilobyte each, 2 MB.
    pub edges: usize,
}

/// All metrics of a process. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    shards: usize,
    limits: Limits,
    families: Mutex<BTreeMap<String, Family>>,
    edges: Mutex<HashMap<EdgeKey, Kept>>,
    collectors: Mutex<Vec<Collector>>,
    overflowed: AtomicU64,
}

/// Writes families that are computed when they are read.
type Collector = Box<dyn Fn(&mut Exposition) + Send + Sync>;

struct Kept {
    edge: Arc<Edge>,
    /// The total at the last sweep and when it last changed.
    total: u64,
    changed: Duration,
}

struct Family {
    help: String,
    kind: Kind,
    series: BTreeMap<Labels, Value>,
}

type Labels = Vec<(String, String)>;

enum Value {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram, Unit),
    Read(Box<dyn Fn() -> f64 + Send + Sync>),
}

/// A number that only grows.
#[derive(Clone)]
pub struct Counter {
    cells: Arc<PerShard<AtomicU64>>,
}

/// A number that goes up and down.
#[derive(Clone, Default)]
pub struct Gauge {
    bits: Arc<std::sync::atomic::AtomicI64>,
}

/// A distribution of durations.
#[derive(Clone)]
pub struct Histogram {
    cells: Arc<PerShard<LogHistogram>>,
}

// === impl Registry ===

impl Registry {
    /// A registry for `workers` workers, which call [`shard::enter`], and any number of other threads.
    pub fn new(workers: usize, limits: Limits) -> Self {
        let inner = Inner {
            shards: workers + 1,
            limits,
            families: Mutex::default(),
            edges: Mutex::default(),
            collectors: Mutex::default(),
            overflowed: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The counter `name{labels}`, made at its first mention. Names end in `_total`.
    pub fn counter(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Counter {
        let shards = self.inner.shards;
        let made = self.series(name, help, Kind::Counter, labels, || Value::Counter(Counter::new(shards)));
        match made {
            Some(Value::Counter(counter)) => counter,
            _ => Counter::new(shards),
        }
    }

    /// The gauge `name{labels}`, made at its first mention.
    pub fn gauge(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Gauge {
        match self.series(name, help, Kind::Gauge, labels, || Value::Gauge(Gauge::default())) {
            Some(Value::Gauge(gauge)) => gauge,
            _ => Gauge::default(),
        }
    }

    /// The histogram `name{labels}`, printed in `unit` with that unit's bounds. Made at its first mention.
    pub fn histogram(&self, name: &str, help: &str, labels: &[(&str, &str)], unit: Unit) -> Histogram {
        let shards = self.inner.shards;
        let make = || Value::Histogram(Histogram::new(shards), unit);
        match self.series(name, help, Kind::Histogram, labels, make) {
            Some(Value::Histogram(histogram, _)) => histogram,
            _ => Histogram::new(shards),
        }
    }

    /// A gauge whose value is asked for when it is read. `read` is short and takes no lock that recording takes.
    pub fn gauge_from(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.series(name, help, Kind::Gauge, labels, || Value::Read(Box::new(read)));
    }

    /// Families that are computed when they are read, as the state of each endpoint.
    pub fn collector(&self, collect: impl Fn(&mut Exposition) + Send + Sync + 'static) {
        lock(&self.inner.collectors).push(Box::new(collect));
    }

    /// The edge of a key, made at its first mention. Beyond [`Limits::edges`] all share one edge of their kind.
    pub fn edge(&self, key: &EdgeKey) -> Arc<Edge> {
        let mut edges = lock(&self.inner.edges);
        if let Some(kept) = edges.get(key) {
            return kept.edge.clone();
        }
        let full = edges.len() >= self.inner.limits.edges;
        let key = if full { key.overflow() } else { key.clone() };
        if full {
            self.inner.overflowed.fetch_add(1, Relaxed);
        }
        let make =
            || Kept { edge: Arc::new(Edge::new(key.clone(), self.inner.shards)), total: 0, changed: Duration::ZERO };
        edges.entry(key.clone()).or_insert_with(make).edge.clone()
    }

    /// Every edge, for reading.
    pub fn edges(&self) -> Vec<Arc<Edge>> {
        lock(&self.inner.edges).values().map(|kept| kept.edge.clone()).collect()
    }

    /// Forgets edges that no table refers to and that have not counted for `idle`. Called every few seconds.
    pub fn sweep(&self, now: Duration, idle: Duration) {
        lock(&self.inner.edges).retain(|_, kept| {
            let total = kept.edge.total();
            if total != kept.total || kept.changed == Duration::ZERO {
                (kept.total, kept.changed) = (total, now.max(Duration::from_nanos(1)));
            }
            Arc::strong_count(&kept.edge) > 1 || now.saturating_sub(kept.changed) < idle
        });
    }

    /// How many series and edges were asked for beyond the limits.
    pub fn overflowed(&self) -> u64 {
        self.inner.overflowed.load(Relaxed)
    }

    /// All metrics in the Prometheus text format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut out = Exposition::default();
        for (name, family) in lock(&self.inner.families).iter() {
            out.family(name, &family.help, family.kind);
            for (labels, value) in &family.series {
                value.write(&mut out, name, labels);
            }
        }
        crate::istio::render(&self.edges(), &mut out);
        out.family("leno_series_overflow_total", "Series and edges asked for beyond the limits.", Kind::Counter);
        out.sample("leno_series_overflow_total", &[], self.overflowed() as f64);
        for collect in lock(&self.inner.collectors).iter() {
            collect(&mut out);
        }
        out.into_text()
    }

    /// Finds or makes a series. None when the name is in use for another kind of metric: then the caller counts into
    /// a handle that nobody reads, which is better than a panic and as visible as a missing series.
    fn series(
        &self,
        name: &str,
        help: &str,
        kind: Kind,
        labels: &[(&str, &str)],
        make: impl FnOnce() -> Value,
    ) -> Option<Value> {
        debug_assert!(exposition::is_name(name), "{name:?} is not a metric name");
        let mut families = lock(&self.inner.families);
        let family = families.entry(name.to_owned()).or_insert_with(|| Family {
            help: help.to_owned(),
            kind,
            series: BTreeMap::new(),
        });
        debug_assert!(family.kind == kind, "{name} is a {:?} already", family.kind);
        if family.kind != kind {
            return None;
        }
        let mut labels: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        if !family.series.contains_key(&labels) && family.series.len() >= self.inner.limits.series_per_family {
            self.inner.overflowed.fetch_add(1, Relaxed);
            labels.iter_mut().for_each(|(_, value)| *value = "overflow".to_owned());
        }
        family.series.entry(labels).or_insert_with(make).handle()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { series_per_family: 1_000, edges: 2_000 }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let families = lock(&self.inner.families).len();
        f.debug_struct("Registry").field("shards", &self.inner.shards).field("families", &families).finish()
    }
}

/// A panic while a map is being read cannot leave it half written, so poisoning is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Value ===

impl Value {
    fn handle(&self) -> Option<Value> {
        match self {
            Self::Counter(counter) => Some(Self::Counter(counter.clone())),
            Self::Gauge(gauge) => Some(Self::Gauge(gauge.clone())),
            Self::Histogram(histogram, unit) => Some(Self::Histogram(histogram.clone(), *unit)),
            Self::Read(_) => None,
        }
    }

    fn write(&self, out: &mut Exposition, name: &str, labels: &Labels) {
        let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        match self {
            Self::Counter(counter) => out.sample(name, &labels, counter.get() as f64),
            Self::Gauge(gauge) => out.sample(name, &labels, gauge.get() as f64),
            Self::Read(read) => out.sample(name, &labels, read()),
            Self::Histogram(histogram, unit) => out.histogram(name, &labels, &histogram.snapshot(), *unit),
        }
    }
}

// === impl Counter ===

impl Counter {
    fn new(shards: usize) -> Self {
        Self { cells: Arc::new(PerShard::new(shards)) }
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.cells.here().fetch_add(n, Relaxed);
    }

    /// The sum over all shards.
    pub fn get(&self) -> u64 {
        self.cells.iter().map(|cell| cell.load(Relaxed)).sum()
    }
}

impl Default for Counter {
    /// A counter that stands in no registry.
    fn default() -> Self {
        Self::new(1)
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counter({})", self.get())
    }
}

// === impl Gauge ===

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: i64) {
        self.bits.store(value, Relaxed);
    }

    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.bits.fetch_add(n, Relaxed);
    }

    /// The value.
    pub fn get(&self) -> i64 {
        self.bits.load(Relaxed)
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gauge({})", self.get())
    }
}

// === impl Histogram ===

impl Histogram {
    fn new(shards: usize) -> Self {
        Self { cells: Arc::new(PerShard::new(shards)) }
    }

    /// Counts one duration.
    pub fn observe(&self, value: Duration) {
        self.cells.here().observe(value);
    }

    /// The sum over all shards.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut all = HistogramSnapshot::default();
        self.cells.iter().for_each(|cell| cell.add_to(&mut all));
        all
    }
}

impl Default for Histogram {
    /// A histogram that stands in no registry.
    fn default() -> Self {
        Self::new(1)
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({})", self.snapshot().count())
    }
}

#[cfg(test)]
mod tests;
