use leno_model::seam::Timestamp;
use leno_telemetry::edge::{EdgeProtocol, Reporter as Side, RequestRecord};
use leno_telemetry::metric::Limits as MetricLimits;
use leno_telemetry::report::{Origin, Reporter};
use leno_telemetry::{Edge, Flag, Registry};

use super::*;

/// A proxy with its own registry that reports to a collector.
pub(crate) struct Fake {
    pub(crate) registry: Registry,
    pub(crate) reporter: Reporter,
}

impl Fake {
    pub(crate) fn new(id: &str, incarnation: u64) -> Self {
        let origin = Origin { proxy: id.into(), incarnation, service: "web.shop".into(), ..Origin::default() };
        Self { registry: Registry::new(0, MetricLimits::default()), reporter: Reporter::new(origin) }
    }

    pub(crate) fn edge(&self, reporter: Side, source: &str, destination: &str, version: &str) -> std::sync::Arc<Edge> {
        let destination_version = (!version.is_empty()).then(|| version.into());
        self.edge_of(EdgeKey { destination_version, ..key(reporter, source, destination, EdgeProtocol::Http) })
    }

    pub(crate) fn tcp(&self, reporter: Side, source: &str, destination: &str) -> std::sync::Arc<Edge> {
        self.edge_of(key(reporter, source, destination, EdgeProtocol::Tcp))
    }

    fn edge_of(&self, key: EdgeKey) -> std::sync::Arc<Edge> {
        self.registry.edge(&key)
    }

    pub(crate) fn cart(&self) -> std::sync::Arc<Edge> {
        self.edge(Side::Source, "web.shop", "cart.shop", "")
    }

    pub(crate) fn report(&mut self) -> Report {
        self.reporter.report(&self.registry, Timestamp(0))
    }
}

fn key(reporter: Side, source: &str, destination: &str, protocol: EdgeProtocol) -> EdgeKey {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    EdgeKey { reporter, source, destination, protocol, ..EdgeKey::default() }
}

pub(crate) fn request(edge: &Edge, status: u16, ms: u64) {
    let flag = (status == 503).then_some(Flag::ConnectFailure);
    let record = RequestRecord { status, flag, duration: Duration::from_millis(ms), ..Default::default() };
    edge.request(&record);
}

pub(crate) fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Requests of the last hour.
fn requests(collector: &Collector) -> u64 {
    collector
        .series()
        .iter()
        .flat_map(|(_, series)| series.between(0, u64::MAX))
        .map(|(_, tally)| tally.requests())
        .sum()
}

#[test]
fn only_what_is_new_in_a_report_is_counted() {
    let (mut collector, mut proxy) = (Collector::new(Limits::default()), Fake::new("p1", 1));
    let cart = proxy.cart();
    for second in 100..110 {
        request(&cart, 200, 1);
        collector.ingest(at(second), &proxy.report());
    }
    assert_eq!(requests(&collector), 10);
}

#[test]
fn a_report_that_arrives_twice_or_late_counts_once() {
    let (mut collector, mut proxy) = (Collector::new(Limits::default()), Fake::new("p1", 1));
    let cart = proxy.cart();
    request(&cart, 200, 1);
    let first = proxy.report();
    request(&cart, 200, 1);
    let second = proxy.report();
    for report in [&first, &second, &second, &first] {
        collector.ingest(at(100), report);
    }
    assert_eq!((requests(&collector), collector.ignored()), (2, 2));
}

#[test]
fn a_report_that_is_lost_is_made_up_by_the_next() {
    let (mut collector, mut proxy) = (Collector::new(Limits::default()), Fake::new("p1", 1));
    let cart = proxy.cart();
    request(&cart, 200, 1);
    collector.ingest(at(100), &proxy.report());
    request(&cart, 200, 1);
    let _lost = proxy.report();
    request(&cart, 200, 1);
    collector.ingest(at(102), &proxy.report());
    assert_eq!(requests(&collector), 3);
}

#[test]
fn a_proxy_that_was_restarted_counts_from_zero() {
    let (mut collector, mut proxy) = (Collector::new(Limits::default()), Fake::new("p1", 1));
    (0..5).for_each(|_| request(&proxy.cart(), 200, 1));
    collector.ingest(at(100), &proxy.report());
    let mut again = Fake::new("p1", 2);
    (0..7).for_each(|_| request(&again.cart(), 200, 1));
    collector.ingest(at(101), &again.report());
    collector.ingest(at(102), &proxy.report());
    assert_eq!((requests(&collector), collector.ignored()), (12, 1));
}

#[test]
fn a_collector_that_was_restarted_counts_no_past() {
    let mut proxy = Fake::new("p1", 1);
    let cart = proxy.cart();
    (0..1000).for_each(|_| request(&cart, 200, 1));
    proxy.report();
    proxy.reporter.reset();
    let mut collector = Collector::new(Limits::default());
    collector.ingest(at(100), &proxy.report());
    assert_eq!(requests(&collector), 0);
    request(&cart, 200, 1);
    request(&proxy.edge(Side::Source, "web.shop", "new.shop", ""), 200, 1);
    collector.ingest(at(101), &proxy.report());
    assert_eq!(requests(&collector), 2);
}

#[test]
fn an_edge_that_was_forgotten_by_its_proxy_counts_from_zero() {
    let (mut collector, mut proxy) = (Collector::new(Limits::default()), Fake::new("p1", 1));
    (0..5).for_each(|_| request(&proxy.cart(), 200, 1));
    collector.ingest(at(100), &proxy.report());
    proxy.registry.sweep(at(1), at(0));
    proxy.registry.sweep(at(2), at(0));
    (0..3).for_each(|_| request(&proxy.cart(), 200, 1));
    collector.ingest(at(101), &proxy.report());
    assert_eq!(requests(&collector), 8);
}

#[test]
fn what_is_open_is_known_until_the_proxy_is_gone() {
    let (mut collector, mut proxy) = (Collector::new(Limits::default()), Fake::new("p1", 1));
    let cart = proxy.cart();
    let _open = cart.open();
    collector.ingest(at(100), &proxy.report());
    assert_eq!(collector.edges(at(100), at(60))[0].traffic.open, 1);
    collector.sweep(at(9_000));
    assert_eq!((collector.edges(at(9_000), at(60)), collector.proxies_known()), (vec![], 0));
}

#[test]
fn hostile_reports_grow_nothing_beyond_the_limits() {
    let limits = Limits { edges: 3, edges_per_proxy: 2, proxies: 2, ..Limits::default() };
    let mut collector = Collector::new(limits);
    for id in ["", "p1", "p2", "p3"] {
        let mut proxy = Fake::new(id, 1);
        for n in 0..5 {
            request(&proxy.edge(Side::Source, "web.shop", &format!("{id}s{n}.shop"), ""), 200, 1);
        }
        collector.ingest(at(100), &proxy.report());
    }
    assert_eq!((collector.proxies_known(), collector.series().len()), (2, 4));
    let forged = Report {
        proxy: "p1".into(),
        incarnation: u64::MAX,
        sequence: 1,
        service: "<b>\n".repeat(999),
        ..Report::default()
    };
    collector.ingest(at(101), &forged);
    assert!(collector.proxy_views(at(101)).iter().all(|p| p.service.len() <= TEXT_MAX && !p.service.contains('\n')));
}

#[test]
fn the_processors_in_use_are_the_difference_of_two_reports() {
    let mut collector = Collector::new(Limits::default());
    for (sequence, wall_ms, cpu_ms) in [(1, 1_000, 500), (2, 2_000, 750)] {
        let process = Some(Process { cpu_ms, rss_bytes: 9 << 20, ..Process::default() });
        collector.ingest(at(sequence), &Report { proxy: "p1".into(), sequence, wall_ms, process, ..Report::default() });
    }
    let view = &collector.proxy_views(at(3))[0];
    assert_eq!((view.cpu, view.rss_bytes, view.age), (0.25, 9 << 20, 1.0));
}
