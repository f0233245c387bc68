//! What binds requests to endpoints: a policy's keys as proxies look for them.

use leno_model::resource::load_balancer::{HashCookieSpec, HashKeySpec, LoadBalancer, SessionSpec};
use leno_model::snapshot::{Affinity, Cookie, HashKey, HashSource, Session, SubsetKey};

/// The path of a cookie whose policy says none. Without one a client would send it back for the folder of the first request
/// alone.
const COOKIE_PATH: &str = "/";

pub(super) fn of(balancer: &LoadBalancer) -> Affinity {
    Affinity {
        hash: balancer.hash.iter().filter_map(hash_key).collect(),
        session: balancer.session.as_ref().and_then(session),
        subset: balancer.subset.as_ref().map(|subset| SubsetKey {
            header: subset.header.to_ascii_lowercase().into(),
            label: subset.label.as_str().into(),
        }),
    }
}

fn hash_key(written: &HashKeySpec) -> Option<HashKey> {
    let source = match written {
        HashKeySpec { header: Some(name), .. } => HashSource::Header(name.to_ascii_lowercase().into()),
        HashKeySpec { cookie: Some(written), .. } => HashSource::Cookie(cookie(written)),
        HashKeySpec { query: Some(name), .. } => HashSource::Query(name.as_str().into()),
        HashKeySpec { source_address: Some(true), .. } => HashSource::SourceAddress,
        // Validation refuses a key without a source.
        _ => return None,
    };
    Some(HashKey { source, terminal: written.terminal })
}

fn session(written: &SessionSpec) -> Option<Session> {
    let cookie = written.cookie.as_ref().map(|written| Cookie {
        name: written.name.as_str().into(),
        ttl: Some(written.ttl.map(|ttl| ttl.0).unwrap_or_default()),
        path: Some(written.path.as_deref().unwrap_or(COOKIE_PATH).into()),
    });
    let header = || written.header.as_ref().map(|name| Session::Header(name.to_ascii_lowercase().into()));
    cookie.map(Session::Cookie).or_else(header)
}

fn cookie(written: &HashCookieSpec) -> Cookie {
    let ttl = written.ttl.map(|ttl| ttl.0);
    let path = ttl.map(|_| written.path.as_deref().unwrap_or(COOKIE_PATH).into());
    Cookie { name: written.name.as_str().into(), ttl, path }
}
