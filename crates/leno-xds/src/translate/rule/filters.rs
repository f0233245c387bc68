//! What a rule changes on the way.

use std::time::Duration;

use leno_model::snapshot::{Cors, HeaderChange, Match, Mirror, Name, Rewrite, RouteFilter, Rule};

use super::when::matcher;
use crate::messages::core::{
    DenominatorType, FractionalPercent, HeaderAppendAction, HeaderValue, HeaderValueOption, MatchPattern,
    RuntimeFractionalPercent,
};
use crate::messages::route::{
    Action as EnvoyAction, CorsPolicy, HostRewriteSpecifier, RequestMirrorPolicy, Route, RouteAction,
};
use crate::messages::urls;
use crate::messages::wkt::Any;
use crate::translate::path::{Replace, quote, regex, rewrite_from, rewrite_to};
use crate::translate::{Dialect, TranslateError, unusable};

/// The key of the CORS policy among a route's filter configurations.
const CORS_FILTER: &str = "envoy.filters.http.cors";

pub(super) fn filters_to(filters: &[RouteFilter], rule: &Rule, dialect: Dialect, route: &mut Route) {
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

pub(super) fn filters_from(route: &mut Route, when: &Match) -> Result<Vec<RouteFilter>, TranslateError> {
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
pub(super) struct Changes {
    pub(super) request_add: Vec<HeaderValueOption>,
    pub(super) request_remove: Vec<String>,
    pub(super) response_add: Vec<HeaderValueOption>,
    pub(super) response_remove: Vec<String>,
}

impl Changes {
    pub(super) fn request(&mut self, change: &HeaderChange, dialect: Dialect) {
        headers_to(change, dialect, &mut self.request_add, &mut self.request_remove);
    }

    pub(super) fn response(&mut self, change: &HeaderChange, dialect: Dialect) {
        headers_to(change, dialect, &mut self.response_add, &mut self.response_remove);
    }
}

fn headers_to(change: &HeaderChange, dialect: Dialect, add: &mut Vec<HeaderValueOption>, remove: &mut Vec<String>) {
    // Envoy refuses to change these by name.
    let allowed = |name: &Name| {
        dialect == Dialect::Leno || !(name.is_empty() || name.starts_with(':') || name.eq_ignore_ascii_case("host"))
    };
    let removed = |name: &Name| change.remove.iter().any(|other| other.eq_ignore_ascii_case(name));
    let wanted = |pair: &&(Name, Name)| allowed(&pair.0) && !removed(&pair.0);
    let set = change.set.iter().filter(wanted);
    add.extend(set.map(|(name, value)| option(name, value, HeaderAppendAction::OverwriteIfExistsOrAdd)));
    let append = change.add.iter().filter(wanted);
    add.extend(append.map(|(name, value)| option(name, value, HeaderAppendAction::AppendIfExistsOrAdd)));
    remove.extend(change.remove.iter().filter(|name| allowed(name)).map(|name| name.to_string()));
}

/// Replaces all fields of a name.
pub(super) fn replacing(name: &str, value: &str) -> HeaderValueOption {
    option(name, value, HeaderAppendAction::OverwriteIfExistsOrAdd)
}

fn option(name: &str, value: &str, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        // Envoy reads `%` in values as the start of a command.
        header: Some(HeaderValue { key: name.to_owned(), value: value.replace('%', "%%") }),
        append: None,
        append_action: action.into(),
        keep_empty_value: value.is_empty(),
    }
}

pub(super) fn headers_from(
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
