//! Taking reports in: what is new in a report is its difference to the last one of the same proxy.
//!
//! Counts are cumulative, so a report that is lost, late or doubled changes nothing in the sum. Where a proxy is not
//! known yet, its first report is counted when it is the first of its life, and is only remembered otherwise: then the
//! collector is the one that was restarted, and an hour of requests must not show up in one slot.

use std::collections::HashMap;
use std::time::Duration;

use leno_telemetry::edge::{EdgeKey, EdgeSnapshot};
use leno_telemetry::report::{Process, Report};

use crate::Limits;
use crate::policy::Policies;
use crate::store::{SLOT, Series5s, SeriesKey, Tally, slot_of};

/// Takes reports, keeps tallies, answers queries.
#[derive(Debug)]
pub struct Collector {
    limits: Limits,
    proxies: HashMap<String, Proxy>,
    series: Series5s,
    /// The first report of all.
    started: Option<Duration>,
    swept: u64,
    ignored: u64,
    /// States of policies of all proxies.
    pub(crate) policies: usize,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was counted.
    Counted,
    /// It was counted, but the proxy is not known from before and its report does not hold all edges: what it left out
    /// is wanted.
    Incomplete,
    /// It was ignored: doubled, malformed or beyond a limit.
    Ignored,
}

/// What is known of a proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    incarnation: u64,
    sequence: u64,
    /// Whether all its edges are in `edges`.
    complete: bool,
    pub(crate) service: String,
    pub(crate) instance: String,
    pub(crate) version: String,
    pub(crate) role: String,
    pub(crate) process: Process,
    /// Processors in use, from the last two reports.
    pub(crate) cpu: f64,
    pub(crate) seen: Duration,
    /// By the proxy's clock, for `cpu`.
    wall_ms: u64,
    pub(crate) edges: HashMap<EdgeKey, EdgeSnapshot>,
    pub(crate) policies: Policies,
}

/// Time between two reports of a proxy, for few proxies.
pub const EVERY: Duration = Duration::from_secs(1);
/// Time between two reports at most.
pub const EVERY_MAX: Duration = Duration::from_secs(30);
/// Reports a second that a server asks for at most.
const REPORTS_A_SECOND: u32 = 1_000;
/// Bytes of a text that a proxy says about itself.
const TEXT_MAX: usize = 256;

// === impl Collector ===

impl Collector {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        let (proxies, series) = (HashMap::new(), Series5s::default());
        Self { limits, proxies, series, started: None, swept: 0, ignored: 0, policies: 0 }
    }

    /// Takes a report that arrived at `now`.
    pub fn ingest(&mut self, now: Duration, report: &Report) -> Taken {
        self.started.get_or_insert(now);
        self.sweep(now);
        let known = self.proxies.get(&report.proxy);
        let unknown = known.is_none();
        let stale = known.is_some_and(|known| {
            report.incarnation < known.incarnation
                || report.incarnation == known.incarnation && report.sequence <= known.sequence
        });
        let unfit = report.proxy.is_empty() || report.proxy.len() > TEXT_MAX;
        if stale || unfit || unknown && self.proxies.len() >= self.limits.proxies {
            self.ignored += 1;
            return Taken::Ignored;
        }
        let restarted = known.is_some_and(|known| known.incarnation != report.incarnation);
        if restarted {
            self.forget(&report.proxy.clone());
        }
        let mut proxy = match self.proxies.remove(&report.proxy) {
            Some(proxy) => proxy,
            None => Proxy::new(report),
        };
        // Counts of an edge that is new here are new only if everything before is known.
        let counts = proxy.complete || report.sequence <= 1;
        proxy.complete = counts || report.full;
        proxy.update(now, report);
        self.take_policies(&mut proxy, report);
        for edge in &report.edges {
            let Some(key) = edge.key() else {
                self.ignored += 1;
                continue;
            };
            self.take(now, &mut proxy, key, edge.snapshot(), counts);
        }
        let taken = if proxy.complete { Taken::Counted } else { Taken::Incomplete };
        self.proxies.insert(report.proxy.clone(), proxy);
        taken
    }

    /// Takes how policies stand, as many as there is room for.
    fn take_policies(&mut self, proxy: &mut Proxy, report: &Report) {
        let others = self.policies - proxy.policies.len();
        let (kept, refused) = proxy.policies.take(report, self.limits.policies.saturating_sub(others));
        self.policies = others + kept;
        self.ignored += refused;
    }

    /// Takes one edge of a report. `counts` says that what is not known of it yet is new.
    fn take(&mut self, now: Duration, proxy: &mut Proxy, key: EdgeKey, seen: EdgeSnapshot, counts: bool) {
        if proxy.edges.len() >= self.limits.edges_per_proxy && !proxy.edges.contains_key(&key) {
            self.ignored += 1;
            return;
        }
        let series = self.series.entry(SeriesKey::from(&key), self.limits.edges);
        series.security = key.security;
        let before = proxy.edges.get(&key);
        let nothing = EdgeSnapshot::default();
        if before.is_some() || counts {
            let tally = Tally::between(before.unwrap_or(&nothing), &seen);
            if !tally.is_empty() {
                series.add(slot_of(now), &tally);
            }
        }
        let (requests, connections) = before.map_or((0, 0), open);
        series.requests_open += open(&seen).0 - requests;
        series.connections_open += open(&seen).1 - connections;
        proxy.edges.insert(key, seen);
    }

    /// Forgets what is too old. Called with each report and before each query; works once a slot.
    pub fn sweep(&mut self, now: Duration) {
        let slot = slot_of(now);
        if slot == self.swept {
            return;
        }
        self.swept = slot;
        let shown = self.limits.proxy_shown;
        let gone: Vec<String> = self
            .proxies
            .iter()
            .filter(|(_, proxy)| now.saturating_sub(proxy.seen) > shown)
            .map(|(id, _)| id.clone())
            .collect();
        gone.iter().for_each(|id| self.forget(id));
        self.series.forget_before(slot.saturating_sub(self.limits.keep.as_secs() / SLOT.as_secs()));
    }

    /// Forgets a proxy and what was open through it.
    fn forget(&mut self, id: &str) {
        let Some(proxy) = self.proxies.remove(id) else { return };
        self.policies -= proxy.policies.len();
        for (key, seen) in &proxy.edges {
            if let Some(series) = self.series.existing(&SeriesKey::from(key)) {
                let (requests, connections) = open(seen);
                series.requests_open -= requests;
                series.connections_open -= connections;
            }
        }
    }

    /// Reports and edges that were not taken: doubled, malformed or beyond a limit.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// How often a proxy is to report, so that all together are not too many.
    pub fn report_every(&self) -> Duration {
        let proxies = u32::try_from(self.proxies.len()).unwrap_or(u32::MAX);
        (EVERY * (proxies / REPORTS_A_SECOND + 1)).min(EVERY_MAX)
    }

    /// How many proxies are known.
    pub fn proxies_known(&self) -> usize {
        self.proxies.len()
    }

    pub(crate) fn proxies(&self) -> impl Iterator<Item = (&String, &Proxy)> {
        self.proxies.iter()
    }

    pub(crate) fn series(&self) -> &Series5s {
        &self.series
    }

    /// How long reports have come in, at most `window`.
    pub(crate) fn covered(&self, now: Duration, window: Duration) -> Duration {
        let since = self.started.map_or(Duration::ZERO, |started| now.saturating_sub(started));
        since.clamp(Duration::from_secs(1), window.max(Duration::from_secs(1)))
    }
}

/// Requests and connections that are open.
fn open(seen: &EdgeSnapshot) -> (i64, i64) {
    let connections = seen.connections_opened.saturating_sub(seen.connections_closed);
    let small = |n: u64| i64::try_from(n).unwrap_or(0);
    (small(seen.open), small(connections))
}

// === impl Proxy ===

impl Proxy {
    fn new(report: &Report) -> Self {
        Self {
            incarnation: report.incarnation,
            sequence: 0,
            complete: false,
            service: String::new(),
            instance: String::new(),
            version: String::new(),
            role: String::new(),
            process: Process::default(),
            cpu: 0.0,
            seen: Duration::ZERO,
            wall_ms: 0,
            edges: HashMap::new(),
            policies: Policies::default(),
        }
    }

    fn update(&mut self, now: Duration, report: &Report) {
        let process = report.process.unwrap_or_default();
        let elapsed = report.wall_ms.saturating_sub(self.wall_ms);
        if self.sequence > 0 && elapsed > 0 {
            self.cpu = process.cpu_ms.saturating_sub(self.process.cpu_ms) as f64 / elapsed as f64;
        }
        let text = |text: &str| text.chars().take(TEXT_MAX).filter(|c| !c.is_control()).collect();
        (self.service, self.instance) = (text(&report.service), text(&report.instance));
        (self.version, self.role) = (text(&report.version), text(&report.role));
        (self.sequence, self.wall_ms, self.seen, self.process) = (report.sequence, report.wall_ms, now, process);
    }
}

#[cfg(test)]
pub(crate) mod tests;
