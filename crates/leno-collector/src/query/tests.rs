use super::*;
use crate::Limits;
use crate::ingest::tests::{Fake, at, request};

/// A minute of 10 requests a second from web to cart, of which each tenth fails; two thirds go to v1.
fn shop() -> Collector {
    let mut collector = Collector::new(Limits::default());
    let mut proxy = Fake::new("p1", 1);
    let v1 = proxy.edge(Reporter::Source, "web.shop", "cart.shop", "v1");
    let v2 = proxy.edge(Reporter::Source, "web.shop", "cart.shop", "v2");
    for second in 0..60 {
        for n in 0..9 {
            request(if n % 3 == 0 { &v2 } else { &v1 }, 200, 4);
        }
        request(&v1, 503, 40);
        collector.ingest(at(1_000 + second), &proxy.report());
    }
    collector
}

#[test]
fn an_edge_has_rate_errors_and_durations() {
    let edges = shop().edges(at(1_060), at(60));
    let [edge] = edges.as_slice() else { panic!("{edges:?}") };
    assert_eq!((edge.source.as_str(), edge.destination.as_str(), edge.protocol), ("web.shop", "cart.shop", "http"));
    let traffic = &edge.traffic;
    assert!((traffic.rate - 10.0).abs() < 0.01 && (traffic.errors - 0.1).abs() < 0.001, "{traffic:?}");
    let (p50, p99) = (traffic.latency.p50.unwrap(), traffic.latency.p99.unwrap());
    assert!((3.8..4.2).contains(&p50) && (38.0..42.0).contains(&p99), "{traffic:?}");
    let failed = &traffic.outcomes[0];
    assert_eq!((failed.code.as_str(), failed.flag, failed.reason), ("503", Some("UF"), Some("connect_failure")));
}

#[test]
fn the_versions_of_an_edge_add_up_to_it() {
    let edge = shop().edges(at(1_060), at(60)).remove(0);
    let rates: Vec<_> = edge.versions.iter().map(|v| (v.version.as_str(), v.rate.round(), v.errors > 0.0)).collect();
    assert_eq!(rates, [("v1", 7.0, true), ("v2", 3.0, false)]);
}

#[test]
fn a_short_window_shows_what_happened_in_it() {
    let collector = shop();
    assert!((collector.edges(at(1_060), at(15))[0].traffic.rate - 10.0).abs() < 0.5);
    let later = &collector.edges(at(1_120), at(30))[0].traffic;
    assert_eq!((later.rate, later.latency.p50), (0.0, None));
}

#[test]
fn a_young_mesh_shows_true_rates() {
    let mut collector = Collector::new(Limits::default());
    let mut proxy = Fake::new("p1", 1);
    for second in 0..4 {
        (0..10).for_each(|_| request(&proxy.cart(), 200, 1));
        collector.ingest(at(1_001 + second), &proxy.report());
    }
    let rate = collector.edges(at(1_005), at(60))[0].traffic.rate;
    assert!((rate - 10.0).abs() < 0.1, "{rate}");
}

#[test]
fn the_callers_side_is_taken_where_both_report() {
    let mut collector = Collector::new(Limits::default());
    let (mut web, mut cart) = (Fake::new("web", 1), Fake::new("cart", 1));
    let near = web.cart();
    let far = cart.edge(Reporter::Destination, "web.shop", "cart.shop", "");
    let foreign = cart.edge(Reporter::Destination, "unknown", "cart.shop", "");
    for _ in 0..60 {
        request(&near, 200, 5);
        request(&far, 200, 3);
        request(&foreign, 200, 3);
    }
    collector.ingest(at(1_000), &web.report());
    collector.ingest(at(1_000), &cart.report());
    let edges = collector.edges(at(1_060), at(60));
    let rates: Vec<_> =
        edges.iter().map(|e| (e.source.as_str(), e.traffic.rate, e.traffic.latency.p50 > Some(4.0))).collect();
    assert_eq!(rates, [("unknown", 1.0, false), ("web.shop", 1.0, true)]);
}

#[test]
fn a_service_knows_who_calls_it_and_whom_it_calls() {
    let services = shop().services(at(1_060), at(60));
    let of = |name: &str| services.iter().find(|view| view.service == name).unwrap();
    assert_eq!(
        (of("cart.shop").callers.as_slice(), of("cart.shop").traffic.rate.round()),
        (["web.shop".to_owned()].as_slice(), 10.0)
    );
    assert_eq!(
        (of("web.shop").callees.as_slice(), of("web.shop").traffic.rate),
        (["cart.shop".to_owned()].as_slice(), 0.0)
    );
}

#[test]
fn a_series_has_a_point_for_each_step() {
    let points = shop().service_series(at(1_060), &"cart.shop".parse().unwrap(), at(60), at(10));
    assert_eq!(
        points.iter().map(|p| (p.age, p.rate, p.errors)).collect::<Vec<_>>(),
        [60, 50, 40, 30, 20, 10].map(|age| (age, 10.0, 0.1))
    );
}

#[test]
fn views_are_documents() {
    let collector = shop();
    let mut out = Vec::new();
    out.extend(collector.edges(at(1_060), at(60)).iter().map(|view| view.source.clone()));
    out.extend(collector.proxy_views(at(1_060)).into_iter().map(|view| view.service));
    assert_eq!(out, ["web.shop", "web.shop"]);
}

#[test]
fn a_connection_that_both_ends_report_counts_once() {
    let mut collector = Collector::new(Limits::default());
    let (mut web, mut db) = (Fake::new("p1", 1), Fake::new("p2", 1));
    for (proxy, reporter, source) in
        [(&mut web, Reporter::Source, "web.shop"), (&mut db, Reporter::Destination, "unknown")]
    {
        let edge = proxy.tcp(reporter, source, "db.shop");
        (0..10).for_each(|_| edge.connection_opened());
        edge.tcp_bytes(100, 200);
        collector.ingest(at(1_001), &proxy.report());
    }
    let edges = collector.edges(at(1_002), at(60));
    assert_eq!(edges.iter().map(|edge| edge.source.as_str()).collect::<Vec<_>>(), ["web.shop"]);
    let services = collector.services(at(1_002), at(60));
    let db = services.iter().find(|service| service.service == "db.shop").unwrap();
    assert_eq!((db.traffic.connections_open, db.callers.as_slice()), (10, ["web.shop".to_owned()].as_slice()));
}

#[test]
fn connections_of_unknown_callers_alone_are_seen() {
    let mut collector = Collector::new(Limits::default());
    let mut db = Fake::new("p2", 1);
    db.tcp(Reporter::Destination, "unknown", "db.shop").connection_opened();
    collector.ingest(at(1_001), &db.report());
    let edges = collector.edges(at(1_002), at(60));
    assert_eq!((edges[0].source.as_str(), edges[0].traffic.connections_open), ("unknown", 1));
}

#[test]
fn a_young_mesh_has_no_points_from_before_it() {
    let ages = |now| {
        let points = shop().service_series(at(now), &"cart.shop".parse().unwrap(), at(60), at(10));
        points.iter().map(|point| point.age).collect::<Vec<_>>()
    };
    assert_eq!((ages(3), ages(24)), (vec![], vec![24, 14]));
}
