//! Queries: what the dashboard shows, added up over a window that ends now.
//!
//! Both ends of a call may report it. The caller's side is taken where it exists, since it also sees calls that never
//! arrived; the other side is taken for callers without a proxy. A TCP connection does not say who made it, so where
//! callers report theirs to a service, what that service has from unknown callers is the same once more and left out;
//! connections that others make to it beside them are then not seen. Rates are over the time that reports cover, so that a
//! mesh which is 4 s old shows true numbers and not a fifteenth of them.

use std::collections::BTreeMap;
use std::time::Duration;

use leno_model::name::ServiceName;
use leno_telemetry::edge::{EdgeProtocol, Peer, Reporter};
use serde::Serialize;

use crate::ingest::Collector;
use crate::store::{SLOT, Series, SeriesKey, Tally, slot_of};

/// The shortest window: shorter ones would show the rhythm of reports.
pub const WINDOW_MIN: Duration = Duration::from_secs(10);

/// A distribution of durations in milliseconds; none when nothing was measured.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Latency {
    /// Half are not longer.
    pub p50: Option<f64>,
    /// 95 % are not longer.
    pub p95: Option<f64>,
    /// 99 % are not longer.
    pub p99: Option<f64>,
}

/// How requests ended that were not answered with 2xx or 3xx.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcomes {
    /// `503`, or `5xx`.
    pub code: String,
    /// The gRPC status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<u8>,
    /// The flag's code, `UF`; none when the answer came from the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flag: Option<&'static str>,
    /// The flag's reason, `connect_failure`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Whether it counts as an error.
    pub error: bool,
    /// A second.
    pub rate: f64,
}

/// What runs from one service to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EdgeView {
    /// Who calls: `web.shop`, or `unknown`.
    pub source: String,
    /// Who is called: `cart.shop`, `unknown`, `passthrough` or `overflow`.
    pub destination: String,
    /// `http`, `grpc` or `tcp`.
    pub protocol: &'static str,
    /// `unknown`, `none` or `mutual_tls`.
    pub security: &'static str,
    /// What was counted.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// The same by version of the instances that are called, sorted by version.
    pub versions: Vec<VersionView>,
}

/// Numbers of an edge, a service or a version.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Traffic {
    /// Requests a second.
    pub rate: f64,
    /// The share of requests that failed, 0 to 1.
    pub errors: f64,
    /// Durations.
    pub latency: Latency,
    /// Tries after the first, a second.
    pub retries: f64,
    /// Requests that are open.
    pub open: i64,
    /// TCP connections opened a second.
    pub connections: f64,
    /// TCP connections that are open.
    pub connections_open: i64,
    /// Bytes a second towards who is called.
    pub received: f64,
    /// Bytes a second towards who calls.
    pub sent: f64,
    /// How requests ended that did not end well, most first; at most 10.
    pub outcomes: Vec<Outcomes>,
}

/// The traffic of one version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionView {
    /// The version; empty for instances without one.
    pub version: String,
    /// Requests a second.
    pub rate: f64,
    /// The share of requests that failed, 0 to 1.
    pub errors: f64,
    /// Durations.
    pub latency: Latency,
}

/// A service, as those who call it see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceView {
    /// `cart.shop`.
    pub service: String,
    /// What was counted.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// The same by version.
    pub versions: Vec<VersionView>,
    /// Who calls it, sorted.
    pub callers: Vec<String>,
    /// Whom it calls, sorted.
    pub callees: Vec<String>,
}

/// One point of a service's series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Seconds before now at which its step began.
    pub age: u64,
    /// Requests a second.
    pub rate: f64,
    /// The share of requests that failed, 0 to 1.
    pub errors: f64,
    /// Durations.
    pub latency: Latency,
}

/// A proxy that reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProxyView {
    /// Its id.
    pub id: String,
    /// The service beside it.
    pub service: String,
    /// The instance beside it.
    pub instance: String,
    /// The version of leno.
    pub version: String,
    /// `sidecar` or `gateway`.
    pub role: String,
    /// Seconds since its last report.
    pub age: f64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Processors in use.
    pub cpu: f64,
    /// Open descriptors.
    pub fds: u64,
    /// Descriptors that it may open.
    pub fds_max: u64,
    /// Requests that are open through it.
    pub open: u64,
}

/// Tallies being added up.
#[derive(Default)]
struct Sum {
    tally: Tally,
    open: i64,
    connections_open: i64,
}

/// One edge being added up.
struct EdgeSum {
    protocol: EdgeProtocol,
    security: &'static str,
    all: Sum,
    versions: BTreeMap<String, Sum>,
}

// === impl Collector: queries ===

impl Collector {
    /// What ran between services in the last `window`, sorted by names. Edges without traffic that were seen within
    /// the hour are in it, with zeros: a map must not jump when traffic pauses.
    pub fn edges(&self, now: Duration, window: Duration) -> Vec<EdgeView> {
        let (from, to, seconds) = self.slots(now, window);
        let mut edges: BTreeMap<(&Peer, &Peer, EdgeProtocol), EdgeSum> = BTreeMap::new();
        for (key, series) in self.chosen(None) {
            let edge = edges.entry((&key.source, &key.destination, key.protocol)).or_insert_with(|| EdgeSum {
                protocol: key.protocol,
                security: series.security.as_str(),
                all: Sum::default(),
                versions: BTreeMap::new(),
            });
            let version = edge.versions.entry(key.version.as_deref().unwrap_or_default().to_owned()).or_default();
            series.add_to(from, to, &mut version.tally);
            version.open += series.requests_open;
            version.connections_open += series.connections_open;
        }
        edges.into_iter().map(|((source, destination, _), edge)| edge.view(source, destination, seconds)).collect()
    }

    /// Every service that was called or called others within the hour, with the traffic of the last `window`.
    pub fn services(&self, now: Duration, window: Duration) -> Vec<ServiceView> {
        let (from, to, seconds) = self.slots(now, window);
        let mut services: BTreeMap<&ServiceName, ServiceSum> = BTreeMap::new();
        for (key, series) in self.chosen(None) {
            if let Some(service) = key.destination.service() {
                let sum = services.entry(service).or_default();
                let version = sum.versions.entry(key.version.as_deref().unwrap_or_default().to_owned()).or_default();
                series.add_to(from, to, &mut version.tally);
                version.open += series.requests_open;
                version.connections_open += series.connections_open;
                sum.callers.push(key.source.to_string());
            }
            if let Some(service) = key.source.service() {
                services.entry(service).or_default().callees.push(key.destination.to_string());
            }
        }
        services.into_iter().map(|(service, sum)| sum.view(service, seconds)).collect()
    }

    /// The traffic of a service in steps of `step` (at least a slot), oldest first, without the step that runs.
    pub fn service_series(&self, now: Duration, service: &ServiceName, window: Duration, step: Duration) -> Vec<Point> {
        let per_step = (step.as_secs() / SLOT.as_secs()).max(1);
        let end = slot_of(now);
        // The clock begins with the process: before it there was nothing to count.
        let steps = (window.as_secs() / SLOT.as_secs() / per_step).clamp(1, 720).min(end / per_step);
        let start = end - steps * per_step;
        let mut sums: Vec<Tally> = (0..steps).map(|_| Tally::default()).collect();
        if end > start {
            for (_, series) in self.chosen(Some(service)) {
                for (slot, tally) in series.between(start, end - 1) {
                    if let Some(sum) = sums.get_mut(((slot - start) / per_step) as usize) {
                        sum.add(&tally);
                    }
                }
            }
        }
        let seconds = (per_step * SLOT.as_secs()) as f64;
        let point = |(n, tally): (usize, &Tally)| Point {
            age: now.as_secs().saturating_sub((start + n as u64 * per_step) * SLOT.as_secs()),
            rate: tally.requests() as f64 / seconds,
            errors: share(tally),
            latency: Latency::of(tally),
        };
        sums.iter().enumerate().map(point).collect()
    }

    /// Every proxy that reports, sorted by id.
    pub fn proxy_views(&self, now: Duration) -> Vec<ProxyView> {
        let mut views: Vec<ProxyView> = self
            .proxies()
            .map(|(id, proxy)| ProxyView {
                id: id.clone(),
                service: proxy.service.clone(),
                instance: proxy.instance.clone(),
                version: proxy.version.clone(),
                role: proxy.role.clone(),
                age: now.saturating_sub(proxy.seen).as_secs_f64(),
                rss_bytes: proxy.process.rss_bytes,
                cpu: proxy.cpu,
                fds: proxy.process.fds,
                fds_max: proxy.process.fds_max,
                open: proxy.edges.values().map(|seen| seen.open).sum(),
            })
            .collect();
        views.sort_by(|a, b| a.id.cmp(&b.id));
        views
    }

    /// The first and last slot of a window, and the seconds that they cover.
    fn slots(&self, now: Duration, window: Duration) -> (u64, u64, f64) {
        let covered = self.covered(now, window.max(WINDOW_MIN));
        let to = slot_of(now);
        let from = slot_of(now.saturating_sub(covered));
        // Slots are whole: the first one begins before the window does.
        let begun = Duration::from_secs(from * SLOT.as_secs());
        let seconds = now.saturating_sub(begun).min(covered + SLOT).as_secs_f64();
        let started = self.covered(now, Duration::MAX).as_secs_f64();
        (from, to, seconds.min(started).max(1.0))
    }

    /// The series that count: of each pair of services the caller's, or the called one's where the caller's is missing.
    /// With `to`, only those that lead there.
    fn chosen<'a>(&'a self, to: Option<&'a ServiceName>) -> impl Iterator<Item = (&'a SeriesKey, &'a Series)> {
        let wanted = move |key: &SeriesKey| to.is_none() || key.destination.service() == to;
        let pairs: std::collections::HashSet<(&Peer, &Peer)> = self
            .series()
            .iter()
            .filter(|(key, _)| key.reporter == Reporter::Source && wanted(key))
            .map(|(key, _)| (&key.source, &key.destination))
            .collect();
        let by_tcp = |key: &SeriesKey| key.reporter == Reporter::Source && key.protocol == EdgeProtocol::Tcp;
        let called_by_tcp: std::collections::HashSet<&Peer> =
            self.series().iter().filter(|(key, _)| by_tcp(key)).map(|(key, _)| &key.destination).collect();
        let is_told = move |key: &SeriesKey| {
            let unknown = key.protocol == EdgeProtocol::Tcp && key.source == Peer::Unknown;
            pairs.contains(&(&key.source, &key.destination)) || unknown && called_by_tcp.contains(&key.destination)
        };
        let series = self.series().iter();
        series.filter(move |(key, _)| wanted(key) && (key.reporter == Reporter::Source || !is_told(key)))
    }
}

/// One service being added up.
#[derive(Default)]
struct ServiceSum {
    versions: BTreeMap<String, Sum>,
    callers: Vec<String>,
    callees: Vec<String>,
}

// === impl ServiceSum, EdgeSum, Sum ===

impl ServiceSum {
    fn view(mut self, service: &ServiceName, seconds: f64) -> ServiceView {
        let mut all = Sum::default();
        self.versions.values().for_each(|sum| all.add(sum));
        for names in [&mut self.callers, &mut self.callees] {
            names.sort_unstable();
            names.dedup();
        }
        ServiceView {
            service: service.to_string(),
            traffic: all.traffic(seconds),
            versions: versions(&self.versions, seconds),
            callers: self.callers,
            callees: self.callees,
        }
    }
}

impl EdgeSum {
    fn view(mut self, source: &Peer, destination: &Peer, seconds: f64) -> EdgeView {
        self.versions.values().for_each(|sum| self.all.add(sum));
        EdgeView {
            source: source.to_string(),
            destination: destination.to_string(),
            protocol: self.protocol.as_str(),
            security: self.security,
            traffic: self.all.traffic(seconds),
            versions: versions(&self.versions, seconds),
        }
    }
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.tally.add(&other.tally);
        self.open += other.open;
        self.connections_open += other.connections_open;
    }

    fn traffic(&self, seconds: f64) -> Traffic {
        let tally = &self.tally;
        let mut outcomes: Vec<Outcomes> = tally
            .outcomes
            .iter()
            .filter(|(outcome, _)| outcome.is_error() || outcome.flag.is_some() || outcome.status >= 400)
            .map(|(outcome, count)| Outcomes {
                code: outcome.code(),
                grpc: outcome.grpc_status,
                flag: outcome.flag.map(|flag| flag.code()),
                reason: outcome.flag.map(|flag| flag.reason()),
                error: outcome.is_error(),
                rate: *count as f64 / seconds,
            })
            .collect();
        outcomes.sort_by(|a, b| b.rate.total_cmp(&a.rate).then_with(|| a.code.cmp(&b.code)));
        outcomes.truncate(10);
        Traffic {
            rate: tally.requests() as f64 / seconds,
            errors: share(tally),
            latency: Latency::of(tally),
            retries: tally.retries as f64 / seconds,
            open: self.open.max(0),
            connections: tally.connections_opened as f64 / seconds,
            connections_open: self.connections_open.max(0),
            received: tally.received.saturating_add(tally.tcp_received) as f64 / seconds,
            sent: tally.sent.saturating_add(tally.tcp_sent) as f64 / seconds,
            outcomes,
        }
    }
}

/// Versions with their traffic. One alone without a name is no version.
fn versions(sums: &BTreeMap<String, Sum>, seconds: f64) -> Vec<VersionView> {
    let named = sums.keys().any(|version| !version.is_empty());
    let view = |(version, sum): (&String, &Sum)| VersionView {
        version: version.clone(),
        rate: sum.tally.requests() as f64 / seconds,
        errors: share(&sum.tally),
        latency: Latency::of(&sum.tally),
    };
    if named { sums.iter().map(view).collect() } else { Vec::new() }
}

fn share(tally: &Tally) -> f64 {
    match tally.requests() {
        0 => 0.0,
        requests => tally.errors() as f64 / requests as f64,
    }
}

// === impl Latency ===

impl Latency {
    fn of(tally: &Tally) -> Self {
        let quantile = |q| tally.latency.quantile(q).map(|time| (time.as_secs_f64() * 1e6).round() / 1e3);
        Self { p50: quantile(0.5), p95: quantile(0.95), p99: quantile(0.99) }
    }
}

#[cfg(test)]
mod tests;
