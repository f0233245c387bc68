//! What balancing knows beside load: since when endpoints are new, kept from table to table, and how it is shown.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leno_model::expression::{Expression, Facts};
use leno_model::snapshot::{self, BalancePolicy, EndpointHealth, Gives, SlowStart};
use leno_telemetry::Registry;
use leno_telemetry::metric::{Exposition, Kind};
use leno_traffic::balance::{Locality, Seen};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Endpoint, EndpointKey, by_name};
use crate::load_report;
use crate::lookup::Lookup;
use crate::table::Table;

/// Endpoints of a cluster that took requests when its table was made, and since when they are new, if they are. None before
/// the first table: those that are in it are not new, they were there before the proxy asked.
#[derive(Debug, Default)]
pub(crate) struct Newcomers(Mutex<Option<HashMap<EndpointKey, Option<Duration>>>>);

// === impl Newcomers ===

impl Newcomers {
    /// Says of each endpoint since when it is new. Taken by the control thread alone, when it builds a table.
    pub(crate) fn mark(&self, terms: Option<&SlowStart>, endpoints: &mut [Endpoint], now: Duration) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(terms) = terms else {
            *known = None;
            return;
        };
        let able = endpoints.iter_mut().filter(|endpoint| endpoint.spec.health == EndpointHealth::Healthy);
        let marked = able.map(|endpoint| {
            let key = endpoint.state.key;
            let since = known.as_ref().and_then(|known| known.get(&key).copied().unwrap_or(Some(now)));
            endpoint.since = since.filter(|since| now < *since + terms.window);
            (key, endpoint.since)
        });
        *known = Some(marked.collect());
    }
}

/// Has each endpoint know what the cluster's expression comes to for it and this caller.
pub(crate) fn resolve(spec: &snapshot::Cluster, endpoints: &mut [Endpoint], caller: &Facts) {
    // What cannot be read was refused when it came.
    let Some(read) = spec.balancing.expression.as_ref().and_then(|of| Expression::read(&of.text).ok()) else { return };
    for endpoint in endpoints {
        let text = |text: &Option<snapshot::Name>| text.as_deref().map(str::to_owned);
        let (of, labels) = (&endpoint.spec, endpoint.spec.labels.iter());
        let facts = Facts {
            zone: text(&of.zone),
            region: text(&of.region),
            version: text(&of.version),
            labels: labels.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        };
        endpoint.program = Some(Arc::new(read.resolve(of.weight, &facts, caller)));
    }
}

/// The locality of each endpoint, where those have shares. Beside one that has a weight, one without takes nothing, as with
/// Envoy; where none of a priority has one, they share by their endpoints' weights.
pub(crate) fn localities(spec: &snapshot::Cluster, endpoints: &[Endpoint]) -> Vec<Option<Locality>> {
    if !spec.balancing.weighted_localities {
        return vec![None; endpoints.len()];
    }
    let has_weight = |endpoint: &&Endpoint| endpoint.spec.weight > 0 && endpoint.spec.locality_weight.is_some();
    let weighed: BTreeSet<u32> = endpoints.iter().filter(has_weight).map(|endpoint| endpoint.spec.priority).collect();
    let mut ids = HashMap::new();
    let locality = |endpoint: &Endpoint| {
        let next = ids.len() as u32;
        let id = *ids.entry((endpoint.spec.region.clone(), endpoint.spec.zone.clone())).or_insert(next);
        let weight = endpoint.spec.locality_weight.unwrap_or_default();
        weighed.contains(&endpoint.spec.priority).then_some(Locality { id, weight })
    };
    endpoints.iter().map(locality).collect()
}

/// Shows which clusters are in panic, of those that can be, and who reports load.
pub fn measure(metrics: &Registry, lookup: Lookup, now: impl Fn() -> Duration + Send + Sync + 'static) {
    metrics.collector(move |out| write(out, &lookup.table(), now()));
}

/// How a cluster shares requests among priorities, where it has some or can panic.
pub(crate) fn describe(cluster: &Cluster, now: Duration) -> Option<Value> {
    let seen: Vec<Seen> = cluster.seen(now).collect();
    if seen.len() < 2 && cluster.spec.balancing.panic_threshold == 0 {
        return None;
    }
    let described = seen.into_iter().map(|seen| {
        let Seen { share, crew, panics } = seen;
        json!({ "share": share, "endpoints": crew.members, "able": crew.able, "panics": panics })
    });
    Some(Value::Array(described.collect()))
}

/// The expression by which a cluster's endpoints are chosen.
pub(crate) fn describe_expression(cluster: &Cluster) -> Option<Value> {
    let expression = cluster.spec.balancing.expression.as_ref()?;
    let gives = match expression.gives {
        Gives::Weight => "weight",
        Gives::Cost => "cost",
        Gives::CostOfAll => "costOfAll",
    };
    Some(json!({ "gives": gives, "text": expression.text }))
}

impl Cluster {
    /// Counts what an endpoint's answer took, where it is chosen by that.
    pub(crate) fn time(&self, endpoint: usize, took: Duration) {
        if self.spec.balance == BalancePolicy::WeightedResponseTime
            && let Some(endpoint) = self.endpoints.get(endpoint)
        {
            endpoint.state.load.time(took);
        }
    }
}

/// For how long an endpoint is new, if it is.
pub(crate) fn describe_endpoint(cluster: &Cluster, endpoint: &Endpoint, now: Duration) -> Option<u64> {
    let window = cluster.spec.balancing.slow_start?.window;
    let new_for = now.saturating_sub(endpoint.since?);
    (new_for < window).then_some(new_for.as_millis() as u64)
}

fn write(out: &mut Exposition, table: &Table, now: Duration) {
    let name = "leno_balancer_panic";
    let help = "Whether a cluster, of too many endpoints that can take no requests, uses all of them (1) or not (0).";
    out.family(name, help, Kind::Gauge);
    for (cluster, of) in by_name(table).into_iter().filter(|(_, of)| of.spec.balancing.panic_threshold > 0) {
        let panics = of.seen(now).any(|seen| seen.panics);
        out.sample(name, &[("cluster", cluster)], f64::from(u8::from(panics)));
    }
    load_report::write(out, by_name(table).into_iter());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::EndpointState;

    const S: fn(u64) -> Duration = Duration::from_secs;
    const TERMS: SlowStart = SlowStart { window: Duration::from_secs(60), aggression: 100, share_min: 10 };

    fn endpoint() -> Endpoint {
        let address = "127.0.0.1:80".parse().unwrap();
        let spec = snapshot::Endpoint::at("a", address);
        Endpoint {
            spec,
            state: Arc::new(EndpointState::new(leno_net::Address::Tcp(address), false)),
            since: None,
            program: None,
        }
    }

    fn marked(newcomers: &Newcomers, endpoints: &mut [Endpoint], now: u64) -> Vec<Option<u64>> {
        newcomers.mark(Some(&TERMS), endpoints, S(now));
        endpoints.iter().map(|endpoint| endpoint.since.map(|since| since.as_secs())).collect()
    }

    #[test]
    fn whoever_was_there_before_is_not_new_and_whoever_comes_is_for_the_window() {
        let (newcomers, mut endpoints) = (Newcomers::default(), vec![endpoint(), endpoint()]);
        assert_eq!(marked(&newcomers, &mut endpoints, 100), [None, None]);
        endpoints.push(endpoint());
        assert_eq!(marked(&newcomers, &mut endpoints, 110), [None, None, Some(110)]);
        assert_eq!(marked(&newcomers, &mut endpoints, 150), [None, None, Some(110)]);
        assert_eq!(marked(&newcomers, &mut endpoints, 170), [None, None, None]);
        let gone = endpoints.remove(0);
        assert_eq!(marked(&newcomers, &mut endpoints, 180), [None, None]);
        endpoints.push(gone);
        assert_eq!(marked(&newcomers, &mut endpoints, 190), [None, None, Some(190)]);
    }

    #[test]
    fn one_whose_probe_passes_again_is_new() {
        let (newcomers, mut endpoints) = (Newcomers::default(), vec![endpoint(), endpoint()]);
        marked(&newcomers, &mut endpoints, 100);
        endpoints[1].spec.health = EndpointHealth::Unhealthy;
        assert_eq!(marked(&newcomers, &mut endpoints, 110), [None, None]);
        endpoints[1].spec.health = EndpointHealth::Healthy;
        assert_eq!(marked(&newcomers, &mut endpoints, 120), [None, Some(120)]);
    }

    #[test]
    fn a_policy_that_is_new_makes_nobody_new() {
        let (newcomers, mut endpoints) = (Newcomers::default(), vec![endpoint()]);
        marked(&newcomers, &mut endpoints, 100);
        newcomers.mark(None, &mut endpoints, S(110));
        endpoints.push(endpoint());
        assert_eq!(marked(&newcomers, &mut endpoints, 120), [None, None]);
    }
}
