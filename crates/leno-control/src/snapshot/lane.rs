//! Lanes: before each rule that leads to a service with versions in lanes, one for the requests of each lane.

use std::collections::BTreeMap;

use leno_model::name::ServiceName;
use leno_model::resource::lane::{LaneSpec, LaneTag};
use leno_model::snapshot::{Action, KeyMatch, RouteFilter, Rule, ValueMatch, WeightedCluster};

use super::View;
use super::name::ClusterName;

/// What requests of a lane have, and the versions that they stay in.
struct Tagged<'a> {
    when: KeyMatch,
    versions: BTreeMap<(ServiceName, u16), &'a str>,
}

/// The rules for requests of lanes that go before `rule`: with their condition, to the versions of the lane as far as these
/// have instances that take requests.
pub(super) fn rules(view: &View<'_>, rule: &Rule) -> Vec<Rule> {
    let Action::Forward(backends) = &rule.action else { return Vec::new() };
    let named = |backend: &WeightedCluster| backend.cluster.as_deref().and_then(ClusterName::parse);
    // By the condition, because lanes of several namespaces may have one tag.
    let mut lanes: Vec<Tagged<'_>> = Vec::new();
    for name in backends.iter().filter_map(named) {
        let service = view.service(&name.service);
        let Some(port) = service.port(Some(name.port)) else { continue };
        for (_, spec) in view.merged.lanes_of(&name.service) {
            let version = version_of(spec, &name.service).filter(|version| service.takes_requests(version, &port));
            let Some(version) = version else { continue };
            let when = condition(&spec.tag);
            // Who takes the tag out lets nobody into the lane.
            if rule.filters.iter().any(|filter| takes_out(filter, &when.name)) {
                continue;
            }
            let at = lanes.iter().position(|lane| lane.when == when).unwrap_or_else(|| {
                lanes.push(Tagged { when, versions: BTreeMap::new() });
                lanes.len() - 1
            });
            lanes[at].versions.entry((name.service.clone(), name.port)).or_insert(version);
        }
    }
    let rules = lanes.into_iter().map(|lane| {
        let mut tagged = rule.clone();
        let moved = backends.iter().map(|backend| {
            let is_closed = backend.filters.iter().any(|filter| takes_out(filter, &lane.when.name));
            let moved = named(backend).filter(|_| !is_closed).and_then(|name| {
                let version = lane.versions.get(&(name.service.clone(), name.port))?;
                Some(ClusterName { version: Some((*version).into()), ..name }.render())
            });
            WeightedCluster { cluster: moved.or_else(|| backend.cluster.clone()), ..backend.clone() }
        });
        tagged.action = Action::Forward(moved.collect());
        tagged.when.headers.push(lane.when);
        tagged
    });
    rules.collect()
}

fn takes_out(filter: &RouteFilter, field: &str) -> bool {
    match filter {
        RouteFilter::RequestHeaders(change) => change.remove.iter().any(|name| name.eq_ignore_ascii_case(field)),
        _ => false,
    }
}

/// The version of a service that is in a lane.
pub(super) fn version_of<'a>(spec: &'a LaneSpec, service: &ServiceName) -> Option<&'a str> {
    spec.versions.iter().find(|version| *version.name == *service.name).map(|version| version.version.as_str())
}

/// What a request with the tag has.
pub(crate) fn condition(tag: &LaneTag) -> KeyMatch {
    match (&tag.header, &tag.baggage) {
        (Some(header), _) => {
            KeyMatch { name: header.to_ascii_lowercase().into(), value: ValueMatch::Exact(tag.value.as_str().into()) }
        }
        (None, key) => {
            let [key, value] = [key.as_deref().unwrap_or_default(), &tag.value].map(escaped);
            // `key=value`, with properties behind `;`, among others that are divided by commas.
            let pattern = format!(r"(?:.*,)?[ \t]*{key}[ \t]*=[ \t]*{value}[ \t]*(?:[;,].*)?");
            KeyMatch { name: "baggage".into(), value: ValueMatch::Regex(pattern.into()) }
        }
    }
}

/// Tokens and words as themselves in a regular expression.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_ascii_alphanumeric() && !"-_!#%&'`~".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
