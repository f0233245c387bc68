//! What goes wrong on purpose with requests: Envoy's filter of faults, which gRPC has too (gRFC A33).
//!
//! Both have one fault for a route, and gRPC looks at no conditions beside the route's own. So a rule whose faults have
//! conditions stands several times for them, once for each condition, with what is left of the faults last. Names, and which
//! service a fault is of, stand in leno's note.

use std::collections::BTreeMap;

use leno_model::snapshot::{
    Abort, AbortWith, Action, Bandwidth, Delay, Injection, Injections, KeyMatch, Match, PathMatch, Rule, ValueMatch,
    WeightedCluster,
};

use super::path::quote;
use super::rule::header_when;
use super::{Dialect, TranslateError, duration_of, unusable};
use crate::messages::core::{DenominatorType, FractionalPercent};
use crate::messages::fault::{
    FaultAbort, FaultAbortError, FaultDelay, FaultDelaySpecifier, FaultRate, FaultRateLimit, FixedLimit, HttpFault,
};
use crate::messages::route::{ClusterSpecifier, Route};
use crate::messages::urls;
use crate::messages::wkt::Any;

/// The filter of faults, and the key of its configuration among a route's.
pub(super) const FILTER: &str = "envoy.filters.http.fault";
const MILLION: u32 = 1_000_000;

/// Where the filter stands; what it does stands with routes.
pub(super) fn place() -> Any {
    Any::pack(urls::HTTP_FAULT, &HttpFault::default())
}

/// A rule as often as others need it, so that each has one fault without conditions, for all its destinations.
pub(super) fn by_condition(rule: &Rule, dialect: Dialect) -> Vec<Rule> {
    let rules = by_match(rule, dialect);
    match dialect {
        Dialect::Envoy { .. } => rules.into_iter().flat_map(by_kind).collect(),
        Dialect::Grpc | Dialect::Leno => rules,
    }
}

/// Envoy answers 200 to a request that is none of gRPC, where a fault has a status of gRPC: so the rule stands for calls of
/// gRPC first, and then for the others with the status of HTTP that says the same.
fn by_kind(rule: Rule) -> Vec<Rule> {
    let Action::Forward(clusters) = &rule.action else { return vec![rule] };
    let of_grpc = |abort: Abort| matches!(abort.with, AbortWith::Grpc(_));
    if !clusters.iter().flat_map(|cluster| &cluster.injections.faults).any(|fault| fault.abort.is_some_and(of_grpc)) {
        return vec![rule];
    }
    let mut when = rule.when.clone();
    when.headers.push(calls_of_grpc());
    let others = with(&rule, rule.when.clone(), |injections| {
        let fault = injections.faults.first()?.clone();
        let abort = fault.abort.map(|abort| Abort { with: AbortWith::Http(abort.with.http()), ..abort });
        Some(Injection { abort, ..fault })
    });
    vec![Rule { when, ..rule }, others]
}

/// What calls of gRPC have; gRPC-Web is none of them, to Envoy as to leno.
pub(super) fn calls_of_grpc() -> KeyMatch {
    KeyMatch { name: "content-type".into(), value: ValueMatch::Regex(r"application/grpc(\+.*)?".into()) }
}

fn by_match(rule: &Rule, dialect: Dialect) -> Vec<Rule> {
    let Action::Forward(clusters) = &rule.action else { return vec![rule.clone()] };
    if clusters.iter().all(|cluster| cluster.injections.is_none()) {
        return vec![rule.clone()];
    }
    let first = &clusters[0].injections;
    if clusters.iter().any(|cluster| cluster.injections != *first) {
        // Each destination has what is for all its requests; conditions would have to hold for one of them alone.
        let own = |injections: &Injections| injections.faults.first().filter(|fault| fault.when.is_empty()).cloned();
        return vec![with(rule, rule.when.clone(), own)];
    }
    let mut rules = Vec::new();
    for fault in &first.faults {
        let alone = |_: &Injections| Some(Injection { when: Vec::new(), ..fault.clone() });
        if fault.when.is_empty() {
            rules.push(with(rule, rule.when.clone(), alone));
            return rules;
        }
        let both = fault.when.iter().filter_map(|when| both(&rule.when, when, dialect));
        rules.extend(both.map(|when| with(rule, when, alone)));
    }
    rules.push(with(rule, rule.when.clone(), |_| None));
    rules
}

/// The rule with these conditions, and with this fault for each of its destinations.
fn with(rule: &Rule, when: Match, fault: impl Fn(&Injections) -> Option<Injection>) -> Rule {
    let mut rule = Rule { when, ..rule.clone() };
    if let Action::Forward(clusters) = &mut rule.action {
        for cluster in clusters {
            cluster.injections.faults = fault(&cluster.injections).into_iter().collect();
        }
    }
    rule
}

/// What matches both; none where nothing does, or it cannot be said.
fn both(rule: &Match, fault: &Match, dialect: Dialect) -> Option<Match> {
    let method = match (&rule.method, &fault.method) {
        (Some(one), Some(other)) if one != other => return None,
        (one, other) => one.clone().or(other.clone()),
    };
    let joined = |one: &[KeyMatch], other: &[KeyMatch]| one.iter().chain(other).cloned().collect();
    let mut headers: Vec<KeyMatch> = joined(&rule.headers, &fault.headers);
    let path = if covers(&rule.path, &fault.path) {
        fault.path.clone()
    } else if covers(&fault.path, &rule.path) {
        rule.path.clone()
    } else if matches!((&rule.path, &fault.path), (PathMatch::Regex(_), _) | (_, PathMatch::Regex(_))) {
        // Envoy matches the path among the fields too, with its query; gRPC does not.
        if dialect == Dialect::Grpc {
            return None;
        }
        headers.push(KeyMatch { name: ":path".into(), value: ValueMatch::Regex(regex(&fault.path).into()) });
        rule.path.clone()
    } else {
        return None;
    };
    Some(Match { path, method, headers, query: joined(&rule.query, &fault.query) })
}

/// Whether whatever matches `other` matches `path`.
fn covers(path: &PathMatch, other: &PathMatch) -> bool {
    let prefix = match path {
        PathMatch::Prefix(prefix) => prefix.trim_end_matches('/'),
        PathMatch::Exact(_) | PathMatch::Regex(_) => return path == other,
    };
    match other {
        _ if prefix.is_empty() => true,
        PathMatch::Exact(path) | PathMatch::Prefix(path) => {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        PathMatch::Regex(_) => false,
    }
}

/// A path with whatever query.
fn regex(path: &PathMatch) -> String {
    let path = match path {
        PathMatch::Exact(path) => quote(path),
        PathMatch::Prefix(prefix) => format!("{}(/[^?]*)?", quote(prefix.trim_end_matches('/'))),
        PathMatch::Regex(regex) => format!("(?:{regex})"),
    };
    format!(r"{path}(\?.*)?")
}

/// Says it in a route, or with each of its destinations where they differ.
pub(super) fn write(clusters: &[WeightedCluster], route: &mut Route) {
    let Some(first) = clusters.first().map(|cluster| &cluster.injections) else { return };
    if clusters.iter().all(|cluster| cluster.injections == *first) {
        let config = config(first);
        route.typed_per_filter_config.extend(config.map(|config| (FILTER.to_owned(), config)));
        return;
    }
    let Some(crate::messages::route::Action::Route(action)) = &mut route.action else { return };
    let Some(ClusterSpecifier::WeightedClusters(weighted)) = &mut action.cluster_specifier else { return };
    for (message, cluster) in weighted.clusters.iter_mut().zip(clusters) {
        let config = config(&cluster.injections);
        message.typed_per_filter_config.extend(config.map(|config| (FILTER.to_owned(), config)));
    }
}

/// The first fault, if it is for all requests.
fn config(injections: &Injections) -> Option<Any> {
    let fault = injections.faults.first().filter(|fault| fault.when.is_empty())?;
    let message = HttpFault {
        // Envoy refuses a wait of nothing.
        delay: fault.delay.filter(|delay| !delay.time.is_zero()).map(|delay| FaultDelay {
            specifier: Some(FaultDelaySpecifier::FixedDelay(delay.time.into())),
            percentage: Some(share(delay.of_million)),
        }),
        abort: fault.abort.map(|abort| FaultAbort {
            error: Some(match abort.with {
                AbortWith::Http(status) => FaultAbortError::HttpStatus(status.into()),
                AbortWith::Grpc(status) => FaultAbortError::GrpcStatus(status.into()),
            }),
            percentage: Some(share(abort.of_million)),
        }),
        max_active_faults: Some(injections.active_max),
        response_rate_limit: fault.bandwidth.map(|bandwidth| FaultRateLimit {
            limit: Some(FaultRate::Fixed(FixedLimit { limit_kbps: bandwidth.kib_per_second.max(1).into() })),
            percentage: Some(share(bandwidth.of_million)),
        }),
        ..HttpFault::default()
    };
    Some(Any::pack(urls::HTTP_FAULT, &message))
}

/// What a configuration of the filter says to whoever does not read notes; `own` tells its route from all others.
pub(super) fn read(configs: &BTreeMap<String, Any>, own: &str) -> Result<Injections, TranslateError> {
    let Some(message) = configs.get(FILTER).and_then(|any| any.unpack::<HttpFault>(urls::HTTP_FAULT)) else {
        return Ok(Injections::default());
    };
    injections_from(message?, own).map_err(|error| error.within(&format!("typed_per_filter_config[{FILTER}]")))
}

fn injections_from(message: HttpFault, own: &str) -> Result<Injections, TranslateError> {
    if !message.upstream_cluster.is_empty() {
        return Err(unusable("upstream_cluster", "leno looks at no clusters: write it on their routes"));
    }
    if !message.downstream_nodes.is_empty() {
        return Err(unusable("downstream_nodes", "leno looks at no nodes: write it on their routes"));
    }
    let when = message.headers.into_iter().map(header_when).collect::<Result<Vec<_>, _>>()?;
    let mut matches = Match::default();
    for (name, value) in when {
        match value {
            ValueMatch::Exact(method) if &*name == ":method" => matches.method = Some(method),
            _ if name.starts_with(':') => {
                let why = format!("leno has no field {name}: write it on a route that matches it");
                return Err(unusable("headers", why));
            }
            value => matches.headers.push(KeyMatch { name, value }),
        }
    }
    // What a request says of its own faults is not looked at: absent is none.
    let delay = match message.delay.map(|delay| (delay.specifier, of_million(delay.percentage))) {
        Some((Some(FaultDelaySpecifier::FixedDelay(time)), of_million)) => {
            Some(Delay { time: duration_of("delay.fixed_delay", time)?, of_million })
        }
        _ => None,
    };
    let abort = match message.abort.map(|abort| (abort.error, of_million(abort.percentage))) {
        Some((Some(FaultAbortError::HttpStatus(status)), of_million)) => {
            let status = u16::try_from(status).ok().filter(|status| (400..600).contains(status));
            let status = status.ok_or_else(|| unusable("abort.http_status", "is none from 400 to 599"))?;
            Some(Abort { with: AbortWith::Http(status), of_million })
        }
        Some((Some(FaultAbortError::GrpcStatus(status)), of_million)) => {
            let status = u8::try_from(status).ok().filter(|status| (1..=16).contains(status));
            let status = status.ok_or_else(|| unusable("abort.grpc_status", "is no failure of gRPC"))?;
            Some(Abort { with: AbortWith::Grpc(status), of_million })
        }
        _ => None,
    };
    let bandwidth = match message.response_rate_limit.map(|limit| (limit.limit, of_million(limit.percentage))) {
        Some((Some(FaultRate::Fixed(limit)), of_million)) => {
            let kib_per_second = u32::try_from(limit.limit_kbps).unwrap_or(u32::MAX).max(1);
            Some(Bandwidth { kib_per_second, of_million })
        }
        _ => None,
    };
    if delay.is_none() && abort.is_none() && bandwidth.is_none() {
        return Ok(Injections::default());
    }
    let when = if matches == Match::default() { Vec::new() } else { vec![matches] };
    Ok(Injections {
        service: format!("xds/{own}"),
        faults: vec![Injection { name: "fault".into(), when, delay, abort, bandwidth }],
        active_max: message.max_active_faults.unwrap_or(u32::MAX),
    })
}

fn share(of_million: u32) -> FractionalPercent {
    let (numerator, denominator) = match of_million {
        n if n.is_multiple_of(10_000) => (n / 10_000, DenominatorType::Hundred),
        n if n.is_multiple_of(100) => (n / 100, DenominatorType::TenThousand),
        n => (n, DenominatorType::Million),
    };
    FractionalPercent { numerator, denominator: denominator.into() }
}

/// Absent is none.
fn of_million(share: Option<FractionalPercent>) -> u32 {
    let Some(share) = share else { return 0 };
    let times = match DenominatorType::try_from(share.denominator) {
        Ok(DenominatorType::Hundred) | Err(_) => 10_000,
        Ok(DenominatorType::TenThousand) => 100,
        Ok(DenominatorType::Million) => 1,
    };
    share.numerator.saturating_mul(times).min(MILLION)
}
