//! What binds requests to endpoints. Envoy has it once for a route, leno for each of its destinations: a route gets the keys
//! of all of them, which for one service, whatever its versions, are the same.

use leno_model::snapshot::{Affinity, Cookie, HashKey, HashSource, Session, WeightedCluster};

use super::{TranslateError, duration_of, unusable};
use crate::messages::core::{Empty, TypedExtensionConfig};
use crate::messages::listener::{TcpHashPolicy, TcpHashSource};
use crate::messages::route::{
    ConnectionProperties, HashPolicy, HashPolicyCookie, HashPolicyHeader, HashPolicyQuery, HashPolicySpecifier, Route,
};
use crate::messages::session::{
    CookieBasedSessionState, HeaderBasedSessionState, SessionCookie, SessionOverride, StatefulSession,
    StatefulSessionPerRoute,
};
use crate::messages::urls;
use crate::messages::wkt::Any;

/// The filter of sessions, and the key of its configuration among a route's.
pub(super) const SESSION_FILTER: &str = "envoy.filters.http.stateful_session";
const COOKIE_SESSION: &str = "envoy.http.stateful_session.cookie";
const HEADER_SESSION: &str = "envoy.http.stateful_session.header";

/// The keys of all destinations, each once.
pub(super) fn policies_to(clusters: &[WeightedCluster]) -> Vec<HashPolicy> {
    let mut keys: Vec<&HashKey> = Vec::new();
    for key in clusters.iter().flat_map(|cluster| &cluster.affinity.hash) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys.into_iter().map(policy_to).collect()
}

/// What binds the requests of a route, for every one of its destinations.
pub(super) fn affinity_from(policies: Vec<HashPolicy>, session: Option<Session>) -> Result<Affinity, TranslateError> {
    let mut hash = Vec::with_capacity(policies.len());
    for (index, policy) in policies.into_iter().enumerate() {
        hash.extend(policy_from(policy).map_err(|error| error.within(&format!("hash_policy[{index}]")))?);
    }
    Ok(Affinity { hash, session, subset: None })
}

/// The sessions of a route: those of the first destination that has some.
pub(super) fn session_to(clusters: &[WeightedCluster], route: &mut Route) {
    let Some(session) = clusters.iter().find_map(|cluster| cluster.affinity.session.as_ref()) else { return };
    let (name, state) = match session {
        Session::Cookie(cookie) => {
            let cookie = SessionCookie {
                name: cookie.name.to_string(),
                ttl: cookie.ttl.map(Into::into),
                path: cookie.path.as_deref().unwrap_or_default().to_owned(),
            };
            let state = CookieBasedSessionState { cookie: Some(cookie) };
            (COOKIE_SESSION, Any::pack(urls::COOKIE_SESSION, &state))
        }
        Session::Header(name) => {
            let state = HeaderBasedSessionState { name: name.to_string() };
            (HEADER_SESSION, Any::pack(urls::HEADER_SESSION, &state))
        }
    };
    let session_state = TypedExtensionConfig { name: name.to_owned(), typed_config: Some(state) };
    let of_route = StatefulSessionPerRoute {
        r#override: Some(SessionOverride::StatefulSession(StatefulSession {
            session_state: Some(session_state),
            strict: false,
        })),
    };
    let config = Any::pack(urls::STATEFUL_SESSION_PER_ROUTE, &of_route);
    route.typed_per_filter_config.insert(SESSION_FILTER.to_owned(), config);
}

/// The sessions of a route of Envoy's.
pub(super) fn session_from(route: &Route) -> Result<Option<Session>, TranslateError> {
    let Some(any) = route.typed_per_filter_config.get(SESSION_FILTER) else { return Ok(None) };
    let Some(of_route) = any.unpack::<StatefulSessionPerRoute>(urls::STATEFUL_SESSION_PER_ROUTE) else {
        return Ok(None);
    };
    let Some(SessionOverride::StatefulSession(sessions)) = of_route?.r#override else { return Ok(None) };
    let at = |what: &str| format!("typed_per_filter_config[{SESSION_FILTER}].stateful_session.{what}");
    if sessions.strict {
        return Err(unusable(at("strict"), "leno chooses another endpoint when the one of the session is gone"));
    }
    let Some(state) = sessions.session_state.and_then(|state| state.typed_config) else { return Ok(None) };
    if let Some(by_cookie) = state.unpack::<CookieBasedSessionState>(urls::COOKIE_SESSION) {
        let cookie = by_cookie?.cookie.unwrap_or_default();
        return Ok(Some(Session::Cookie(Cookie {
            name: cookie.name.into(),
            ttl: cookie.ttl.map(|ttl| duration_of("ttl", ttl)).transpose()?,
            path: (!cookie.path.is_empty()).then(|| cookie.path.into()),
        })));
    }
    match state.unpack::<HeaderBasedSessionState>(urls::HEADER_SESSION) {
        Some(by_header) => Ok(Some(Session::Header(by_header?.name.to_ascii_lowercase().into()))),
        None => Err(unusable(at("session_state"), "leno has sessions by cookie and by header")),
    }
}

/// What binds connections: their caller, or nothing.
pub(super) fn bytes_to(clusters: &[WeightedCluster]) -> Vec<TcpHashPolicy> {
    let by_caller = |key: &HashKey| key.source == HashSource::SourceAddress;
    let any = clusters.iter().flat_map(|cluster| &cluster.affinity.hash).any(by_caller);
    any.then_some(TcpHashPolicy { policy_specifier: Some(TcpHashSource::SourceIp(Empty {})) }).into_iter().collect()
}

/// What binds the connections of a filter of Envoy's.
pub(super) fn bytes_from(policies: &[TcpHashPolicy]) -> Affinity {
    let by_caller = policies.iter().any(|policy| matches!(policy.policy_specifier, Some(TcpHashSource::SourceIp(_))));
    let key = by_caller.then_some(HashKey { source: HashSource::SourceAddress, terminal: false });
    Affinity { hash: key.into_iter().collect(), ..Affinity::default() }
}

fn policy_to(key: &HashKey) -> HashPolicy {
    let specifier = match &key.source {
        HashSource::Header(name) => {
            HashPolicySpecifier::Header(HashPolicyHeader { header_name: name.to_string(), regex_rewrite: None })
        }
        HashSource::Cookie(cookie) => HashPolicySpecifier::Cookie(HashPolicyCookie {
            name: cookie.name.to_string(),
            ttl: cookie.ttl.map(Into::into),
            path: cookie.path.as_deref().unwrap_or_default().to_owned(),
        }),
        HashSource::Query(name) => HashPolicySpecifier::QueryParameter(HashPolicyQuery { name: name.to_string() }),
        HashSource::SourceAddress => {
            HashPolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true })
        }
    };
    HashPolicy { policy_specifier: Some(specifier), terminal: key.terminal }
}

/// A key; none of a policy that never gives one.
fn policy_from(policy: HashPolicy) -> Result<Option<HashKey>, TranslateError> {
    let source = match policy.policy_specifier {
        Some(HashPolicySpecifier::Header(header)) if header.regex_rewrite.is_some() => {
            return Err(unusable("header.regex_rewrite", "leno hashes values as they are"));
        }
        Some(HashPolicySpecifier::Header(header)) => HashSource::Header(header.header_name.to_ascii_lowercase().into()),
        Some(HashPolicySpecifier::Cookie(cookie)) => HashSource::Cookie(Cookie {
            name: cookie.name.into(),
            ttl: cookie.ttl.map(|ttl| duration_of("cookie.ttl", ttl)).transpose()?,
            path: (!cookie.path.is_empty()).then(|| cookie.path.into()),
        }),
        Some(HashPolicySpecifier::QueryParameter(query)) => HashSource::Query(query.name.into()),
        Some(HashPolicySpecifier::ConnectionProperties(properties)) => {
            if !properties.source_ip {
                return Ok(None);
            }
            HashSource::SourceAddress
        }
        None => return Err(unusable("", "leno hashes headers, cookies, query parameters and the caller's address")),
    };
    Ok(Some(HashKey { source, terminal: policy.terminal }))
}
