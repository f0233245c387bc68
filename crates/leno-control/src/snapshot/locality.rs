//! Which endpoints come first for a caller, by where both are.
//!
//! Settled here for every kind of proxy alike: endpoints are served with priorities and, where places have shares, with the
//! weights of their localities, which is all that leno's proxies, Envoys and gRPC clients need. An answer holds for all
//! callers that stand alike, as far as the policy asks.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use leno_model::resource::locality::{Distribution, LocalitySpec, PlacePattern};
use leno_model::snapshot::{Endpoint, Name};
use leno_xds::node::NodeInfo;

use super::service::ServiceView;

/// What `locality: {}` looks at.
const PRIORITY: [&str; 2] = ["region", "zone"];

/// The weights of localities of one entry of `to` are its share of so many.
const WEIGHT_UNIT: u64 = 10_000;

/// Where a caller is, as far as somebody asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Standpoint {
    region: Option<Arc<str>>,
    zone: Option<Arc<str>>,
    labels: BTreeMap<String, String>,
}

/// What endpoints are arranged by: while it is equal, equal endpoints come out alike for every caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arranged {
    pub(crate) policy: Arc<LocalitySpec>,
    /// A hash of the labels that it asks for, which endpoints do not show.
    labels: u64,
}

/// An endpoint with its instance's labels.
pub(super) struct Labelled<'i> {
    pub(super) endpoint: Endpoint,
    pub(super) labels: Option<&'i BTreeMap<String, String>>,
}

// === impl Standpoint ===

impl Standpoint {
    /// Where a node is, with those of its labels that the policy asks for.
    pub(crate) fn of(node: &NodeInfo, policy: &LocalitySpec) -> Self {
        let label = |name: &String| Some((name.clone(), node.labels.get(name)?.clone()));
        Self {
            region: node.region.as_deref().map(Into::into),
            zone: node.zone.as_deref().map(Into::into),
            labels: policy.failover_priority.iter().filter_map(label).collect(),
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        match name {
            "region" => self.region.as_deref(),
            "zone" => self.zone.as_deref(),
            label => self.labels.get(label).map(String::as_str),
        }
    }
}

// === impl Arranged ===

impl Arranged {
    pub(super) fn of(policy: &LocalitySpec, service: &ServiceView<'_>) -> Self {
        let mut hasher = DefaultHasher::new();
        for registered in &service.instances {
            registered.instance.id.hash(&mut hasher);
            policy.failover_priority.iter().for_each(|name| registered.instance.metadata.get(name).hash(&mut hasher));
        }
        Self { policy: Arc::new(policy.clone()), labels: hasher.finish() }
    }
}

// === impl Labelled ===

impl Labelled<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        match name {
            "region" => self.endpoint.region.as_deref(),
            "zone" => self.endpoint.zone.as_deref(),
            label => self.labels?.get(label).map(String::as_str),
        }
    }

    fn is_in(&self, place: &str) -> bool {
        let holds = |pattern: PlacePattern<'_>| pattern.holds(self.value("region"), self.value("zone"));
        // Validation refuses what is no pattern.
        PlacePattern::parse(place).is_some_and(holds)
    }
}

/// Whether places have shares, for some callers.
pub(super) fn has_shares(policy: &LocalitySpec) -> bool {
    !policy.distribute.is_empty()
}

/// Gives each endpoint its priority for a caller, and those of places that have shares their locality's weight; leaves out
/// whom the caller must not ask.
pub(super) fn arrange(policy: &LocalitySpec, own: &Standpoint, endpoints: Vec<Labelled<'_>>) -> Vec<Endpoint> {
    let own_place = |distribution: &&Distribution| {
        PlacePattern::parse(&distribution.from)
            .is_some_and(|from| from.holds(own.region.as_deref(), own.zone.as_deref()))
    };
    let shares = policy.distribute.iter().find(own_place);
    let nearness = Nearness::of(policy, own);
    let mut arranged: Vec<(Endpoint, Option<usize>)> = Vec::with_capacity(endpoints.len());
    for labelled in endpoints {
        let named = shares.and_then(|shares| shares.to.iter().position(|to| labelled.is_in(&to.place)));
        let share = shares.zip(named).map(|(shares, at)| shares.to[at].share.get());
        if share == Some(0) {
            continue;
        }
        // Named places come before all others.
        let priority = if named.is_some() { 0 } else { nearness.rank(&labelled) + u32::from(shares.is_some()) };
        arranged.push((Endpoint { priority, ..labelled.endpoint }, named));
    }
    if let Some(shares) = shares {
        weigh(shares, &mut arranged);
    }
    let mut endpoints: Vec<Endpoint> = arranged.into_iter().map(|(endpoint, _)| endpoint).collect();
    close_gaps(&mut endpoints);
    endpoints
}

/// How far endpoints are from a caller.
struct Nearness<'p> {
    /// What it looks at, of what the caller has, with the caller's value.
    like: Vec<(&'p str, &'p str)>,
    own_region: Option<&'p str>,
    /// The region that comes before the other foreign ones.
    second: Option<&'p str>,
}

// === impl Nearness ===

impl<'p> Nearness<'p> {
    fn of(policy: &'p LocalitySpec, own: &'p Standpoint) -> Self {
        let written = policy.failover_priority.iter().map(String::as_str);
        let default = PRIORITY.iter().copied().filter(|_| policy.failover_priority.is_empty());
        let own_region = own.region.as_deref();
        let second = policy.failover.iter().find(|failover| Some(failover.from.as_str()) == own_region);
        Self {
            like: written.chain(default).filter_map(|name| Some((name, own.value(name)?))).collect(),
            own_region,
            second: second.map(|failover| failover.to.as_str()),
        }
    }

    /// 0 is the nearest.
    fn rank(&self, endpoint: &Labelled<'_>) -> u32 {
        let alike = self.like.iter().take_while(|(name, value)| endpoint.value(name) == Some(*value)).count();
        let region = endpoint.value("region");
        let is_behind = alike == 0 && self.second.is_some() && region != self.own_region && region != self.second;
        (self.like.len() - alike) as u32 + u32::from(is_behind)
    }
}

/// Gives the localities of each named place its share, by the weights of their endpoints.
fn weigh(shares: &Distribution, endpoints: &mut [(Endpoint, Option<usize>)]) {
    type Locality = (Option<Name>, Option<Name>);
    let locality = |endpoint: &Endpoint| -> Locality { (endpoint.region.clone(), endpoint.zone.clone()) };
    let mut sums: BTreeMap<usize, u64> = BTreeMap::new();
    let mut parts: BTreeMap<Locality, u64> = BTreeMap::new();
    for (endpoint, named) in endpoints.iter() {
        let Some(named) = named else { continue };
        *sums.entry(*named).or_default() += u64::from(endpoint.weight);
        *parts.entry(locality(endpoint)).or_default() += u64::from(endpoint.weight);
    }
    for (endpoint, named) in endpoints {
        let Some(named) = *named else { continue };
        let (part, sum) = (parts[&locality(endpoint)], sums[&named].max(1));
        let weight = u64::from(shares.to[named].share.get()) * WEIGHT_UNIT * part / sum;
        endpoint.locality_weight = Some(weight.max(1) as u32);
    }
}

/// Numbers priorities from 0 on, by the endpoints that take something: gRPC refuses gaps, and Envoy is not told of others.
fn close_gaps(endpoints: &mut [Endpoint]) {
    let takes = endpoints.iter().filter(|endpoint| endpoint.weight > 0);
    let used: BTreeSet<u32> = takes.map(|endpoint| endpoint.priority).collect();
    for endpoint in endpoints {
        endpoint.priority = used.range(..endpoint.priority).count() as u32;
    }
}

#[cfg(test)]
mod tests {
    use leno_model::resource::locality::{PlaceShare, RegionFailover};
    use leno_model::resource::number::Percent;

    use super::*;

    fn endpoint(id: &str, region: &str, zone: &str, weight: u32) -> Endpoint {
        let text = |text: &str| (!text.is_empty()).then(|| text.into());
        let address = "10.0.0.1:80".parse().unwrap();
        Endpoint { weight, zone: text(zone), region: text(region), ..Endpoint::at(id, address) }
    }

    fn from(region: &str, zone: &str) -> Standpoint {
        let text = |text: &str| (!text.is_empty()).then(|| text.into());
        Standpoint { region: text(region), zone: text(zone), labels: BTreeMap::new() }
    }

    /// Priorities by id, of endpoints in these places.
    fn priorities(policy: &LocalitySpec, own: &Standpoint, places: &[(&str, &str)]) -> Vec<u32> {
        let labelled =
            |(region, zone): &(&str, &str)| Labelled { endpoint: endpoint("a", region, zone, 100), labels: None };
        arrange(policy, own, places.iter().map(labelled).collect()).iter().map(|endpoint| endpoint.priority).collect()
    }

    fn shared(from: &str, to: &[(&str, u32)]) -> Distribution {
        let to =
            to.iter().map(|(place, share)| PlaceShare { place: (*place).into(), share: Percent::new(*share).unwrap() });
        Distribution { from: from.into(), to: to.collect() }
    }

    const PLACES: [(&str, &str); 4] = [("eu", "a"), ("eu", "b"), ("us", "a"), ("ap", "c")];

    #[test]
    fn the_own_zone_comes_first_then_the_region_then_all_others() {
        let policy = LocalitySpec::default();
        assert_eq!(priorities(&policy, &from("eu", "a"), &PLACES), [0, 1, 2, 2]);
        assert_eq!(priorities(&policy, &from("us", "z"), &PLACES), [1, 1, 0, 1]);
        assert_eq!(priorities(&policy, &from("nowhere", "a"), &PLACES), [0, 0, 0, 0]);
    }

    #[test]
    fn what_a_caller_does_not_have_is_passed_over() {
        let policy = LocalitySpec::default();
        assert_eq!(priorities(&policy, &from("", "a"), &PLACES), [0, 1, 0, 1]);
        assert_eq!(priorities(&policy, &from("", ""), &PLACES), [0, 0, 0, 0]);
    }

    #[test]
    fn one_foreign_region_can_come_before_the_others() {
        let failover = vec![RegionFailover { from: "eu".into(), to: "ap".into() }];
        let policy = LocalitySpec { failover, ..LocalitySpec::default() };
        assert_eq!(priorities(&policy, &from("eu", "a"), &PLACES), [0, 1, 3, 2]);
        assert_eq!(priorities(&policy, &from("us", "a"), &PLACES), [1, 1, 0, 1]);
    }

    #[test]
    fn labels_count_in_their_order() {
        let policy = LocalitySpec { failover_priority: vec!["rack".into(), "zone".into()], ..LocalitySpec::default() };
        let rack = |rack: &str| BTreeMap::from([("rack".to_owned(), rack.to_owned())]);
        let own = Standpoint { labels: rack("7"), ..from("eu", "a") };
        let racks = [rack("7"), rack("7"), rack("8"), BTreeMap::new()];
        let zones = ["a", "b", "a", "a"];
        let labelled = |(labels, zone)| Labelled { endpoint: endpoint("a", "eu", zone, 100), labels: Some(labels) };
        let arranged = arrange(&policy, &own, racks.iter().zip(zones).map(labelled).collect());
        assert_eq!(arranged.iter().map(|endpoint| endpoint.priority).collect::<Vec<_>>(), [0, 1, 2, 2]);
    }

    #[test]
    fn endpoints_without_weight_leave_no_gap() {
        let (policy, own) = (LocalitySpec::default(), from("eu", "a"));
        let places = [("a", "eu", "a", 0), ("b", "us", "a", 100), ("c", "eu", "b", 100)];
        let labelled = places
            .map(|(id, region, zone, weight)| Labelled { endpoint: endpoint(id, region, zone, weight), labels: None });
        let arranged = arrange(&policy, &own, labelled.into());
        assert_eq!(arranged.iter().map(|endpoint| endpoint.priority).collect::<Vec<_>>(), [0, 1, 0]);
    }

    #[test]
    fn places_share_as_they_are_to_and_the_rest_stands_by() {
        let distribute = vec![shared("eu/a", &[("eu/a", 80), ("us/*", 20)]), shared("*", &[("ap", 100)])];
        let policy = LocalitySpec { distribute, ..LocalitySpec::default() };
        let mut places = PLACES.to_vec();
        places.push(("us", "b"));
        let labelled = |places: &[(&str, &str)]| {
            let one =
                |(region, zone): &(&str, &str)| Labelled { endpoint: endpoint("a", region, zone, 100), labels: None };
            places.iter().map(one).collect::<Vec<_>>()
        };
        let seen = |own: &Standpoint| {
            let arranged = arrange(&policy, own, labelled(&places));
            arranged.iter().map(|endpoint| (endpoint.priority, endpoint.locality_weight)).collect::<Vec<_>>()
        };
        let weights = |w: u32| Some(w);
        assert_eq!(
            seen(&from("eu", "a")),
            [(0, weights(800_000)), (1, None), (0, weights(100_000)), (2, None), (0, weights(100_000))]
        );
        let others = seen(&from("us", "b"));
        assert_eq!(others, [(3, None), (3, None), (2, None), (0, weights(1_000_000)), (1, None)]);
    }

    #[test]
    fn a_place_with_a_share_of_nothing_is_never_asked() {
        let policy =
            LocalitySpec { distribute: vec![shared("*", &[("eu", 100), ("us", 0)])], ..LocalitySpec::default() };
        let labelled =
            |(region, zone): &(&str, &str)| Labelled { endpoint: endpoint("a", region, zone, 100), labels: None };
        let arranged = arrange(&policy, &from("eu", "a"), PLACES.iter().map(labelled).collect());
        let regions: Vec<&str> = arranged.iter().filter_map(|endpoint| endpoint.region.as_deref()).collect();
        assert_eq!(regions, ["eu", "eu", "ap"]);
    }
}
