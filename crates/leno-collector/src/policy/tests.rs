use leno_telemetry::report::PolicyCount;

use super::*;
use crate::Limits;
use crate::ingest::tests::at;

fn cart() -> ServiceName {
    "cart.shop".parse().unwrap()
}

fn breaker(state: &str) -> PolicyState {
    let since_ms = Some(2_000);
    PolicyState { cluster: "cart".into(), state: state.into(), since_ms, ..PolicyState::new(cart(), "breaker") }
}

/// The report of a second of a proxy's life.
fn report(proxy: &str, second: u64, policies: Vec<PolicyState>) -> Report {
    let wall_ms = second * 1000;
    Report { proxy: proxy.into(), service: "web.shop".into(), sequence: second, wall_ms, policies, ..Report::default() }
}

fn rows(collector: &Collector, second: u64) -> Vec<PolicyView> {
    collector.policies_of(at(second), &cart()).rows
}

#[test]
fn a_breaker_is_shown_with_the_caller_where_it_is_open_first_and_gone_when_it_is_at_rest() {
    let mut collector = Collector::new(Limits::default());
    collector.ingest(at(100), &report("p1", 1, vec![breaker("closed")]));
    collector.ingest(at(101), &report("p2", 1, vec![breaker("open")]));
    let [row] = &rows(&collector, 104)[..] else { panic!() };
    let states: Vec<_> = row.states.iter().map(|(state, count)| (state.as_str(), *count)).collect();
    assert_eq!((row.proxies, &states[..]), (2, &[("closed", 1), ("open", 1)][..]));
    let first = &row.holders[0];
    assert_eq!((first.proxy.as_str(), first.service.as_str(), first.since), ("p2", "web.shop", Some(5.0)));
    assert_eq!(collector.policy_counts(at(104))[&cart()], PolicyCounts { open: 1, ..PolicyCounts::default() });
    collector.ingest(at(105), &report("p2", 2, Vec::new()));
    assert_eq!((rows(&collector, 105)[0].holders[0].proxy.as_str(), collector.policy_counts(at(105)).len()), ("p1", 0));
}

#[test]
fn what_a_silent_proxy_said_is_not_shown_for_long() {
    let mut collector = Collector::new(Limits::default());
    collector.ingest(at(100), &report("p1", 1, vec![breaker("open")]));
    assert_eq!((rows(&collector, 110).len(), rows(&collector, 111).len()), (1, 0));
    collector.ingest(at(5_000), &report("p2", 1, Vec::new()));
    assert_eq!(collector.policies, 0, "a proxy that is forgotten takes no room");
}

#[test]
fn rates_are_of_some_seconds_and_begin_with_what_was_first_seen() {
    let mut collector = Collector::new(Limits::default());
    let limit = |refused: u64| {
        PolicyState { name: "all".into(), used: 1, max: 2, ..PolicyState::new(cart(), "rate_limit") }
            .counting([("refused", refused)])
    };
    for second in 1..=20 {
        collector.ingest(at(second), &report("p1", second, vec![limit(1_000 + second * 3)]));
        let rate = rows(&collector, second)[0].rates["refused"];
        let expected = if second == 1 { 0.0 } else { 3.0 };
        assert!((rate - expected).abs() < 0.01, "{rate} at {second}");
    }
    assert_eq!(collector.policy_counts(at(20))[&cart()].limiting, 1);
    for second in 21..=31 {
        collector.ingest(at(second), &report("p1", second, vec![limit(1_060)]));
    }
    assert_eq!((rows(&collector, 31)[0].rates["refused"], collector.policy_counts(at(31)).len()), (0.0, 0));
}

#[test]
fn a_proxy_that_counts_anew_has_no_rate_of_before() {
    let mut collector = Collector::new(Limits::default());
    let limit = |refused: u64| PolicyState::new(cart(), "limit").counting([("refused", refused)]);
    collector.ingest(at(1), &report("p1", 1, vec![limit(900)]));
    let again = Report { incarnation: 1, ..report("p1", 2, vec![limit(3)]) };
    collector.ingest(at(2), &again);
    assert_eq!(rows(&collector, 2)[0].rates["refused"], 0.0);
}

#[test]
fn words_that_are_none_are_refused_and_the_rest_is_taken() {
    let mut collector = Collector::new(Limits::default());
    let named = |name: &str| PolicyState { name: name.into(), ..breaker("open") };
    let counted = |what: &str| breaker("open").counting([(what, 1)]);
    let many = PolicyState { counts: vec![PolicyCount::default(); COUNTS_MAX + 1], ..breaker("open") };
    let hostile = vec![
        PolicyState { service: "<b>.x".into(), ..breaker("open") },
        PolicyState { kind: String::new(), ..breaker("open") },
        PolicyState { kind: "<script>".into(), ..breaker("open") },
        PolicyState { state: "o\n".into(), ..breaker("open") },
        named(&"n".repeat(NAME_MAX + 1)),
        named("a\u{7}"),
        counted(&"w".repeat(WORD_MAX + 1)),
        many,
        breaker("open"),
        // What is said twice counts once.
        breaker("closed"),
    ];
    collector.ingest(at(1), &report("p1", 1, hostile));
    assert_eq!((rows(&collector, 1).len(), collector.ignored()), (1, 8));
    let greatest = PolicyState { used: u64::MAX, max: u64::MAX, since_ms: Some(u64::MAX), ..breaker("open") };
    let greatest = vec![greatest.counting([("refused", u64::MAX)])];
    collector.ingest(at(2), &report("p2", 1, greatest.clone()));
    collector.ingest(at(2), &report("p3", 1, greatest));
    assert_eq!(rows(&collector, 2)[0].totals["refused"], u64::MAX);
}

#[test]
fn what_is_beyond_the_room_for_it_is_left_out_and_counted() {
    let mut collector = Collector::new(Limits { policies: 3, ..Limits::default() });
    let limits = |count: usize| {
        let named = |n: usize| PolicyState { name: format!("l{n}"), ..PolicyState::new(cart(), "limit") };
        (0..count).map(named).collect::<Vec<_>>()
    };
    collector.ingest(at(1), &report("p1", 1, limits(2)));
    collector.ingest(at(1), &report("p2", 1, limits(2)));
    let seen = collector.policies_of(at(1), &cart());
    assert_eq!((seen.rows.iter().map(|row| row.proxies).sum::<usize>(), seen.left_out, collector.policies), (3, 1, 3));
    collector.ingest(at(2), &report("p1", 2, Vec::new()));
    collector.ingest(at(2), &report("p2", 2, limits(POLICIES_MAX + 7)));
    assert_eq!((collector.policies, collector.policies_of(at(2), &cart()).left_out), (3, POLICIES_MAX as u64 + 4));
}

#[test]
fn a_row_names_a_few_of_many_proxies_and_those_first_where_it_matters() {
    let mut collector = Collector::new(Limits::default());
    for n in 0..300 {
        let state = if n == 7 { "open" } else { "closed" };
        collector.ingest(at(1), &report(&format!("p{n:03}"), 1, vec![breaker(state)]));
    }
    let [row] = &rows(&collector, 1)[..] else { panic!() };
    assert_eq!((row.proxies, row.holders.len(), row.holders[0].proxy.as_str()), (300, HOLDERS_MAX, "p007"));
}

#[test]
fn a_kind_of_a_newer_proxy_is_shown_by_its_name() {
    let mut collector = Collector::new(Limits::default());
    collector
        .ingest(at(1), &report("p1", 1, vec![PolicyState { used: 3, ..PolicyState::new(cart(), "answer_cache") }]));
    assert_eq!((rows(&collector, 1)[0].kind.as_str(), collector.policy_counts(at(1)).len()), ("answer_cache", 0));
}
