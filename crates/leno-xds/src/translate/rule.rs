//! One rule as one Envoy route.

use std::time::Duration;

use leno_model::snapshot::{Action, DirectReply, Match, Origin, Retry, RouteFilter, Rule};
use serde::{Deserialize, Serialize};

use self::action::{OfRoute, action_from, action_to};
use self::filters::{filters_from, filters_to};
use self::retry::{by_method, tries_from};
use self::when::{when_from, when_to};
use super::listener::{origin_of, rule_note};
use super::{
    Dialect, TranslateError, affinity, exact_of, exact_text, injection, note, rate_limit, subset, unusable, with_note,
};
use crate::messages::note::RuleNote;
use crate::messages::route::Route;
use crate::messages::urls;

mod when;

pub(super) use self::when::header_when;

mod filters;

mod action;

mod retry;

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

/// A rule as Envoy's routes, in order.
pub(super) fn routes_to(rule: &Rule, dialect: Dialect) -> Vec<Route> {
    match dialect {
        Dialect::Envoy { .. } => {
            let rules = injection::by_condition(rule, dialect);
            let rules = rules.into_iter().flat_map(reply_by_kind);
            rules.flat_map(|rule| by_method(&rule)).filter_map(|rule| rule_to(&rule, dialect)).collect()
        }
        Dialect::Grpc => {
            injection::by_condition(rule, dialect).iter().filter_map(|rule| rule_to(rule, dialect)).collect()
        }
        Dialect::Leno => rule_to(rule, dialect).into_iter().collect(),
    }
}

/// Envoy tells a call of gRPC what a status of HTTP says, and that is UNAVAILABLE for these alone: so another one stands for
/// the other requests, behind 503 for the calls.
fn reply_by_kind(rule: Rule) -> Vec<Rule> {
    const UNAVAILABLE: [u16; 4] = [429, 502, 503, 504];
    let Action::Reply(reply) = &rule.action else { return vec![rule] };
    if UNAVAILABLE.contains(&reply.status) {
        return vec![rule];
    }
    let mut calls = Rule { action: Action::Reply(DirectReply { status: 503, ..reply.clone() }), ..rule.clone() };
    calls.when.headers.push(injection::calls_of_grpc());
    vec![calls, rule]
}

/// A rule as Envoy's route; none where it could never match (gRPC sends no queries and only POST).
fn rule_to(rule: &Rule, dialect: Dialect) -> Option<Route> {
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
    if let Action::Forward(clusters) = &rule.action {
        injection::write(clusters, &mut route);
        if dialect != Dialect::Grpc {
            affinity::session_to(clusters, &mut route);
            rate_limit::write(clusters, &mut route);
        }
        if let Dialect::Envoy { .. } = dialect {
            subset::write(clusters, &mut route);
        }
    }
    if let (Action::Reply(reply), Dialect::Envoy { .. }) = (&rule.action, dialect) {
        let is_other = &*reply.content_type != action::TEXT;
        let content_type = is_other.then_some(("content-type", &*reply.content_type));
        let fields = reply.fields.iter().map(|(name, value)| (&**name, &**value));
        route
            .response_headers_to_add
            .extend(content_type.into_iter().chain(fields).map(|(n, v)| filters::replacing(n, v)));
    }
    if dialect == Dialect::Leno {
        let exact = exact_text(&differences(rule, &route));
        route.metadata = with_note(urls::RULE_NOTE, &rule_note(&rule.origin, exact));
    }
    Some(route)
}

/// Envoy's route as a rule; `within` is its configuration and host, because a route need not have a name.
pub(super) fn rule_from(route: Route, index: usize, within: &str) -> Result<Rule, TranslateError> {
    let note: Option<RuleNote> = note(urls::RULE_NOTE, route.metadata.as_ref())?;
    let exact: Exact = note.as_ref().map(|note| exact_of(&note.exact)).transpose()?.unwrap_or_default();
    let mut rule = plain(route, index, within, &exact)?;
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
    let Ok(plain) = plain(route.clone(), 0, "", &known) else { return all() };
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
fn plain(mut route: Route, index: usize, within: &str, exact: &Exact) -> Result<Rule, TranslateError> {
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
            None => {
                let own = format!("{within}/{index}");
                let of_route = OfRoute {
                    session: affinity::session_from(&route)?,
                    limits: rate_limit::read(&route, &own)?,
                    injections: injection::read(&route.typed_per_filter_config, &own)?,
                    name: route.name,
                };
                action_from(route.action, of_route, &when)?
            }
        },
        when,
        request_timeout: tries.request_timeout,
        try_timeout: tries.try_timeout,
        retry: tries.retry,
    })
}
