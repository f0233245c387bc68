//! What a rule does with a request.

use leno_model::snapshot::{
    Action, Affinity, DirectReply, Injections, Match, Name, PathRewrite, RateLimits, Redirect, Rewrite, RouteFilter,
    Rule, Session, WeightedCluster,
};

use super::filters::{Changes, headers_from};
use super::retry::{hedge_to, retry_to};
use crate::messages::core::{DataSource, DataSourceSpecifier};
use crate::messages::route::{
    Action as EnvoyAction, ClusterNotFound, ClusterSpecifier, ClusterWeight, ClusterWeightHostRewrite,
    DirectResponseAction, MaxStreamDuration, RedirectAction, RedirectPath, RedirectResponseCode, RedirectScheme,
    RouteAction, WeightedCluster as EnvoyWeighted,
};
use crate::translate::path::{Replace, rewrite_from, rewrite_to};
use crate::translate::{Dialect, TranslateError, UNRESOLVED, unusable};
use crate::translate::{affinity, injection};

/// What Envoy says of the body of an answer that it makes itself.
pub(super) const TEXT: &str = "text/plain";

/// What an Envoy that answers by itself tells a call of gRPC.
const UNAVAILABLE: u8 = 14;

/// Envoy refuses a longer body of an answer that it makes itself.
const ENVOY_BODY_MAX: usize = 4096;

/// What a route says for whatever it leads to.
pub(super) struct OfRoute {
    pub(super) name: String,
    pub(super) session: Option<Session>,
    pub(super) limits: RateLimits,
    pub(super) injections: Injections,
}

pub(super) fn action_to(rule: &Rule, dialect: Dialect) -> EnvoyAction {
    match &rule.action {
        Action::Forward(clusters) => match specifier_to(clusters, dialect) {
            Some(specifier) => {
                let hash_policy = affinity::policies_to(clusters);
                EnvoyAction::Route(RouteAction { hash_policy, ..forward_to(rule, specifier, dialect) })
            }
            None => answer(500, "no backend has a share of this route"),
        },
        Action::Redirect(redirect) => EnvoyAction::Redirect(redirect_to(redirect, rule)),
        Action::Reply(reply) => answer(reply.status.into(), &reply.body),
        Action::Refuse { status, reason } => answer((*status).into(), reason),
    }
}

pub(super) fn action_from(
    action: Option<EnvoyAction>,
    mut of_route: OfRoute,
    when: &Match,
) -> Result<Action, TranslateError> {
    match action {
        Some(EnvoyAction::Route(action)) => {
            let affinity = affinity::affinity_from(action.hash_policy, of_route.session.take())?;
            Ok(Action::Forward(clusters_from(action.cluster_specifier, &affinity, &of_route)?))
        }
        Some(EnvoyAction::Redirect(redirect)) => Ok(Action::Redirect(redirect_from(redirect, when)?)),
        Some(EnvoyAction::DirectResponse(response)) => {
            let body = match response.body.and_then(|body| body.specifier) {
                Some(DataSourceSpecifier::InlineString(text)) => text,
                Some(DataSourceSpecifier::InlineBytes(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
                None => String::new(),
            };
            let status = u16::try_from(response.status).ok().filter(|status| (200..600).contains(status));
            let status = status.ok_or_else(|| unusable("direct_response.status", "is not from 200 to 599"))?;
            let (content_type, fields) = (TEXT.into(), Vec::new());
            Ok(Action::Reply(DirectReply { status, content_type, fields, body: body.into(), grpc_status: UNAVAILABLE }))
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
        max_stream_duration: stream_duration_to(rule, dialect),
        retry_policy: retry_to(rule, dialect),
        hedge_policy: hedge_to(rule, dialect),
        cluster_not_found_response_code: ClusterNotFound::InternalServerError.into(),
        ..RouteAction::default()
    }
}

/// gRPC reads a route's timeout here. Envoy would look at `timeout` no more.
fn stream_duration_to(rule: &Rule, dialect: Dialect) -> Option<MaxStreamDuration> {
    let limit = rule.request_timeout.filter(|_| dialect == Dialect::Grpc);
    limit.map(|limit| MaxStreamDuration { max_stream_duration: Some(limit.into()), ..MaxStreamDuration::default() })
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
            typed_per_filter_config: Default::default(),
            host_rewrite_specifier: host.map(|host| ClusterWeightHostRewrite::Literal(host.to_string())),
        }
    });
    Some(ClusterSpecifier::WeightedClusters(EnvoyWeighted { clusters: clusters.collect() }))
}

fn clusters_from(
    specifier: Option<ClusterSpecifier>,
    affinity: &Affinity,
    of_route: &OfRoute,
) -> Result<Vec<WeightedCluster>, TranslateError> {
    let named = |name: String| (name != UNRESOLVED).then(|| Name::from(name));
    match specifier {
        Some(ClusterSpecifier::Cluster(name)) => Ok(vec![WeightedCluster {
            cluster: named(name),
            weight: 1,
            filters: Vec::new(),
            affinity: affinity.clone(),
            rate_limits: of_route.limits.clone(),
            injections: of_route.injections.clone(),
        }]),
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
                let own = format!("{}/{}", of_route.name, share.name);
                let own = injection::read(&share.typed_per_filter_config, &own)?;
                clusters.push(WeightedCluster {
                    cluster: named(share.name),
                    weight,
                    filters,
                    affinity: affinity.clone(),
                    rate_limits: of_route.limits.clone(),
                    injections: if own.is_none() { of_route.injections.clone() } else { own },
                });
            }
            Ok(clusters)
        }
        None => Err(unusable("route", "names its clusters in a way that leno does not have")),
    }
}

fn redirect_to(redirect: &Redirect, rule: &Rule) -> RedirectAction {
    let path = redirect.path.as_ref().map(|path| match (path, rewrite_to(&rule.when.path, path)) {
        (PathRewrite::Full(path), _) => RedirectPath::Path(path.to_string()),
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
        Some(RedirectPath::Path(path)) => Some(PathRewrite::Full(path.into())),
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
