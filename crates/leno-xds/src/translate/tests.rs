//! Whatever the model can say comes back as it was, and Envoy's words mean what they mean to Envoy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use leno_model::instance::Protocol;
use leno_model::name::ServiceName;
use leno_model::snapshot::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::rate_limit::always;
use super::{Dialect, cluster, endpoints, listener, route};
use crate::messages::fault::{FaultAbort, FaultAbortError, FaultDelaySpecifier, FaultRate, FixedLimit, HttpFault};
use crate::messages::header_to_metadata::HeaderToMetadata;
use crate::messages::rate_limit::{LocalRateLimit, TokenBucket};
use crate::messages::route::{Action as EnvoyAction, HashPolicySpecifier, PathSpecifier, RetryPolicy, Route};
use crate::messages::urls;
use crate::messages::wkt::{self, Any};

pub(super) const ENVOY: Dialect = Dialect::Envoy { bind: IpAddr::V4(Ipv4Addr::LOCALHOST) };

/// Names and values with the characters that mean something to one side or the other.
fn text() -> impl Strategy<Value = Name> {
    prop_oneof!["[a-z]{1,8}", "[a-z%*.,:/\\\\ \"{}$^()+?é-]{0,10}", Just("*".to_owned())].prop_map(Name::from)
}

fn path_text() -> impl Strategy<Value = Name> {
    prop_oneof![Just("/".to_owned()), "(/[a-z.+]{1,4}){1,3}/?", "[a-z/?#*\\\\]{0,6}"].prop_map(Name::from)
}

fn weird_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_secs(5)),
        Just(Duration::from_secs(15)),
        Just(Duration::from_millis(25)),
        Just(Duration::from_secs(3600)),
        Just(Duration::MAX),
        (0..100_000u64, 0..1_000_000_000u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)),
    ]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    use Protocol::*;
    prop::sample::select(vec![Detect, Http, Http2, Grpc, Tcp, Tls])
}

fn service() -> impl Strategy<Value = ServiceName> {
    ("[a-z][a-z0-9]{0,6}", "[a-z][a-z0-9]{0,6}").prop_map(|(ns, name)| ServiceName::new(&ns, &name).unwrap())
}

fn origin() -> impl Strategy<Value = Origin> {
    (text(), any::<u32>(), option::of(text())).prop_map(|(resource, rule, name)| Origin { resource, rule, name })
}

fn host() -> impl Strategy<Value = HostPattern> {
    let name = || prop_oneof!["[a-z]{1,3}(\\.[a-z]{1,3}){0,2}", "[a-zA-Z*.:0-9]{0,6}"].prop_map(Name::from);
    prop_oneof![Just(HostPattern::Any), name().prop_map(HostPattern::Exact), name().prop_map(HostPattern::Suffix)]
}

fn header_change() -> impl Strategy<Value = HeaderChange> {
    let pair = || (text(), text());
    (vec(pair(), 0..3), vec(pair(), 0..3), vec(text(), 0..2)).prop_map(|(set, add, remove)| HeaderChange {
        set,
        add,
        remove,
    })
}

fn path_rewrite() -> impl Strategy<Value = PathRewrite> {
    prop_oneof![path_text().prop_map(PathRewrite::Full), path_text().prop_map(PathRewrite::Prefix)]
}

fn cors() -> impl Strategy<Value = Cors> {
    let list = || vec(text(), 0..3);
    let origin = prop_oneof![Just("*".into()), Just("https://*.example.com:8443".into()), text()];
    (vec(origin, 0..3), list(), list(), list(), any::<bool>(), weird_duration()).prop_map(
        |(allow_origins, allow_methods, allow_headers, expose_headers, allow_credentials, max_age)| Cors {
            allow_origins,
            allow_methods,
            allow_headers,
            expose_headers,
            allow_credentials,
            max_age,
        },
    )
}

fn mirror() -> impl Strategy<Value = Mirror> {
    let denominator = prop_oneof![Just(1), Just(100), Just(10_000), Just(1_000_000), 1..1000u32];
    (text(), 0..200u32, denominator).prop_map(|(cluster, numerator, denominator)| Mirror {
        cluster,
        numerator,
        denominator,
    })
}

fn filter() -> impl Strategy<Value = RouteFilter> {
    let rewrite = (option::of(text()), option::of(path_rewrite()));
    prop_oneof![
        header_change().prop_map(RouteFilter::RequestHeaders),
        header_change().prop_map(RouteFilter::ResponseHeaders),
        rewrite.prop_map(|(hostname, path)| RouteFilter::Rewrite(Rewrite { hostname, path })),
        mirror().prop_map(RouteFilter::Mirror),
        cors().prop_map(RouteFilter::Cors),
    ]
}

fn weighted() -> impl Strategy<Value = WeightedCluster> {
    let weight = prop_oneof![Just(0), Just(1), 0..1_000_001u32];
    (option::of(text()), weight, vec(filter(), 0..2), affinity(), rate_limits(), injections()).prop_map(
        |(cluster, weight, filters, affinity, rate_limits, injections)| WeightedCluster {
            cluster,
            weight,
            filters,
            affinity,
            rate_limits,
            injections,
        },
    )
}

fn injections() -> impl Strategy<Value = Injections> {
    let share = || prop_oneof![Just(1_000_000), Just(250_000), 0..1_000_001u32];
    let delay = (weird_duration(), share()).prop_map(|(time, of_million)| Delay { time, of_million });
    let with = prop_oneof![(400..600u16).prop_map(AbortWith::Http), (1..17u8).prop_map(AbortWith::Grpc)];
    let abort = (with, share()).prop_map(|(with, of_million)| Abort { with, of_million });
    let bandwidth =
        (1..9u32, share()).prop_map(|(kib_per_second, of_million)| Bandwidth { kib_per_second, of_million });
    let fault = (text(), vec(matching(), 0..2), option::of(delay), option::of(abort), option::of(bandwidth))
        .prop_map(|(name, when, delay, abort, bandwidth)| Injection { name, when, delay, abort, bandwidth });
    (vec(fault, 0..3), any::<u32>())
        .prop_map(|(faults, active_max)| match faults.is_empty() {
            true => Injections::default(),
            false => Injections { service: "cart.shop".into(), faults, active_max },
        })
        .boxed()
}

fn rate_limits() -> impl Strategy<Value = RateLimits> {
    let rate =
        || (1..1000u32, 1..100_000u64).prop_map(|(requests, ms)| Rate { requests, per: Duration::from_millis(ms) });
    let warm_up = option::of(Just(WarmUp { period: Duration::from_secs(9), cold_factor: 3 }));
    let form = prop_oneof![
        (rate(), 1..100u32, warm_up.clone()).prop_map(|(rate, burst, warm_up)| RateForm::Bucket {
            rate,
            burst,
            warm_up
        }),
        rate().prop_map(RateForm::Window),
        (rate(), warm_up).prop_map(|(rate, warm_up)| RateForm::Queue { rate, timeout: rate.per, warm_up }),
        (1..100u32).prop_map(RateForm::Concurrency),
        (1..100u32, prop_oneof![Just(Period::Day), Just(Period::Month)])
            .prop_map(|(requests, per)| RateForm::Quota { requests, per }),
    ];
    let source = prop_oneof![
        Just(KeySource::Caller),
        text().prop_map(KeySource::Header),
        text().prop_map(KeySource::Cookie),
        text().prop_map(KeySource::Query),
        Just(KeySource::Path),
        Just(KeySource::SourceAddress),
    ];
    let tell = prop_oneof![Just(RateTell::Nothing), Just(RateTell::RateLimit), Just(RateTell::XRateLimit)];
    let fallback = prop_oneof![
        Just(RateFallback::Share),
        Just(RateFallback::Local),
        Just(RateFallback::Allow),
        Just(RateFallback::Deny)
    ];
    let shared = (proptest::bool::ANY, fallback).prop_map(|(per_proxy, fallback)| RateShared { per_proxy, fallback });
    let limit = (text(), vec(matching(), 0..2), vec(source, 0..3), 0..100u32, form, option::of(shared), tell).prop_map(
        |(name, when, key, keys, form, shared, tell)| RateLimit { name, when, key, keys, form, shared, tell },
    );
    vec(limit, 0..3)
        .prop_map(|limits| match limits.is_empty() {
            true => RateLimits::default(),
            false => RateLimits { service: "cart.shop".into(), limits },
        })
        .boxed()
}

fn affinity() -> impl Strategy<Value = Affinity> {
    let cookie = (text(), option::of(weird_duration()), option::of(text()));
    let source = prop_oneof![
        text().prop_map(HashSource::Header),
        cookie.prop_map(|(name, ttl, path)| HashSource::Cookie(Cookie { name, ttl, path })),
        text().prop_map(HashSource::Query),
        Just(HashSource::SourceAddress),
    ];
    let key = (source, any::<bool>()).prop_map(|(source, terminal)| HashKey { source, terminal });
    let cookie = (text(), option::of(weird_duration()), option::of(text()));
    let session = prop_oneof![
        text().prop_map(Session::Header),
        cookie.prop_map(|(name, ttl, path)| Session::Cookie(Cookie { name, ttl, path })),
    ];
    let subset = option::of((text(), text()).prop_map(|(header, label)| SubsetKey { header, label }));
    (vec(key, 0..3), option::of(session), subset)
        .prop_map(|(hash, session, subset)| Affinity { hash, session, subset })
        .boxed()
}

fn action() -> impl Strategy<Value = Action> {
    let status = prop_oneof![prop::sample::select(vec![301, 302, 303, 307, 308]), any::<u16>()];
    let redirect = (option::of(text()), option::of(text()), option::of(path_rewrite()), any::<Option<u16>>(), status)
        .prop_map(|(scheme, hostname, path, port, status)| Redirect { scheme, hostname, path, port, status });
    prop_oneof![
        vec(weighted(), 0..3).prop_map(Action::Forward),
        redirect.prop_map(Action::Redirect),
        (any::<u16>(), text()).prop_map(|(status, reason)| Action::Refuse { status, reason }),
        direct_reply().prop_map(Action::Reply),
    ]
}

fn direct_reply() -> impl Strategy<Value = DirectReply> {
    (200_u16..600, text(), vec((text(), text()), 0..2), text(), 1..17_u8).prop_map(
        |(status, content_type, fields, body, grpc_status)| DirectReply {
            status,
            content_type,
            fields,
            body,
            grpc_status,
        },
    )
}

fn stand_in() -> impl Strategy<Value = Option<Box<StandIn>>> {
    let on = vec(prop::sample::select(FallbackOn::ALL.to_vec()), 0..3);
    let failures = vec(prop::sample::select(RetryOn::ALL.to_vec()), 0..3);
    let what = (option::of(text()), option::of(weird_duration()), option::of(direct_reply()));
    let terms = (on, failures, vec(any::<u16>(), 0..2), what);
    option::of(terms.prop_map(|(on, failures, codes, (cluster, last_good, reply))| {
        Box::new(StandIn { on, failures, codes, cluster, last_good, reply })
    }))
}

fn answers() -> impl Strategy<Value = Option<Box<Answers>>> {
    let collapse =
        (any::<u32>(), weird_duration()).prop_map(|(waiting_max, wait_max)| Collapse { waiting_max, wait_max });
    let collapse = option::of(collapse);
    let numbers = (any::<u64>(), any::<u64>(), any::<u32>());
    let terms = (any::<bool>(), option::of(weird_duration()), numbers, collapse);
    option::of(terms.prop_map(|(cache, last_good, (bytes_max, body_max, entries_max), collapse)| {
        Box::new(Answers { cache, last_good, bytes_max, body_max, entries_max, collapse })
    }))
}

fn matching() -> impl Strategy<Value = Match> {
    let path = prop_oneof![
        path_text().prop_map(PathMatch::Exact),
        path_text().prop_map(PathMatch::Prefix),
        text().prop_map(PathMatch::Regex)
    ];
    let value = || prop_oneof![text().prop_map(ValueMatch::Exact), text().prop_map(ValueMatch::Regex)];
    let name = prop_oneof![text(), Just(":method".into())];
    let key = move |name| (name, value()).prop_map(|(name, value)| KeyMatch { name, value });
    (path, option::of(text()), vec(key(name.boxed()), 0..3), vec(key(text().boxed()), 0..2))
        .prop_map(|(path, method, headers, query)| Match { path, method, headers, query })
}

fn retry() -> impl Strategy<Value = Retry> {
    let methods = option::of(vec(prop_oneof![Just(Name::from("GET")), Just("M-SEARCH".into()), text()], 0..3));
    let on = vec(prop::sample::select(RetryOn::ALL.to_vec()), 0..4);
    let times = (weird_duration(), weird_duration(), weird_duration());
    let hedge = (weird_duration(), any::<u32>(), vec(text(), 0..3)).prop_map(|(delay, attempts, methods)| Hedge {
        delay,
        attempts,
        methods,
    });
    (0..6u32, vec(any::<u16>(), 0..4), on, methods, times, option::of(hedge)).prop_map(
        |(attempts, codes, on, methods, (backoff, backoff_max, retry_after_max), hedge)| Retry {
            attempts,
            codes,
            on,
            methods,
            backoff,
            backoff_max,
            retry_after_max,
            hedge,
        },
    )
}

fn rule() -> impl Strategy<Value = Rule> {
    let timeout = || option::of(weird_duration());
    (origin(), matching(), vec(filter(), 0..4), action(), timeout(), timeout(), option::of(retry())).prop_map(
        |(origin, when, filters, action, request_timeout, try_timeout, retry)| Rule {
            origin,
            when,
            filters,
            action,
            request_timeout,
            try_timeout,
            retry,
        },
    )
}

fn route_config() -> impl Strategy<Value = RouteConfig> {
    let host = (vec(host(), 0..4), vec(rule(), 0..4)).prop_map(|(hostnames, rules)| VirtualHost { hostnames, rules });
    ("[a-z.:@]{1,12}", vec(host, 0..3)).prop_map(|(name, hosts)| RouteConfig { name: name.into(), hosts })
}

fn a_listener() -> impl Strategy<Value = Listener> {
    let tls = (vec(host(), 0..3), vec(weighted(), 0..3), origin()).prop_map(|(hostnames, clusters, origin)| TlsRule {
        hostnames,
        clusters,
        origin,
    });
    let way = (option::of(text()), vec(weighted(), 0..3), vec(tls, 0..3), vec(terms(), 0..3));
    let way = (way, weird_duration(), rate_limits(), overload());
    ("[a-z.:]{1,12}", option::of(service()), any::<u16>(), any::<(bool, bool)>(), protocol(), way).prop_map(
        |(
            name,
            service,
            port,
            (bind, udp),
            protocol,
            ((http, tcp, tls, terms), idle_timeout, rate_limits, overload),
        )| Listener {
            name: name.into(),
            service,
            port,
            bind,
            udp,
            protocol,
            http,
            tcp,
            tls,
            terms,
            idle_timeout,
            rate_limits,
            overload,
        },
    )
}

fn overload() -> impl Strategy<Value = Overload> {
    let shedding = (1..9u32, 9..99u32, 1..100u32, weird_duration()).prop_map(|(min, max, tolerance, wait)| Shedding {
        min,
        max,
        tolerance,
        wait,
    });
    (priorities(), option::of(shedding)).prop_map(|(priorities, shedding)| Overload { priorities, shedding })
}

fn admission() -> impl Strategy<Value = Option<Admission>> {
    let terms = (100..999u32, weird_duration(), 1..99u32);
    option::of(terms.prop_map(|(factor, window, requests_min)| Admission { factor, window, requests_min }))
}

fn priorities() -> impl Strategy<Value = Vec<PriorityRule>> {
    let priority = prop::sample::select(Priority::ALL.to_vec());
    vec((priority, vec(matching(), 0..2)).prop_map(|(priority, when)| PriorityRule { priority, when }), 0..3)
}

fn terms() -> impl Strategy<Value = TlsTerms> {
    let then = prop::sample::select(vec![TlsThen::Http, TlsThen::Bytes, TlsThen::Pass]);
    let client = prop_oneof![
        Just(ClientCertificates::Unasked),
        vec(text(), 0..2).prop_map(ClientCertificates::Optional),
        vec(text(), 0..2).prop_map(ClientCertificates::Required),
    ];
    (host(), then, vec(text(), 0..3), client).prop_map(|(host, then, certificates, client)| TlsTerms {
        host,
        then,
        certificates,
        client,
    })
}

fn upstream_tls() -> impl Strategy<Value = UpstreamTls> {
    let roots = prop_oneof![Just(Roots::System), vec(text(), 0..2).prop_map(Roots::Bundles)];
    (text(), vec(text(), 0..2), roots).prop_map(|(server_name, names, roots)| UpstreamTls { server_name, names, roots })
}

fn resilience() -> impl Strategy<Value = Resilience> {
    let limit = || option::of(prop_oneof![Just(1), Just(u32::MAX), any::<u32>()]);
    let queue = (any::<u32>(), weird_duration()).prop_map(|(size, timeout)| Queue { size, timeout });
    let limits = (limit(), option::of(queue), limit(), limit(), limit()).prop_map(
        |(requests, queue, retries, connections, pending)| Limits { requests, queue, retries, connections, pending },
    );
    let forced = option::of(prop_oneof![Just(ForcedState::Open), Just(ForcedState::Closed)]);
    (
        limits,
        option::of(ejection()),
        option::of(breaker()),
        forced,
        option::of(retry_budget()),
        (priorities(), admission(), stand_in(), answers()),
    )
        .prop_map(
            |(limits, ejection, breaker, breaker_forced, retry_budget, (priorities, admission, stand_in, answers))| {
                Resilience {
                    limits,
                    ejection,
                    breaker,
                    breaker_forced,
                    retry_budget,
                    priorities,
                    admission,
                    stand_in,
                    answers,
                }
            },
        )
        .boxed()
}

fn retry_budget() -> impl Strategy<Value = RetryBudget> {
    (any::<u32>(), any::<u32>(), weird_duration()).prop_map(|(percent, min_per_second, window)| RetryBudget {
        percent,
        min_per_second,
        window,
    })
}

/// On the heap, as all of a cluster is more than a thread's stack has room for.
fn balancing() -> BoxedStrategy<Balancing> {
    let slow_start = (weird_duration(), any::<u32>(), any::<u32>());
    let slow_start = slow_start.prop_map(|(window, aggression, share_min)| SlowStart { window, aggression, share_min });
    let table_size = option::of(prop_oneof![Just(2), Just(101), Just(655_357), Just(5_000_011)]);
    let times = (weird_duration(), weird_duration(), weird_duration(), 0..=10_000_u32);
    let load_reports = times.prop_map(|(blackout, expiration, update, error_penalty)| LoadReports {
        blackout,
        expiration,
        update,
        error_penalty,
    });
    let fallback = prop_oneof![Just(Fallback::Any), Just(Fallback::Nobody), text().prop_map(Fallback::To)];
    let subsets = option::of((text(), fallback).prop_map(|(label, fallback)| Subsets { label, fallback }));
    let gives = prop_oneof![Just(Gives::Weight), Just(Gives::Cost), Just(Gives::CostOfAll)];
    let text = prop::sample::select(vec!["latencyMs * occupancy", "labels.tier == 'gpu' ? weight : 1.0"]);
    let expression = (gives, text).prop_map(|(gives, text)| Expression { gives, text: text.into() });
    let more = (option::of(load_reports), subsets, expression);
    (any::<u32>(), option::of(slow_start), any::<bool>(), table_size, more)
        .prop_map(|(panic_threshold, slow_start, weighted_localities, table_size, more)| Balancing {
            load_reports: more.0,
            subsets: more.1,
            expression: Some(more.2),
            panic_threshold,
            slow_start,
            weighted_localities,
            table_size,
        })
        .boxed()
}

fn breaker() -> impl Strategy<Value = Breaker> {
    let when = || option::of(any::<u32>());
    let times = (weird_duration(), weird_duration(), weird_duration());
    ([when(), when(), when(), when()], times, any::<[u32; 3]>(), any::<bool>()).prop_map(
        |(when, (slow_after, window, open), [buckets, requests_min, probes], above)| Breaker {
            failure_ratio: when[0],
            slow_ratio: when[1],
            slow_after,
            consecutive: when[2],
            failures: when[3],
            window,
            buckets,
            requests_min,
            open,
            probes,
            above,
        },
    )
}

fn ejection() -> impl Strategy<Value = Ejection> {
    let when = || option::of(prop_oneof![Just(5), any::<u32>()]);
    let times = (weird_duration(), weird_duration(), weird_duration(), weird_duration());
    ([when(), when(), when(), when(), when()], times, any::<u32>(), any::<u32>()).prop_map(
        |(when, (slow_after, window, base_time, time_max), requests_min, share_max)| Ejection {
            consecutive_errors: when[0],
            consecutive_gateway_errors: when[1],
            consecutive_local_errors: when[2],
            failure_ratio: when[3],
            slow_ratio: when[4],
            slow_after,
            window,
            requests_min,
            base_time,
            time_max,
            share_max,
        },
    )
}

fn a_cluster() -> impl Strategy<Value = Cluster> {
    use BalancePolicy::*;
    let balance = prop::sample::select(vec![
        PeakEwma,
        LeastRequest,
        BestAvailable,
        RoundRobin,
        WeightedRoundRobin,
        WeightedResponseTime,
        Expression,
        Random,
        RingHash,
        Maglev,
    ]);
    let times = (weird_duration(), weird_duration());
    let proxy_protocol = option::of(prop::sample::select(vec![ProxyProtocol::V1, ProxyProtocol::V2]));
    let begin = (option::of(upstream_tls()), proxy_protocol, resilience(), balancing());
    ("[a-z.:@]{1,12}", service(), any::<u16>(), protocol(), balance, times, begin).prop_map(
        |(
            name,
            service,
            port,
            protocol,
            balance,
            (connect_timeout, idle_timeout),
            (tls, proxy_protocol, resilience, balancing),
        )| Cluster {
            name: name.into(),
            service,
            port,
            protocol,
            balance,
            connect_timeout,
            idle_timeout,
            tls,
            proxy_protocol,
            resilience,
            balancing,
        },
    )
}

fn some_endpoints() -> impl Strategy<Value = Endpoints> {
    use EndpointHealth::*;
    let ip = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits)))
    ];
    let address = (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port)).boxed();
    let place = || option::of("[a-z0-9]{1,5}".prop_map(Name::from));
    let weight = prop_oneof![Just(0), Just(100), any::<u32>()];
    let health = prop::sample::select(vec![Healthy, Unhealthy, Draining]);
    let labels = btree_map("[a-z]{1,3}", text(), 0..3);
    let labels = labels.prop_map(|labels| labels.into_iter().map(|(name, value)| (name.into(), value)).collect());
    let at = (place(), place(), 0..3_u32, option::of((text(), text())), labels);
    let rest = (address.clone(), option::of(address), weight, health, option::of(text()), at);
    ("[a-z]{1,5}", btree_map("[a-z0-9:.-]{1,12}", rest, 0..8)).prop_map(|(cluster, members)| {
        // All of one locality and priority have its weight.
        let weight_of = |zone: &Option<Name>, priority| zone.as_ref().map(|zone| zone.len() as u32 * 100 + priority);
        let endpoint =
            |(id, (address, proxy, weight, health, version, (zone, region, priority, subset, labels))): (String, _)| {
                Endpoint {
                    id: id.into(),
                    locality_weight: weight_of(&zone, priority),
                    priority,
                    address,
                    proxy,
                    weight,
                    health,
                    version,
                    zone,
                    region,
                    subset,
                    labels,
                }
            };
        Endpoints { cluster: cluster.into(), endpoints: members.into_iter().map(endpoint).collect() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_listener_comes_back_as_it_was(model in a_listener()) {
        let resource = listener::encode(&model, Dialect::Leno).unwrap();
        prop_assert_eq!(listener::decode(&resource.body).unwrap(), model);
    }

    #[test]
    fn a_route_configuration_comes_back_as_it_was(model in route_config()) {
        let resource = route::encode(&model, Dialect::Leno);
        prop_assert_eq!(route::decode(&resource.body).unwrap(), model);
    }

    #[test]
    fn a_cluster_comes_back_as_it_was(model in a_cluster()) {
        let resource = cluster::encode(&model, Dialect::Leno);
        prop_assert_eq!(cluster::decode(&resource.body).unwrap(), model);
    }

    #[test]
    fn endpoints_come_back_as_they_were(model in some_endpoints()) {
        let resource = endpoints::encode(&model, Dialect::Leno);
        prop_assert_eq!(endpoints::decode(&resource.body).unwrap(), model);
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in vec(any::<u8>(), 0..200)) {
        let bytes = bytes.into();
        let _ = listener::decode(&bytes);
        let _ = route::decode(&bytes);
        let _ = cluster::decode(&bytes);
        let _ = endpoints::decode(&bytes);
    }
}

/// A rule as people write them.
fn usual_rule(path: PathMatch, filters: Vec<RouteFilter>) -> Rule {
    let share = |cluster: &str, weight| WeightedCluster {
        cluster: Some(cluster.into()),
        weight,
        filters: Vec::new(),
        affinity: Default::default(),
        rate_limits: Default::default(),
        injections: Default::default(),
    };
    Rule {
        origin: Origin { resource: "httproute/shop/cart".into(), rule: 0, name: None },
        when: Match { path, ..Match::default() },
        filters,
        action: Action::Forward(vec![share("a", 90), share("b", 10)]),
        request_timeout: Some(Duration::from_millis(1500)),
        try_timeout: None,
        retry: Some(usual_retry()),
    }
}

/// Retries as people write them.
fn usual_retry() -> Retry {
    Retry {
        attempts: 2,
        codes: vec![502, 503],
        on: vec![RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::Reset],
        methods: Some(["GET", "HEAD"].map(Into::into).to_vec()),
        backoff: Duration::from_millis(25),
        backoff_max: Duration::from_millis(250),
        retry_after_max: Duration::from_secs(1),
        hedge: None,
    }
}

fn config_of(rule: Rule) -> RouteConfig {
    let host = VirtualHost { hostnames: vec![HostPattern::Exact("cart.shop.mesh".into())], rules: vec![rule] };
    RouteConfig { name: "cart.shop.mesh:80".into(), hosts: vec![host] }
}

fn envoy_path(from: &str, to: &str) -> (String, Option<(String, String)>) {
    let rewrite = Rewrite { hostname: None, path: Some(PathRewrite::Prefix(to.into())) };
    let rule = usual_rule(PathMatch::Prefix(from.into()), vec![RouteFilter::Rewrite(rewrite)]);
    let message = route::to_envoy(&config_of(rule), ENVOY);
    match message.virtual_hosts[0].routes[0].action.clone().unwrap() {
        EnvoyAction::Route(action) => {
            let regex = action.regex_rewrite.map(|regex| (regex.pattern.unwrap().regex, regex.substitution));
            (action.prefix_rewrite, regex)
        }
        _ => unreachable!("the rule forwards"),
    }
}

#[test]
fn what_people_write_needs_no_exact_note() {
    let change = HeaderChange { set: vec![("x-a".into(), "50 %".into())], ..HeaderChange::default() };
    let rule = usual_rule(PathMatch::Prefix("/api".into()), vec![RouteFilter::RequestHeaders(change)]);
    let bytes = route::encode(&config_of(rule), Dialect::Leno).body;
    assert!(!bytes.windows(7).any(|window| window == b"\"action" || window == b"\"filter" || window == b"\"tries\""));
}

fn retry_policy(retry: Option<Retry>, dialect: Dialect) -> Option<RetryPolicy> {
    let rule = Rule { retry, ..usual_rule(PathMatch::Prefix("/".into()), Vec::new()) };
    match route::to_envoy(&config_of(rule), dialect).virtual_hosts[0].routes[0].action.clone() {
        Some(EnvoyAction::Route(action)) => action.retry_policy,
        _ => unreachable!("the rule forwards"),
    }
}

#[test]
fn retries_stand_under_envoys_names() {
    let said = retry_policy(Some(usual_retry()), ENVOY).unwrap();
    let words = "connect-failure,refused-stream,reset-before-request,reset,retriable-status-codes";
    assert_eq!((said.retry_on.as_str(), said.num_retries), (words, Some(2)));
    assert_eq!(said.retry_back_off.unwrap().max_interval, None, "ten times the base is Envoy's default");
    let after = said.rate_limited_retry_back_off.unwrap();
    assert_eq!((after.reset_headers[0].name.as_str(), after.max_interval.unwrap().seconds), ("Retry-After", 1));
    assert_eq!(said.retry_host_predicate[0].name, "envoy.retry_host_predicates.previous_hosts");
    let [method] = &said.retriable_request_headers[..] else { unreachable!("calls of gRPC are POSTs") };
    assert!(format!("{method:?}").contains("GET|HEAD"), "{method:?}");
    let said = retry_policy(None, ENVOY).unwrap();
    assert_eq!(
        (said.retry_on.as_str(), said.num_retries),
        ("connect-failure,refused-stream,reset-before-request", Some(2))
    );
}

#[test]
fn the_time_of_a_request_stands_where_each_looks_for_it_and_nowhere_else() {
    let rule = usual_rule(PathMatch::Prefix("/".into()), Vec::new());
    let times =
        |dialect| match route::to_envoy(&config_of(rule.clone()), dialect).virtual_hosts[0].routes[0].action.clone() {
            Some(EnvoyAction::Route(action)) => (action.timeout.is_some(), action.max_stream_duration.is_some()),
            _ => unreachable!("the rule forwards"),
        };
    // Where the other one is, Envoy does not look at `timeout`.
    assert_eq!((times(ENVOY), times(Dialect::Grpc)), ((true, false), (true, true)));
}

#[test]
fn an_expression_is_for_lenos_proxies_and_others_take_the_nearest_that_they_have() {
    let cluster = |gives, text: &str| {
        let balancing = Balancing { expression: Some(Expression { gives, text: text.into() }), ..Balancing::default() };
        Cluster { balance: BalancePolicy::Expression, balancing, ..usual_cluster(Default::default()) }
    };
    let nearest = [
        (Gives::Weight, BalancePolicy::RoundRobin),
        (Gives::Cost, BalancePolicy::LeastRequest),
        (Gives::CostOfAll, BalancePolicy::LeastRequest),
    ];
    for (gives, nearest) in nearest {
        let model = cluster(gives, "weight");
        assert_eq!(cluster::decode(&cluster::encode(&model, Dialect::Leno).body).unwrap(), model);
        for dialect in [ENVOY, Dialect::Grpc] {
            let read = cluster::from_envoy(cluster::to_envoy(&model, dialect)).unwrap();
            assert_eq!((read.balance, read.balancing.expression), (nearest, None), "{dialect:?}");
        }
    }
    let refused = cluster::decode(&cluster::encode(&cluster(Gives::Cost, "latency"), Dialect::Leno).body).unwrap_err();
    assert!(refused.to_string().contains("`latency` is not known here"), "{refused}");
    let nothing = Cluster { balancing: Balancing::default(), ..cluster(Gives::Cost, "weight") };
    let refused = cluster::decode(&cluster::encode(&nothing, Dialect::Leno).body).unwrap_err();
    assert!(refused.to_string().contains("names no expression"), "{refused}");
}

#[test]
fn conditions_of_grpc_reach_grpc_and_let_its_calls_in_where_nothing_else_does_harm() {
    let on = vec![RetryOn::ConnectFailure, RetryOn::Unavailable];
    let retry = Retry { codes: Vec::new(), on, ..usual_retry() };
    assert_eq!(retry_policy(Some(retry.clone()), Dialect::Grpc).unwrap().retry_on, "unavailable");
    assert_eq!(retry_policy(Some(retry.clone()), ENVOY).unwrap().retriable_request_headers.len(), 2);
    let more = Retry { codes: vec![503], ..retry };
    assert_eq!(retry_policy(Some(more), ENVOY).unwrap().retriable_request_headers.len(), 1);
    let unsafe_too = Retry { methods: None, ..usual_retry() };
    assert_eq!(retry_policy(Some(unsafe_too), Dialect::Grpc).unwrap().retry_on, "unavailable", "503 is that");
    assert_eq!(retry_policy(Some(usual_retry()), Dialect::Grpc), None, "no POST is tried again");
}

#[test]
fn envoy_hedges_where_a_try_takes_too_long_and_only_methods_that_are_named() {
    let hedge = Hedge { delay: Duration::from_millis(50), attempts: 1, methods: vec!["GET".into()] };
    let retry = Retry { hedge: Some(hedge.clone()), attempts: 0, ..Retry::default() };
    let hedging = |method: Option<&str>| {
        let mut rule = Rule { retry: Some(retry.clone()), ..usual_rule(PathMatch::Prefix("/".into()), Vec::new()) };
        rule.when.method = method.map(Into::into);
        let routes = route::to_envoy(&config_of(rule), ENVOY).virtual_hosts[0].routes.clone();
        let of = |action| match action {
            Some(EnvoyAction::Route(action)) => (action.hedge_policy.is_some(), action.retry_policy.unwrap()),
            _ => unreachable!("the rule forwards"),
        };
        let (hedged, policies): (Vec<bool>, Vec<RetryPolicy>) =
            routes.into_iter().map(|route| of(route.action)).unzip();
        (hedged, policies.iter().map(|policy| policy.per_try_timeout.map(|time| time.nanos)).collect::<Vec<_>>())
    };
    assert_eq!(hedging(None), (vec![true, false], vec![Some(50_000_000), None]));
    assert_eq!(hedging(Some("GET")), (vec![true], vec![Some(50_000_000)]));
    assert_eq!(hedging(Some("POST")), (vec![false], vec![None]));
    let rule = Rule { retry: Some(retry), ..usual_rule(PathMatch::Prefix("/".into()), Vec::new()) };
    let theirs = route::from_envoy(route::to_envoy(&config_of(rule), ENVOY)).unwrap().hosts[0].rules.clone();
    let hedges: Vec<_> = theirs.iter().map(|rule| rule.retry.as_ref().and_then(|retry| retry.hedge.as_ref())).collect();
    assert_eq!(hedges[0].map(|hedge| hedge.delay), Some(hedge.delay));
    assert_eq!(hedges[1], None);
}

#[test]
fn a_budget_stands_under_envoys_names_unless_retries_are_limited() {
    let budget = RetryBudget { percent: 25, min_per_second: 5, window: Duration::from_secs(20) };
    let mut model = usual_cluster(Resilience { retry_budget: Some(budget), ..Resilience::default() });
    let message = cluster::to_envoy(&model, ENVOY);
    let said = message.circuit_breakers.clone().unwrap().thresholds[0].retry_budget.unwrap();
    assert_eq!((said.budget_percent.unwrap().value, said.min_retry_concurrency), (25.0, Some(5)));
    assert_eq!(cluster::from_envoy(message).unwrap().resilience, model.resilience);
    model.resilience.limits.retries = Some(3);
    let thresholds = cluster::to_envoy(&model, ENVOY).circuit_breakers.unwrap().thresholds[0];
    assert_eq!((thresholds.max_retries, thresholds.retry_budget), (Some(3), None));
}

#[test]
fn keys_stand_on_routes_and_connections_under_envoys_names() {
    let key = |source| HashKey { source, terminal: false };
    let ttl = Some(Duration::from_secs(3600));
    let cookie = Cookie { name: "session".into(), ttl, path: Some("/".into()) };
    let hash = vec![
        HashKey { terminal: true, ..key(HashSource::Header("x-user".into())) },
        key(HashSource::Cookie(cookie)),
        key(HashSource::Query("user".into())),
        key(HashSource::SourceAddress),
    ];
    let mut rule = usual_rule(PathMatch::Prefix("/".into()), Vec::new());
    let session = Some(Session::Header("x-session".into()));
    if let Action::Forward(clusters) = &mut rule.action {
        let affinity = Affinity { hash, session, subset: None };
        clusters.iter_mut().for_each(|cluster| cluster.affinity = affinity.clone());
    }
    for dialect in [ENVOY, Dialect::Leno] {
        let message = route::to_envoy(&config_of(rule.clone()), dialect);
        let Some(EnvoyAction::Route(action)) = &message.virtual_hosts[0].routes[0].action else { unreachable!() };
        assert_eq!(action.hash_policy.len(), 4, "once for all destinations");
        let Some(HashPolicySpecifier::Cookie(cookie)) = &action.hash_policy[1].policy_specifier else { unreachable!() };
        assert_eq!((&*cookie.name, cookie.ttl.unwrap().seconds, &*cookie.path), ("session", 3600, "/"));
        let read = route::from_envoy(message).unwrap();
        assert_eq!(read.hosts[0].rules[0].action, rule.action);
    }
    let bytes = route::encode(&config_of(rule), Dialect::Leno).body;
    assert!(!bytes.windows(8).any(|window| window == b"affinity"), "nothing is left for a note");
}

#[test]
fn whoever_does_not_know_a_policy_of_ours_takes_least_request() {
    let of_ours = [BalancePolicy::BestAvailable, BalancePolicy::WeightedResponseTime];
    for (dialect, balance) in [ENVOY, Dialect::Grpc].into_iter().flat_map(|dialect| of_ours.map(|own| (dialect, own))) {
        let cluster = Cluster { balance, ..usual_cluster(Default::default()) };
        let mut message = cluster::to_envoy(&cluster, dialect);
        assert_eq!(cluster::from_envoy(message.clone()).unwrap().balance, balance);
        message.load_balancing_policy.as_mut().unwrap().policies.remove(0);
        assert_eq!(cluster::from_envoy(message).unwrap().balance, BalancePolicy::LeastRequest);
    }
}

/// A bucket of seven that so many fill in so many milliseconds.
fn limit(name: &str, requests: u32, ms: u64, key: Vec<KeySource>) -> RateLimit {
    let rate = Rate { requests, per: Duration::from_millis(ms) };
    let form = RateForm::Bucket { rate, burst: 7, warm_up: None };
    RateLimit { name: name.into(), when: Vec::new(), key, keys: 0, form, shared: None, tell: RateTell::XRateLimit }
}

fn rule_with(limits: Vec<RateLimit>) -> Rule {
    let mut rule = usual_rule(PathMatch::Prefix("/".into()), Vec::new());
    if let Action::Forward(clusters) = &mut rule.action {
        let limits = RateLimits { service: "cart.shop".into(), limits };
        clusters.iter_mut().for_each(|cluster| cluster.rate_limits = limits.clone());
    }
    rule
}

#[test]
fn the_lowest_bucket_for_all_requests_stands_on_a_route_under_envoys_name() {
    let bucket_of = |rule: &Rule| {
        let message = route::to_envoy(&config_of(rule.clone()), ENVOY);
        let any =
            message.virtual_hosts[0].routes[0].typed_per_filter_config.get("envoy.filters.http.local_ratelimit")?;
        Some(any.unpack::<LocalRateLimit>(urls::LOCAL_RATE_LIMIT).unwrap().unwrap())
    };
    let rule = rule_with(vec![limit("own", 100, 1_000, vec![])]);
    let message = bucket_of(&rule).unwrap();
    assert_eq!((&*message.stat_prefix, message.rate_limited_as_resource_exhausted), ("cart.shop/own", true));
    let bucket = message.token_bucket.unwrap();
    assert_eq!((bucket.max_tokens, bucket.tokens_per_fill), (7, Some(100)));
    for dialect in [ENVOY, Dialect::Leno] {
        let read = route::from_envoy(route::to_envoy(&config_of(rule.clone()), dialect)).unwrap();
        assert_eq!(read.hosts[0].rules[0].action, rule.action);
    }
    let bytes = route::encode(&config_of(rule), Dialect::Leno).body;
    assert!(!bytes.windows(11).any(|window| window == b"rate_limits"), "nothing is left for a note");
    let lowest = rule_with(vec![limit("high", 100, 1_000, vec![]), limit("low", 10, 1_000, vec![])]);
    assert_eq!(bucket_of(&lowest).unwrap().stat_prefix, "cart.shop/low");
    let fast = bucket_of(&rule_with(vec![limit("fast", 3, 20, vec![])])).unwrap().token_bucket.unwrap();
    assert_eq!(fast.tokens_per_fill, Some(9), "Envoy fills every 50 ms at most");
    assert_eq!(bucket_of(&rule_with(vec![limit("each", 10, 1_000, vec![KeySource::Path])])), None);
    let shared = Some(RateShared { per_proxy: false, fallback: RateFallback::Share });
    assert_eq!(bucket_of(&rule_with(vec![RateLimit { shared, ..limit("all", 10, 1_000, vec![]) }])), None);
}

#[test]
fn a_bucket_that_is_filled_more_often_than_envoy_allows_is_refused() {
    let read = |interval: Duration| {
        let mut message = route::to_envoy(&config_of(rule_with(vec![limit("own", 100, 1_000, vec![])])), ENVOY);
        let route = &mut message.virtual_hosts[0].routes[0];
        let any = route.typed_per_filter_config.values_mut().next().unwrap();
        let mut limit: LocalRateLimit = any.unpack(urls::LOCAL_RATE_LIMIT).unwrap().unwrap();
        limit.token_bucket.as_mut().unwrap().fill_interval = Some(interval.into());
        *any = Any::pack(urls::LOCAL_RATE_LIMIT, &limit);
        route::from_envoy(message)
    };
    assert!(read(Duration::from_millis(50)).is_ok());
    let error = read(Duration::from_nanos(49_999_999)).unwrap_err().to_string();
    assert!(error.ends_with("token_bucket.fill_interval: is shorter than 50ms"), "{error}");
}

#[test]
fn limits_of_an_other_server_are_each_routes_own_whatever_their_prefix() {
    let bucket =
        TokenBucket { max_tokens: 1, tokens_per_fill: None, fill_interval: Some(Duration::from_secs(1).into()) };
    let message = LocalRateLimit {
        stat_prefix: "http_local_rate_limiter".to_owned(),
        token_bucket: Some(bucket),
        filter_enabled: Some(always()),
        filter_enforced: Some(always()),
        ..LocalRateLimit::default()
    };
    let usual = usual_rule(PathMatch::Prefix("/".into()), Vec::new());
    let mut config = route::to_envoy(&config_of(usual), ENVOY);
    let first = config.virtual_hosts[0].routes.pop().unwrap();
    config.virtual_hosts[0].routes = vec![Route { name: String::new(), ..first }; 2];
    for route in &mut config.virtual_hosts[0].routes {
        let limit = Any::pack(urls::LOCAL_RATE_LIMIT, &message);
        route.typed_per_filter_config.insert("envoy.filters.http.local_ratelimit".to_owned(), limit);
    }
    let read = route::from_envoy(config).unwrap();
    let names = read.hosts[0].rules.iter().map(|rule| match &rule.action {
        Action::Forward(clusters) => {
            let limits = &clusters[0].rate_limits;
            (limits.service.clone(), limits.limits[0].name.to_string())
        }
        _ => unreachable!("they forward"),
    });
    let own = |at: usize| (format!("xds/{0}/{0}/0/{at}", "cart.shop.mesh:80"), message.stat_prefix.clone());
    assert_eq!(names.collect::<Vec<_>>(), [own(0), own(1)], "routes need not have names");
}

/// A rule whose requests suffer this.
fn suffering(path: PathMatch, faults: Vec<Injection>) -> Rule {
    let mut rule = usual_rule(path, Vec::new());
    if let Action::Forward(clusters) = &mut rule.action {
        let injections = Injections { service: "cart.shop".into(), faults, active_max: 9 };
        clusters.iter_mut().for_each(|cluster| cluster.injections = injections.clone());
    }
    rule
}

fn aborted(name: &str, when: Vec<Match>) -> Injection {
    let abort = Some(Abort { with: AbortWith::Grpc(14), of_million: 5_000 });
    Injection { name: name.into(), when, delay: None, abort, bandwidth: None }
}

fn fault_of(route: &Route) -> Option<HttpFault> {
    let any = route.typed_per_filter_config.get("envoy.filters.http.fault")?;
    Some(any.unpack::<HttpFault>(urls::HTTP_FAULT).unwrap().unwrap())
}

#[test]
fn subsets_stand_under_envoys_names_and_leno_reads_its_own() {
    let subsets = Subsets { label: "stage".into(), fallback: Fallback::To("prod".into()) };
    let balancing = Balancing { subsets: Some(subsets), ..Balancing::default() };
    let model = Cluster { balancing, balance: BalancePolicy::PeakEwma, ..usual_cluster(Resilience::default()) };
    let message = cluster::to_envoy(&model, ENVOY);
    assert_eq!(message.load_balancing_policy, None, "with a list Envoy would look at no subsets");
    let config = message.lb_subset_config.unwrap();
    assert_eq!((config.fallback_policy, &config.subset_selectors[0].keys[..]), (2, &["stage".to_owned()][..]));
    assert_eq!(config.default_subset.unwrap().text("stage"), Some("prod"));
    assert_eq!(cluster::to_envoy(&model, Dialect::Grpc).lb_subset_config, None);
    let key = SubsetKey { header: "x-stage".into(), label: "stage".into() };
    let mut rule = usual_rule(PathMatch::Prefix("/".into()), Vec::new());
    if let Action::Forward(clusters) = &mut rule.action {
        clusters.iter_mut().for_each(|cluster| cluster.affinity.subset = Some(key.clone()));
    }
    let routes = route::to_envoy(&config_of(rule), ENVOY).virtual_hosts.remove(0).routes;
    let any = &routes[0].typed_per_filter_config["envoy.filters.http.header_to_metadata"];
    let rules = any.unpack::<HeaderToMetadata>(urls::HEADER_TO_METADATA).unwrap().unwrap().request_rules;
    let present = rules[0].on_header_present.as_ref().unwrap();
    assert_eq!((&*rules[0].header, &*present.metadata_namespace, &*present.key), ("x-stage", "envoy.lb", "stage"));
    let endpoint = Endpoint {
        subset: Some(("stage".into(), "blue".into())),
        ..Endpoint::at("one", "10.0.0.1:80".parse().unwrap())
    };
    let message = endpoints::to_envoy(&Endpoints { cluster: "cart".into(), endpoints: vec![endpoint] }, ENVOY);
    let metadata = message.endpoints[0].lb_endpoints[0].metadata.as_ref().unwrap();
    assert_eq!(metadata.filter_metadata["envoy.lb"].text("stage"), Some("blue"));
}

#[test]
fn a_fault_stands_on_a_route_under_envoys_name_and_comes_back() {
    let fault = Injection {
        delay: Some(Delay { time: Duration::from_millis(1_500), of_million: 250_000 }),
        bandwidth: Some(Bandwidth { kib_per_second: 64, of_million: 1 }),
        ..aborted("all", Vec::new())
    };
    let rule = suffering(PathMatch::Prefix("/".into()), vec![fault.clone()]);
    let mut message = route::to_envoy(&config_of(rule.clone()), ENVOY);
    let others = fault_of(&message.virtual_hosts[0].routes.pop().unwrap()).unwrap();
    assert_eq!(others.abort.unwrap().error, Some(FaultAbortError::HttpStatus(503)), "no call of gRPC");
    let said = fault_of(&message.virtual_hosts[0].routes[0]).unwrap();
    assert_eq!(said.max_active_faults, Some(9));
    let (delay, abort, rate) = (said.delay.unwrap(), said.abort.unwrap(), said.response_rate_limit.unwrap());
    assert_eq!(delay.specifier, Some(FaultDelaySpecifier::FixedDelay(Duration::from_millis(1_500).into())));
    assert_eq!(abort.error, Some(FaultAbortError::GrpcStatus(14)));
    assert_eq!(rate.limit, Some(FaultRate::Fixed(FixedLimit { limit_kbps: 64 })));
    let shares = [delay.percentage, abort.percentage, rate.percentage].map(|share| share.unwrap());
    // 25 of a hundred, 50 of ten thousand, one of a million.
    assert_eq!(shares.map(|share| (share.numerator, share.denominator)), [(25, 0), (50, 1), (1, 2)]);
    let read = route::from_envoy(message).unwrap();
    let Action::Forward(clusters) = &read.hosts[0].rules[0].action else { panic!("it forwards") };
    let expected = vec![Injection { name: "fault".into(), ..fault }];
    let service = "xds/cart.shop.mesh:80/cart.shop.mesh:80/0/0".to_owned();
    assert_eq!(clusters[0].injections, Injections { service, faults: expected, active_max: 9 });
}

#[test]
fn a_rule_stands_once_for_each_condition_of_its_faults() {
    let on = |path: &str, method: Option<&str>| Match {
        path: PathMatch::Prefix(path.into()),
        method: method.map(Into::into),
        ..Match::default()
    };
    let elsewhere = Match { path: PathMatch::Exact("/b".into()), ..Match::default() };
    let expression = Match { path: PathMatch::Regex("/a/[0-9]+".into()), ..Match::default() };
    let conditions = vec![on("/a/c", Some("POST")), elsewhere, expression];
    let rule = suffering(PathMatch::Prefix("/a".into()), vec![aborted("one", conditions), aborted("two", Vec::new())]);
    let routes = route::to_envoy(&config_of(rule.clone()), ENVOY).virtual_hosts.remove(0).routes;
    let shapes = routes.iter().map(|route| {
        let headers = route.r#match.as_ref().unwrap().headers.iter().map(|header| header.name.as_str()).collect();
        (headers, fault_of(route).is_some())
    });
    let expected: Vec<(Vec<&str>, bool)> = vec![
        (vec![":method", "content-type"], true),
        (vec![":method"], true),
        (vec![":path", "content-type"], true),
        (vec![":path"], true),
        (vec!["content-type"], true),
        (vec![], true),
    ];
    assert_eq!(shapes.collect::<Vec<_>>(), expected, "what nothing can match stands nowhere");
    let to_grpc = route::to_envoy(&config_of(rule), Dialect::Grpc).virtual_hosts.remove(0).routes;
    assert_eq!(to_grpc.len(), 2, "gRPC matches no path among the fields");
    let left = suffering(PathMatch::Prefix("/".into()), vec![aborted("some", vec![on("/a", None)])]);
    let routes = route::to_envoy(&config_of(left), Dialect::Grpc).virtual_hosts.remove(0).routes;
    assert_eq!(routes.iter().map(|route| fault_of(route).is_some()).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn faults_stand_with_destinations_that_have_different_ones() {
    let mut rule = suffering(PathMatch::Prefix("/".into()), vec![aborted("one", Vec::new())]);
    if let Action::Forward(clusters) = &mut rule.action {
        clusters[1].injections = Injections::default();
    }
    for dialect in [ENVOY, Dialect::Grpc] {
        let message = route::to_envoy(&config_of(rule.clone()), dialect);
        assert_eq!(fault_of(&message.virtual_hosts[0].routes[0]), None);
        let read = route::from_envoy(message).unwrap();
        let Action::Forward(clusters) = &read.hosts[0].rules[0].action else { panic!("it forwards") };
        let faults: Vec<usize> = clusters.iter().map(|cluster| cluster.injections.faults.len()).collect();
        assert_eq!(faults, [1, 0]);
    }
}

#[test]
fn a_fault_that_leno_cannot_make_is_refused_with_its_place() {
    let refused = |fault: HttpFault| {
        let mut message = route::to_envoy(&config_of(usual_rule(PathMatch::Prefix("/".into()), Vec::new())), ENVOY);
        let any = Any::pack(urls::HTTP_FAULT, &fault);
        message.virtual_hosts[0].routes[0].typed_per_filter_config.insert("envoy.filters.http.fault".to_owned(), any);
        route::from_envoy(message).unwrap_err().to_string()
    };
    let with = |error| HttpFault { abort: Some(FaultAbort { error, percentage: None }), ..HttpFault::default() };
    assert!(refused(with(Some(FaultAbortError::HttpStatus(204)))).contains("abort.http_status"));
    assert!(refused(with(Some(FaultAbortError::GrpcStatus(99)))).contains("abort.grpc_status"));
    let cluster = HttpFault { upstream_cluster: "cart".to_owned(), ..HttpFault::default() };
    assert!(refused(cluster).contains("upstream_cluster"));
}

#[test]
fn a_duration_that_protobuf_does_not_have_is_refused() {
    let cluster = |seconds| crate::messages::cluster::Cluster {
        connect_timeout: Some(wkt::Duration { seconds, nanos: 0 }),
        ..cluster::to_envoy(&usual_cluster(Resilience::default()), ENVOY)
    };
    assert!(cluster::from_envoy(cluster(315_576_000_000)).is_ok());
    for seconds in [315_576_000_001, i64::MAX, -1] {
        let error = cluster::from_envoy(cluster(seconds)).unwrap_err().to_string();
        assert!(error.contains("connect_timeout"), "{error}");
    }
}

#[test]
fn policies_that_hash_have_envoys_numbers_and_grpc_gets_the_one_it_knows() {
    let balanced = |balance| Cluster { balance, ..usual_cluster(Default::default()) };
    for (balance, number) in [(BalancePolicy::RingHash, 2), (BalancePolicy::Maglev, 5)] {
        let message = cluster::to_envoy(&balanced(balance), ENVOY);
        assert_eq!(message.lb_policy, number);
        assert_eq!(cluster::from_envoy(message).unwrap().balance, balance);
        let message = cluster::to_envoy(&balanced(balance), Dialect::Grpc);
        assert_eq!(cluster::from_envoy(message).unwrap().balance, BalancePolicy::RingHash);
    }
}

#[test]
fn an_other_servers_resources_are_read_without_notes() {
    let rule = usual_rule(PathMatch::Prefix("/api".into()), Vec::new());
    let read = route::decode(&route::encode(&config_of(rule.clone()), ENVOY).body).unwrap();
    let read = &read.hosts[0].rules[0];
    assert_eq!((&read.when, &read.action, &read.request_timeout), (&rule.when, &rule.action, &rule.request_timeout));
    assert_eq!(read.retry, rule.retry);
    assert_eq!(&*read.origin.resource, "httproute/shop/cart/0");
}

#[test]
fn prefixes_are_rewritten_for_envoy_as_the_gateway_api_says() {
    assert_eq!(envoy_path("/a", "/x"), ("/x".into(), None));
    assert_eq!(envoy_path("/a/", "/x/"), ("/x".into(), None));
    assert_eq!(envoy_path("/", "/x"), ("/x/".into(), None));
    assert_eq!(envoy_path("/a.b", "/"), (String::new(), Some((r"^/a\.b/?".into(), "/".into()))));
}

#[test]
fn grpc_gets_only_what_it_does_not_refuse() {
    let mut rule = usual_rule(PathMatch::Prefix("/shop.Cart".into()), Vec::new());
    rule.filters.push(RouteFilter::Cors(Cors::default()));
    let message = route::to_envoy(&config_of(rule), Dialect::Grpc);
    let host = &message.virtual_hosts[0];
    assert_eq!(host.domains, ["cart.shop.mesh", "cart.shop.mesh:80"]);
    let path = host.routes[0].r#match.as_ref().and_then(|m| m.path_specifier.clone());
    assert_eq!(path, Some(PathSpecifier::Prefix("/shop.Cart/".into())));
    assert!(host.routes[0].typed_per_filter_config.is_empty());
}

/// A cluster as people declare it.
pub(super) fn usual_cluster(resilience: Resilience) -> Cluster {
    Cluster {
        name: "cart.shop.mesh:8080".into(),
        service: ServiceName::new("shop", "cart").unwrap(),
        port: 8080,
        protocol: Protocol::Http,
        balance: BalancePolicy::RoundRobin,
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(3600),
        tls: None,
        proxy_protocol: None,
        resilience,
        balancing: Default::default(),
    }
}

#[test]
fn limits_stand_under_envoys_names_and_their_absence_too() {
    let limits = Limits { requests: Some(64), retries: Some(3), ..Limits::default() };
    let model = usual_cluster(Resilience { limits, ..Resilience::default() });
    let message = cluster::to_envoy(&model, ENVOY);
    let thresholds = message.circuit_breakers.clone().unwrap().thresholds[0];
    assert_eq!((thresholds.max_requests, thresholds.max_retries), (Some(64), Some(3)));
    assert_eq!((thresholds.max_connections, thresholds.max_pending_requests), (Some(u32::MAX), Some(u32::MAX)));
    assert_eq!(cluster::from_envoy(message).unwrap().resilience, model.resilience);
    let text = cluster::encode(&model, Dialect::Leno).body;
    assert!(!text.windows(10).any(|window| window == b"resilience"), "nothing is left for a note");
    let limits = Limits { connections: Some(8), pending: Some(2), ..Limits::default() };
    let model = usual_cluster(Resilience { limits, ..Resilience::default() });
    let message = cluster::to_envoy(&model, ENVOY);
    let thresholds = message.circuit_breakers.clone().unwrap().thresholds[0];
    assert_eq!((thresholds.max_connections, thresholds.max_pending_requests), (Some(8), Some(2)));
    assert_eq!(cluster::from_envoy(message).unwrap().resilience, model.resilience);
    let held = Resilience { breaker_forced: Some(ForcedState::Open), ..model.resilience.clone() };
    for dialect in [ENVOY, Dialect::Grpc] {
        let held = cluster::to_envoy(&usual_cluster(held.clone()), dialect).circuit_breakers.unwrap().thresholds[0];
        assert_eq!(held.max_requests, Some(0), "a breaker that is held open lets nothing through");
    }
    let to_grpc = cluster::to_envoy(&model, Dialect::Grpc).circuit_breakers.unwrap().thresholds[0];
    assert_eq!(to_grpc.max_requests, Some(i32::MAX as u32), "gRPC has a limit of 1024 of its own");
}

#[test]
fn ejection_stands_under_envoys_names_and_slow_answers_in_a_note() {
    let ejection = Ejection {
        consecutive_errors: None,
        consecutive_gateway_errors: Some(3),
        consecutive_local_errors: Some(2),
        failure_ratio: Some(50),
        slow_ratio: None,
        slow_after: Duration::from_secs(1),
        window: Duration::from_secs(5),
        requests_min: 20,
        base_time: Duration::from_secs(10),
        time_max: Duration::from_secs(60),
        share_max: 30,
    };
    let model = usual_cluster(Resilience { ejection: Some(ejection), ..Resilience::default() });
    let message = cluster::to_envoy(&model, ENVOY);
    let said = message.outlier_detection.unwrap();
    assert_eq!((said.consecutive_gateway_failure, said.enforcing_consecutive_gateway_failure), (Some(3), Some(100)));
    assert_eq!((said.enforcing_consecutive_5xx, said.enforcing_success_rate), (Some(0), Some(0)));
    assert_eq!(cluster::from_envoy(message).unwrap().resilience, model.resilience);
    let has_note =
        |model: &Cluster| cluster::encode(model, Dialect::Leno).body.windows(10).any(|window| window == b"resilience");
    assert!(!has_note(&model), "nothing is left for a note");
    let slow = Ejection { slow_ratio: Some(80), ..ejection };
    let slow = usual_cluster(Resilience { ejection: Some(slow), ..Resilience::default() });
    assert!(has_note(&slow));
    let theirs = cluster::from_envoy(cluster::to_envoy(&slow, ENVOY)).unwrap();
    assert_eq!(theirs.resilience, model.resilience, "Envoy does what it can");
}

#[test]
fn foreign_proxies_reach_an_endpoint_through_its_proxy_and_never_one_without_weight() {
    let endpoint = |id: &str, weight| Endpoint {
        proxy: Some("10.0.0.1:15006".parse().unwrap()),
        weight,
        ..Endpoint::at(id, "10.0.0.1:8080".parse().unwrap())
    };
    let model = Endpoints { cluster: "c".into(), endpoints: vec![endpoint("a", 7), endpoint("b", 0)] };
    let read = endpoints::decode(&endpoints::encode(&model, ENVOY).body).unwrap();
    assert_eq!(read.endpoints.len(), 1);
    assert_eq!((read.endpoints[0].address.port(), read.endpoints[0].weight), (15006, 7));
}

#[test]
fn what_leno_does_not_have_is_refused_with_its_place() {
    let rule = usual_rule(PathMatch::Prefix("/a".into()), Vec::new());
    let mut message = route::to_envoy(&config_of(rule), ENVOY);
    let route = &mut message.virtual_hosts[0].routes[0];
    route.r#match.as_mut().unwrap().runtime_fraction = Some(Default::default());
    let error = route::from_envoy(message).unwrap_err().to_string();
    assert_eq!(error, "virtual_hosts[0].routes[0].match.runtime_fraction: leno splits by weighted clusters");
}
