//! One rule as one Envoy route.

use std::time::Duration;

use leno_model::snapshot::{
    Action, Cors, HeaderChange, KeyMatch, Match, Mirror, Name, Origin, Redirect, Retry, Rewrite, RouteFilter, Rule,
    ValueMatch, WeightedCluster,
};
use serde::{Deserialize, Serialize};

use super::listener::{origin_of, rule_note};
use super::path::{Replace, match_from, match_to, quote, regex, regex_of, rewrite_from, rewrite_to};
use super::{Dialect, TranslateError, UNRESOLVED, duration_of, exact_of, exact_text, note, unusable, with_note};
use crate::messages::core::{
    DataSource, DataSourceSpecifier, DenominatorType, FractionalPercent, HeaderAppendAction, HeaderValue,
    HeaderValueOption, MatchPattern, RuntimeFractionalPercent, StringMatcher,
};
use crate::messages::note::RuleNote;
use crate::messages::route::{
    Action as EnvoyAction, ClusterNotFound, ClusterSpecifier, ClusterWeight, ClusterWeightHostRewrite, CorsPolicy,
    DirectResponseAction, HeaderMatchSpecifier, HeaderMatcher, HostRewriteSpecifier, MaxStreamDuration,
    QueryMatchSpecifier, QueryParameterMatcher, RedirectAction, RedirectPath, RedirectResponseCode, RedirectScheme,
    RequestMirrorPolicy, RetryBackOff, RetryPolicy, Route, RouteAction, RouteMatch, WeightedCluster as EnvoyWeighted,
};
use crate::messages::urls;
use crate::messages::wkt::Any;

/// The key of the CORS policy among a route's filter configurations.
const CORS_FILTER: &str = "envoy.filters.http.cors";
/// What Envoy's own default is where a route says nothing.
const ENVOY_TIMEOUT: Duration = Duration::from_secs(15);
/// Envoy's shortest wait between two tries where a policy says nothing.
const ENVOY_BACKOFF: Duration = Duration::from_millis(25);
/// What leno's proxies try again without being asked, in Envoy's words, and how often.
const SAFE_RETRIES: &str = "connect-failure,refused-stream,reset-before-request";
const SAFE_RETRIES_MAX: u32 = 2;
/// Envoy refuses a longer body of an answer that it makes itself.
const ENVOY_BODY_MAX: usize = 4096;

/// What the message does not say as the model means it.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct Exact {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    when: Option<Match>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filters: Option<Vec<RouteFilter>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    action: Option<Action>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tries: Option<Tries>,
}

/// How long and how often a rule tries.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Tries {
    request_timeout: Option<Duration>,
    try_timeout: Option<Duration>,
    retry: Option<Retry>,
}

/// A rule as Envoy's route; none where it could never match (gRPC sends no queries and only POST).
pub(super) fn rule_to(rule: &Rule, dialect: Dialect) -> Option<Route> {
    let post = rule.when.method.as_deref().is_none_or(|method| method == "POST");
    if dialect == Dialect::Grpc && (!rule.when.query.is_empty() || !post) {
        return None;
    }
    let mut route = Route {
        name: format!("{}/{}", rule.origin.resource, rule.origin.rule),
        r#match: Some(when_to(&rule.when, dialect)),
        action: Some(action_to(rule, dialect)),
        ..Route::default()
    };
    filters_to(&rule.filters, rule, dialect, &mut route);
    if dialect == Dialect::Leno {
        let exact = exact_text(&differences(rule, &route));
        route.metadata = with_note(urls::RULE_NOTE, &rule_note(&rule.origin, exact));
    }
    Some(route)
}

/// Envoy's route as a rule.
pub(super) fn rule_from(route: Route, index: usize) -> Result<Rule, TranslateError> {
    let note: Option<RuleNote> = note(urls::RULE_NOTE, route.metadata.as_ref())?;
    let exact: Exact = note.as_ref().map(|note| exact_of(&note.exact)).transpose()?.unwrap_or_default();
    let mut rule = plain(route, index, &exact)?;
    rule.origin = note.as_ref().map(origin_of).unwrap_or(rule.origin);
    Ok(rule)
}

/// What of a rule is not read back from its route as it was.
fn differences(rule: &Rule, route: &Route) -> Exact {
    let all = || Exact {
        when: Some(rule.when.clone()),
        filters: Some(rule.filters.clone()),
        action: Some(rule.action.clone()),
        tries: Some(tries_of(rule)),
    };
    let read = route.r#match.clone().map(when_from);
    // Rewrites are read in the light of the match, so what the match loses is given back first.
    let when = (read != Some(Ok(rule.when.clone()))).then(|| rule.when.clone());
    let known = Exact { when: when.clone(), ..Exact::default() };
    let Ok(plain) = plain(route.clone(), 0, &known) else { return all() };
    Exact {
        when,
        filters: (plain.filters != rule.filters).then(|| rule.filters.clone()),
        action: (plain.action != rule.action).then(|| rule.action.clone()),
        tries: (tries_of(&plain) != tries_of(rule)).then(|| tries_of(rule)),
    }
}

fn tries_of(rule: &Rule) -> Tries {
    Tries { request_timeout: rule.request_timeout, try_timeout: rule.try_timeout, retry: rule.retry.clone() }
}

/// What the message says where `exact` says nothing.
fn plain(mut route: Route, index: usize, exact: &Exact) -> Result<Rule, TranslateError> {
    let when = match &exact.when {
        Some(when) => when.clone(),
        None => when_from(route.r#match.take().ok_or_else(|| unusable("match", "is missing"))?)?,
    };
    let tries = match &exact.tries {
        Some(tries) => tries.clone(),
        None => tries_from(&route)?,
    };
    let filters = match &exact.filters {
        Some(filters) => filters.clone(),
        None => filters_from(&mut route, &when)?,
    };
    let resource = if route.name.is_empty() { "xds" } else { &route.name };
    Ok(Rule {
        origin: Origin { resource: resource.into(), rule: index as u32, name: None },
        filters,
        action: match &exact.action {
            Some(action) => action.clone(),
            None => action_from(route.action, &when)?,
        },
        when,
        request_timeout: tries.request_timeout,
        try_timeout: tries.try_timeout,
        retry: tries.retry,
    })
}

// === Match ===

fn when_to(when: &Match, dialect: Dialect) -> RouteMatch {
    let method = when.method.as_ref().filter(|_| dialect != Dialect::Grpc);
    let method = method.map(|method| header_to(":method", MatchPattern::Exact(method.to_string())));
    let headers = when.headers.iter().map(|header| header_to(&header.name, pattern_to(&header.value)));
    let query = when.query.iter().map(|query| QueryParameterMatcher {
        name: query.name.to_string(),
        query_parameter_match_specifier: Some(QueryMatchSpecifier::String(matcher(pattern_to(&query.value)))),
    });
    RouteMatch {
        path_specifier: Some(match_to(&when.path, dialect)),
        headers: method.into_iter().chain(headers).collect(),
        query_parameters: query.collect(),
        ..RouteMatch::default()
    }
}

fn when_from(message: RouteMatch) -> Result<Match, TranslateError> {
    if message.runtime_fraction.is_some() {
        return Err(unusable("match.runtime_fraction", "leno splits by weighted clusters"));
    }
    let path = match_from(message.path_specifier, message.case_sensitive.unwrap_or(true))?;
    let mut when = Match { path, ..Match::default() };
    for header in message.headers {
        let name = header.name.clone();
        let value = header_from(header).map_err(|error| error.within(&format!("match.headers[{name}]")))?;
        match value {
            ValueMatch::Exact(method) if name == ":method" && when.method.is_none() => when.method = Some(method),
            value => when.headers.push(KeyMatch { name: name.into(), value }),
        }
    }
    for query in message.query_parameters {
        let value = match query.query_parameter_match_specifier {
            Some(QueryMatchSpecifier::String(matcher)) => value_from(matcher)?,
            Some(QueryMatchSpecifier::Present(true)) | None => ValueMatch::Regex(".*".into()),
            Some(QueryMatchSpecifier::Present(false)) => return Err(absent(&query.name)),
        };
        when.query.push(KeyMatch { name: query.name.into(), value });
    }
    Ok(when)
}

fn absent(name: &str) -> TranslateError {
    unusable("match", format!("{name:?} must be absent or different: leno matches what is there"))
}

fn header_to(name: &str, pattern: MatchPattern) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::String(matcher(pattern))),
        invert_match: false,
    }
}

fn header_from(header: HeaderMatcher) -> Result<ValueMatch, TranslateError> {
    if header.invert_match {
        return Err(absent(&header.name));
    }
    Ok(match header.header_match_specifier {
        Some(HeaderMatchSpecifier::String(matcher)) => value_from(matcher)?,
        Some(HeaderMatchSpecifier::Exact(text)) => ValueMatch::Exact(text.into()),
        Some(HeaderMatchSpecifier::SafeRegex(regex)) => ValueMatch::Regex(regex.regex.into()),
        Some(HeaderMatchSpecifier::Present(true)) | None => ValueMatch::Regex(".*".into()),
        Some(HeaderMatchSpecifier::Present(false)) => return Err(absent(&header.name)),
    })
}

fn matcher(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ignore_case: false }
}

fn pattern_to(value: &ValueMatch) -> MatchPattern {
    match value {
        ValueMatch::Exact(text) => MatchPattern::Exact(text.to_string()),
        ValueMatch::Regex(text) => MatchPattern::SafeRegex(regex(&**text)),
    }
}

fn value_from(matcher: StringMatcher) -> Result<ValueMatch, TranslateError> {
    match &matcher.match_pattern {
        Some(MatchPattern::Exact(text)) if !matcher.ignore_case => Ok(ValueMatch::Exact(text.as_str().into())),
        _ => Ok(ValueMatch::Regex(regex_of(&matcher)?.into())),
    }
}

// === Filters ===

fn filters_to(filters: &[RouteFilter], rule: &Rule, dialect: Dialect, route: &mut Route) {
    let mut changes = Changes::default();
    for filter in filters {
        match filter {
            RouteFilter::RequestHeaders(change) => changes.request(change, dialect),
            RouteFilter::ResponseHeaders(change) => changes.response(change, dialect),
            RouteFilter::Rewrite(rewrite) => {
                if let Some(EnvoyAction::Route(action)) = &mut route.action {
                    rewrite_action(rewrite, rule, action);
                }
            }
            RouteFilter::Mirror(mirror) => {
                if let Some(EnvoyAction::Route(action)) = &mut route.action {
                    action.request_mirror_policies.push(mirror_to(mirror));
                }
            }
            RouteFilter::Cors(cors) if dialect != Dialect::Grpc => {
                let policy = Any::pack(urls::CORS_POLICY, &cors_to(cors));
                route.typed_per_filter_config.insert(CORS_FILTER.to_owned(), policy);
            }
            RouteFilter::Cors(_) => {}
        }
    }
    route.request_headers_to_add = changes.request_add;
    route.request_headers_to_remove = changes.request_remove;
    route.response_headers_to_add = changes.response_add;
    route.response_headers_to_remove = changes.response_remove;
}

fn filters_from(route: &mut Route, when: &Match) -> Result<Vec<RouteFilter>, TranslateError> {
    let mut filters = Vec::new();
    headers_from(
        std::mem::take(&mut route.request_headers_to_add),
        std::mem::take(&mut route.request_headers_to_remove),
        RouteFilter::RequestHeaders,
        &mut filters,
    )?;
    headers_from(
        std::mem::take(&mut route.response_headers_to_add),
        std::mem::take(&mut route.response_headers_to_remove),
        RouteFilter::ResponseHeaders,
        &mut filters,
    )?;
    if let Some(EnvoyAction::Route(action)) = &mut route.action {
        let hostname = action.host_rewrite_specifier.take();
        let hostname = hostname.map(|HostRewriteSpecifier::Literal(host)| Name::from(host));
        let replace = match (action.regex_rewrite.take(), std::mem::take(&mut action.prefix_rewrite)) {
            (Some(regex), _) => Some(Replace::Regex(regex)),
            (None, prefix) => (!prefix.is_empty()).then_some(Replace::Prefix(prefix)),
        };
        let path = replace.map(|replace| rewrite_from(&when.path, replace)).transpose()?;
        if hostname.is_some() || path.is_some() {
            filters.push(RouteFilter::Rewrite(Rewrite { hostname, path }));
        }
        filters.extend(action.request_mirror_policies.drain(..).map(|policy| RouteFilter::Mirror(mirror_from(policy))));
    }
    if let Some(any) = route.typed_per_filter_config.get(CORS_FILTER)
        && let Some(policy) = any.unpack::<CorsPolicy>(urls::CORS_POLICY)
    {
        filters.push(RouteFilter::Cors(cors_from(policy?)?));
    }
    Ok(filters)
}

/// Changes of fields, as Envoy lists them on a route or a destination. It removes first and then adds in order.
#[derive(Default)]
struct Changes {
    request_add: Vec<HeaderValueOption>,
    request_remove: Vec<String>,
    response_add: Vec<HeaderValueOption>,
    response_remove: Vec<String>,
}

impl Changes {
    fn request(&mut self, change: &HeaderChange, dialect: Dialect) {
        headers_to(change, dialect, &mut self.request_add, &mut self.request_remove);
    }

    fn response(&mut self, change: &HeaderChange, dialect: Dialect) {
        headers_to(change, dialect, &mut self.response_add, &mut self.response_remove);
    }
}

fn headers_to(change: &HeaderChange, dialect: Dialect, add: &mut Vec<HeaderValueOption>, remove: &mut Vec<String>) {
    // Envoy refuses to change these by name.
    let allowed = |name: &Name| {
        dialect == Dialect::Leno || !(name.is_empty() || name.starts_with(':') || name.eq_ignore_ascii_case("host"))
    };
    let removed = |name: &Name| change.remove.iter().any(|other| other.eq_ignore_ascii_case(name));
    let option = |(name, value): &(Name, Name), action: HeaderAppendAction| HeaderValueOption {
        // Envoy reads `%` in values as the start of a command.
        header: Some(HeaderValue { key: name.to_string(), value: value.replace('%', "%%") }),
        append: None,
        append_action: action.into(),
        keep_empty_value: value.is_empty(),
    };
    let wanted = |pair: &&(Name, Name)| allowed(&pair.0) && !removed(&pair.0);
    let set = change.set.iter().filter(wanted);
    add.extend(set.map(|pair| option(pair, HeaderAppendAction::OverwriteIfExistsOrAdd)));
    let append = change.add.iter().filter(wanted);
    add.extend(append.map(|pair| option(pair, HeaderAppendAction::AppendIfExistsOrAdd)));
    remove.extend(change.remove.iter().filter(|name| allowed(name)).map(|name| name.to_string()));
}

fn headers_from(
    add: Vec<HeaderValueOption>,
    remove: Vec<String>,
    filter: fn(HeaderChange) -> RouteFilter,
    filters: &mut Vec<RouteFilter>,
) -> Result<(), TranslateError> {
    if add.is_empty() && remove.is_empty() {
        return Ok(());
    }
    let mut change = HeaderChange { remove: remove.into_iter().map(Name::from).collect(), ..HeaderChange::default() };
    for option in add {
        let header = option.header.unwrap_or_default();
        let pair = (Name::from(header.key), Name::from(header.value.replace("%%", "%")));
        match HeaderAppendAction::try_from(option.append_action) {
            Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) => change.set.push(pair),
            Ok(HeaderAppendAction::AppendIfExistsOrAdd) if option.append == Some(false) => change.set.push(pair),
            Ok(HeaderAppendAction::AppendIfExistsOrAdd) => change.add.push(pair),
            _ => return Err(unusable("headers_to_add", "leno sets and adds fields, whether they are there or not")),
        }
    }
    filters.push(filter(change));
    Ok(())
}

fn rewrite_action(rewrite: &Rewrite, rule: &Rule, action: &mut RouteAction) {
    if let Some(hostname) = &rewrite.hostname {
        action.host_rewrite_specifier = Some(HostRewriteSpecifier::Literal(hostname.to_string()));
    }
    match rewrite.path.as_ref().map(|path| rewrite_to(&rule.when.path, path)) {
        Some(Replace::Prefix(prefix)) => action.prefix_rewrite = prefix,
        Some(Replace::Regex(regex)) => action.regex_rewrite = Some(regex),
        None => {}
    }
}

fn mirror_to(mirror: &Mirror) -> RequestMirrorPolicy {
    let fraction = |numerator, denominator: DenominatorType| {
        let share = FractionalPercent { numerator, denominator: denominator.into() };
        Some(RuntimeFractionalPercent { default_value: Some(share) })
    };
    let runtime_fraction = match (mirror.numerator, mirror.denominator) {
        (1, 1) => None,
        (numerator, 100) => fraction(numerator, DenominatorType::Hundred),
        (numerator, 10_000) => fraction(numerator, DenominatorType::TenThousand),
        (numerator, 1_000_000) => fraction(numerator, DenominatorType::Million),
        (numerator, denominator) => {
            let parts = u64::from(numerator) * 1_000_000 / u64::from(denominator.max(1));
            fraction(parts.min(1_000_000) as u32, DenominatorType::Million)
        }
    };
    RequestMirrorPolicy { cluster: mirror.cluster.to_string(), runtime_fraction }
}

fn mirror_from(policy: RequestMirrorPolicy) -> Mirror {
    let share = policy.runtime_fraction.and_then(|fraction| fraction.default_value);
    let (numerator, denominator) = match share {
        None => (1, 1),
        Some(share) => match DenominatorType::try_from(share.denominator) {
            Ok(DenominatorType::Hundred) | Err(_) => (share.numerator, 100),
            Ok(DenominatorType::TenThousand) => (share.numerator, 10_000),
            Ok(DenominatorType::Million) => (share.numerator, 1_000_000),
        },
    };
    Mirror { cluster: policy.cluster.into(), numerator, denominator }
}

fn cors_to(cors: &Cors) -> CorsPolicy {
    let list = |names: &[Name]| names.iter().map(|name| &**name).collect::<Vec<_>>().join(",");
    let origins = cors.allow_origins.iter().map(|origin| match &**origin {
        "*" => MatchPattern::SafeRegex(regex(".*")),
        origin if origin.contains('*') => {
            MatchPattern::SafeRegex(regex(origin.split('*').map(quote).collect::<Vec<_>>().join("[^/:]+")))
        }
        origin => MatchPattern::Exact(origin.to_owned()),
    });
    CorsPolicy {
        allow_origin_string_match: origins.map(matcher).collect(),
        allow_methods: list(&cors.allow_methods),
        allow_headers: list(&cors.allow_headers),
        expose_headers: list(&cors.expose_headers),
        max_age: cors.max_age.as_secs().to_string(),
        allow_credentials: Some(cors.allow_credentials),
    }
}

fn cors_from(policy: CorsPolicy) -> Result<Cors, TranslateError> {
    let list = |text: &str| text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(Name::from).collect();
    let origins = policy.allow_origin_string_match.iter().map(|origin| match &origin.match_pattern {
        Some(MatchPattern::Exact(text)) if !origin.ignore_case => Ok(Name::from(text.as_str())),
        Some(MatchPattern::SafeRegex(regex)) if regex.regex == ".*" => Ok(Name::from("*")),
        Some(MatchPattern::SafeRegex(regex)) => origin_of_regex(&regex.regex),
        _ => Err(unusable("cors.allow_origin", "leno matches whole origins and `*` for labels")),
    });
    Ok(Cors {
        allow_origins: origins.collect::<Result<_, _>>()?,
        allow_methods: list(&policy.allow_methods),
        allow_headers: list(&policy.allow_headers),
        expose_headers: list(&policy.expose_headers),
        allow_credentials: policy.allow_credentials.unwrap_or(false),
        max_age: Duration::from_secs(policy.max_age.parse().unwrap_or(5)),
    })
}

/// The origin with `*` that `cors_to` made this expression of.
fn origin_of_regex(regex: &str) -> Result<Name, TranslateError> {
    let origin = regex.split("[^/:]+").map(|part| part.replace('\\', "")).collect::<Vec<_>>().join("*");
    let again = origin.split('*').map(quote).collect::<Vec<_>>().join("[^/:]+");
    if again == regex {
        Ok(origin.into())
    } else {
        Err(unusable("cors.allow_origin", "leno matches whole origins and `*` for labels"))
    }
}

// === Action ===

fn action_to(rule: &Rule, dialect: Dialect) -> EnvoyAction {
    match &rule.action {
        Action::Forward(clusters) => match specifier_to(clusters, dialect) {
            Some(specifier) => EnvoyAction::Route(forward_to(rule, specifier, dialect)),
            None => answer(500, "no backend has a share of this route"),
        },
        Action::Redirect(redirect) => EnvoyAction::Redirect(redirect_to(redirect, rule)),
        Action::Refuse { status, reason } => answer((*status).into(), reason),
    }
}

fn action_from(action: Option<EnvoyAction>, when: &Match) -> Result<Action, TranslateError> {
    match action {
        Some(EnvoyAction::Route(action)) => Ok(Action::Forward(clusters_from(action.cluster_specifier)?)),
        Some(EnvoyAction::Redirect(redirect)) => Ok(Action::Redirect(redirect_from(redirect, when)?)),
        Some(EnvoyAction::DirectResponse(response)) => {
            let reason = match response.body.and_then(|body| body.specifier) {
                Some(DataSourceSpecifier::InlineString(text)) => text,
                Some(DataSourceSpecifier::InlineBytes(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
                None => String::new(),
            };
            let status = u16::try_from(response.status).map_err(|_| unusable("direct_response", "has no status"))?;
            Ok(Action::Refuse { status, reason: reason.into() })
        }
        None => Err(unusable("action", "is missing or of a kind that leno does not have")),
    }
}

/// An answer without a backend. Envoy refuses statuses outside 200 to 599 and long bodies.
fn answer(status: u32, reason: &str) -> EnvoyAction {
    let end = (0..=reason.len().min(ENVOY_BODY_MAX)).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    let body = DataSource { specifier: Some(DataSourceSpecifier::InlineString(reason[..end].to_owned())) };
    let status = if (200..600).contains(&status) { status } else { 500 };
    EnvoyAction::DirectResponse(DirectResponseAction { status, body: (end > 0).then_some(body) })
}

fn forward_to(rule: &Rule, specifier: ClusterSpecifier, dialect: Dialect) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(specifier),
        // 0 is unlimited; absent would be 15 s.
        timeout: Some(rule.request_timeout.unwrap_or_default().into()),
        max_stream_duration: rule
            .request_timeout
            .filter(|_| dialect == Dialect::Grpc)
            .map(|timeout| MaxStreamDuration { max_stream_duration: Some(timeout.into()), ..Default::default() }),
        retry_policy: retry_to(rule, dialect),
        cluster_not_found_response_code: ClusterNotFound::InternalServerError.into(),
        ..RouteAction::default()
    }
}

/// Where requests go; none when nothing has a share, which Envoy refuses.
fn specifier_to(clusters: &[WeightedCluster], dialect: Dialect) -> Option<ClusterSpecifier> {
    let name = |cluster: &WeightedCluster| cluster.cluster.as_deref().unwrap_or(UNRESOLVED).to_owned();
    if let [only] = clusters
        && only.weight == 1
        && only.filters.is_empty()
    {
        return Some(ClusterSpecifier::Cluster(name(only)));
    }
    if clusters.iter().all(|cluster| cluster.weight == 0) {
        return None;
    }
    let clusters = clusters.iter().map(|cluster| {
        let mut changes = Changes::default();
        let mut host = None;
        for filter in &cluster.filters {
            match filter {
                RouteFilter::RequestHeaders(change) => changes.request(change, dialect),
                RouteFilter::ResponseHeaders(change) => changes.response(change, dialect),
                RouteFilter::Rewrite(rewrite) => host = rewrite.hostname.as_ref().or(host),
                // Envoy has these for a whole route only.
                RouteFilter::Mirror(_) | RouteFilter::Cors(_) => {}
            }
        }
        ClusterWeight {
            name: name(cluster),
            weight: Some(cluster.weight),
            request_headers_to_add: changes.request_add,
            request_headers_to_remove: changes.request_remove,
            response_headers_to_add: changes.response_add,
            response_headers_to_remove: changes.response_remove,
            host_rewrite_specifier: host.map(|host| ClusterWeightHostRewrite::Literal(host.to_string())),
        }
    });
    Some(ClusterSpecifier::WeightedClusters(EnvoyWeighted { clusters: clusters.collect() }))
}

fn clusters_from(specifier: Option<ClusterSpecifier>) -> Result<Vec<WeightedCluster>, TranslateError> {
    let named = |name: String| (name != UNRESOLVED).then(|| Name::from(name));
    match specifier {
        Some(ClusterSpecifier::Cluster(name)) => {
            Ok(vec![WeightedCluster { cluster: named(name), weight: 1, filters: Vec::new() }])
        }
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let mut clusters = Vec::with_capacity(weighted.clusters.len());
            for share in weighted.clusters {
                let mut filters = Vec::new();
                let (add, remove) = (share.request_headers_to_add, share.request_headers_to_remove);
                headers_from(add, remove, RouteFilter::RequestHeaders, &mut filters)?;
                let (add, remove) = (share.response_headers_to_add, share.response_headers_to_remove);
                headers_from(add, remove, RouteFilter::ResponseHeaders, &mut filters)?;
                if let Some(ClusterWeightHostRewrite::Literal(host)) = share.host_rewrite_specifier {
                    filters.push(RouteFilter::Rewrite(Rewrite { hostname: Some(host.into()), path: None }));
                }
                let weight = share.weight.unwrap_or_default();
                clusters.push(WeightedCluster { cluster: named(share.name), weight, filters });
            }
            Ok(clusters)
        }
        None => Err(unusable("route", "names its clusters in a way that leno does not have")),
    }
}

fn retry_to(rule: &Rule, dialect: Dialect) -> Option<RetryPolicy> {
    let retry = rule.retry.as_ref();
    let mut policy = RetryPolicy {
        per_try_timeout: rule.try_timeout.map(Into::into),
        num_retries: retry.map(|retry| retry.attempts),
        retriable_status_codes: retry.iter().flat_map(|r| &r.codes).map(|code| u32::from(*code)).collect(),
        retry_back_off: retry
            .filter(|retry| !retry.backoff.is_zero())
            .map(|retry| RetryBackOff { base_interval: Some(retry.backoff.into()), max_interval: None }),
        ..RetryPolicy::default()
    };
    let codes = "retriable-status-codes";
    match dialect {
        Dialect::Leno => policy.retry_on = retry.map(|_| codes.to_owned()).unwrap_or_default(),
        Dialect::Envoy { .. } if retry.is_some() => policy.retry_on = format!("{SAFE_RETRIES},{codes}"),
        Dialect::Envoy { .. } => {
            policy.retry_on = SAFE_RETRIES.to_owned();
            policy.num_retries = Some(SAFE_RETRIES_MAX);
        }
        // gRPC tries again by status, and refuses a policy without tries.
        Dialect::Grpc => {
            retry.filter(|retry| retry.attempts > 0 && retry.codes.contains(&503))?;
            policy.retry_on = "unavailable".to_owned();
        }
    }
    (policy != RetryPolicy::default()).then_some(policy)
}

fn tries_from(route: &Route) -> Result<Tries, TranslateError> {
    let Some(EnvoyAction::Route(action)) = &route.action else {
        return Ok(Tries { request_timeout: None, try_timeout: None, retry: None });
    };
    let timeout = action.timeout.map(|timeout| duration_of("timeout", timeout)).transpose()?;
    let policy = action.retry_policy.as_ref();
    let per_try = policy.and_then(|policy| policy.per_try_timeout);
    Ok(Tries {
        request_timeout: Some(timeout.unwrap_or(ENVOY_TIMEOUT)).filter(|timeout| !timeout.is_zero()),
        try_timeout: per_try.map(|timeout| duration_of("per_try_timeout", timeout)).transpose()?,
        retry: policy.map(retry_from).transpose()?.flatten(),
    })
}

/// The retries that a policy asks for; what is always safe to try again needs no asking.
fn retry_from(policy: &RetryPolicy) -> Result<Option<Retry>, TranslateError> {
    let mut codes = Vec::new();
    let mut asked = false;
    for condition in policy.retry_on.split(',').map(str::trim) {
        let more: &[u16] = match condition {
            "5xx" => &[500, 502, 503, 504],
            "gateway-error" => &[502, 503, 504],
            "unavailable" => &[503],
            "retriable-status-codes" => {
                let listed = policy.retriable_status_codes.iter().map(|code| u16::try_from(*code));
                codes.extend(
                    listed.collect::<Result<Vec<_>, _>>().map_err(|_| unusable("retry_policy", "has no status"))?,
                );
                &[]
            }
            _ => continue,
        };
        asked = true;
        codes.extend(more.iter().filter(|code| !codes.contains(code)).copied().collect::<Vec<_>>());
    }
    let base = policy.retry_back_off.and_then(|backoff| backoff.base_interval);
    let backoff = base.map(|base| duration_of("retry_back_off", base)).transpose()?.unwrap_or(ENVOY_BACKOFF);
    Ok(asked.then(|| Retry { attempts: policy.num_retries.unwrap_or(1), codes, backoff }))
}

fn redirect_to(redirect: &Redirect, rule: &Rule) -> RedirectAction {
    let path = redirect.path.as_ref().map(|path| match (path, rewrite_to(&rule.when.path, path)) {
        (leno_model::snapshot::PathRewrite::Full(path), _) => RedirectPath::Path(path.to_string()),
        (_, Replace::Prefix(prefix)) => RedirectPath::Prefix(prefix),
        (_, Replace::Regex(regex)) => RedirectPath::Regex(regex),
    });
    let code = match redirect.status {
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    };
    RedirectAction {
        host_redirect: redirect.hostname.as_deref().unwrap_or_default().to_owned(),
        path_rewrite_specifier: path,
        response_code: code.into(),
        scheme_rewrite_specifier: redirect.scheme.as_ref().map(|scheme| RedirectScheme::Scheme(scheme.to_string())),
        strip_query: false,
        port_redirect: redirect.port.unwrap_or_default().into(),
    }
}

fn redirect_from(message: RedirectAction, when: &Match) -> Result<Redirect, TranslateError> {
    if message.strip_query {
        return Err(unusable("redirect.strip_query", "leno keeps the query"));
    }
    let path = match message.path_rewrite_specifier {
        Some(RedirectPath::Path(path)) => Some(leno_model::snapshot::PathRewrite::Full(path.into())),
        Some(RedirectPath::Prefix(prefix)) => Some(rewrite_from(&when.path, Replace::Prefix(prefix))?),
        Some(RedirectPath::Regex(regex)) => Some(rewrite_from(&when.path, Replace::Regex(regex))?),
        None => None,
    };
    let status = match RedirectResponseCode::try_from(message.response_code) {
        Ok(RedirectResponseCode::MovedPermanently) => 301,
        Ok(RedirectResponseCode::Found) => 302,
        Ok(RedirectResponseCode::SeeOther) => 303,
        Ok(RedirectResponseCode::TemporaryRedirect) => 307,
        Ok(RedirectResponseCode::PermanentRedirect) => 308,
        Err(_) => return Err(unusable("redirect.response_code", "is not a redirect")),
    };
    let port = u16::try_from(message.port_redirect).map_err(|_| unusable("redirect.port_redirect", "is no port"))?;
    Ok(Redirect {
        scheme: match message.scheme_rewrite_specifier {
            Some(RedirectScheme::Scheme(scheme)) => Some(scheme.into()),
            Some(RedirectScheme::Https(true)) => Some("https".into()),
            Some(RedirectScheme::Https(false)) | None => None,
        },
        hostname: (!message.host_redirect.is_empty()).then(|| message.host_redirect.into()),
        path,
        port: (port > 0).then_some(port),
        status,
    })
}
