#![allow(clippy::unwrap_used)]

use leno_model::instance::{HealthCheck, InstancePort, Probe, Protocol, Visibility};

use super::*;
use crate::Routable;

const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn name(name: &str) -> ServiceName {
    ServiceName::new("shop", name).unwrap()
}

/// A valid instance with a lease of 30 s and a probe.
pub(crate) fn instance(service: &str, id: &str) -> Instance {
    let port = InstancePort { number: 8080, name: Some("http".into()), protocol: Protocol::Http, proxy_port: None };
    let health_check = HealthCheck {
        probe: Probe::Tcp,
        port: None,
        interval: 10 * SECOND,
        timeout: SECOND,
        unhealthy_threshold: 3,
        healthy_threshold: 1,
    };
    Instance {
        id: id.into(),
        service: name(service),
        address: [10, 0, 0, 1].into(),
        ports: vec![port],
        proxy_address: None,
        weight: 100,
        version: Some("v1".into()),
        zone: None,
        region: None,
        status: InstanceStatus::Up,
        visibility: Visibility::All,
        metadata: BTreeMap::new(),
        health_check: Some(health_check),
        lease: Some(30 * SECOND),
        source: "run".into(),
    }
}

pub(crate) fn at(seconds: u64) -> Now {
    Now { monotonic: SECOND * seconds as u32, wall: Timestamp(seconds * 1000) }
}

fn catalogue_with(ids: &[&str]) -> Catalogue {
    let mut catalogue = Catalogue::new(0);
    for id in ids {
        catalogue.register(instance("cart", id), Origin::Remote, at(0)).unwrap();
    }
    catalogue
}

fn routable(catalogue: &Catalogue, id: &str) -> Option<Routable> {
    catalogue.get(&name("cart"), id).map(|registered| registered.routable())
}

fn probe(catalogue: &mut Catalogue, id: &str, result: ProbeResult) {
    let registration = catalogue.get(&name("cart"), id).unwrap().registration;
    catalogue.set_probe(&InstanceKey::new(&name("cart"), id), registration, result);
}

#[test]
fn an_instance_that_does_not_renew_is_gone_and_its_service_with_it() {
    let mut catalogue = catalogue_with(&["a"]);
    catalogue.tick(at(29));
    assert_eq!(routable(&catalogue, "a"), Some(Routable::Yes));
    catalogue.tick(at(30));
    assert_eq!((routable(&catalogue, "a"), catalogue.counts()), (None, (0, 0)));
    assert!(catalogue.dirty_since(Some(1)).services.contains(&name("cart")));
    assert!(matches!(catalogue.renew(&name("cart"), "a", at(31)), Err(Error::Unknown { .. })));
}

#[test]
fn an_instance_whose_lease_is_over_stays_while_its_probe_passes() {
    let mut catalogue = catalogue_with(&["a"]);
    probe(&mut catalogue, "a", ProbeResult::Passing);
    catalogue.tick(at(100));
    assert_eq!(catalogue.get(&name("cart"), "a").unwrap().lease, LeaseState::Expired);
    assert_eq!(routable(&catalogue, "a"), Some(Routable::Yes));
    probe(&mut catalogue, "a", ProbeResult::Failing);
    assert_eq!(routable(&catalogue, "a"), None);
}

#[test]
fn an_expired_instance_that_renews_is_valid_again() {
    let mut catalogue = catalogue_with(&["a"]);
    probe(&mut catalogue, "a", ProbeResult::Passing);
    catalogue.tick(at(30));
    catalogue.renew(&name("cart"), "a", at(40)).unwrap();
    assert_eq!(catalogue.get(&name("cart"), "a").unwrap().lease, LeaseState::Valid);
    probe(&mut catalogue, "a", ProbeResult::Unknown);
    catalogue.tick(at(69));
    assert_eq!(routable(&catalogue, "a"), Some(Routable::Yes));
    catalogue.tick(at(70));
    assert_eq!(routable(&catalogue, "a"), None);
}

#[test]
fn an_instance_that_renews_and_fails_its_probe_is_there_and_not_routable() {
    let mut catalogue = catalogue_with(&["a"]);
    probe(&mut catalogue, "a", ProbeResult::Failing);
    assert_eq!(routable(&catalogue, "a"), Some(Routable::Failing));
    probe(&mut catalogue, "a", ProbeResult::Passing);
    assert_eq!(routable(&catalogue, "a"), Some(Routable::Yes));
}

#[test]
fn of_many_that_vanish_at_once_none_is_evicted_and_probes_still_decide() {
    let ids: Vec<String> = (0..20).map(|i| i.to_string()).collect();
    let mut catalogue = catalogue_with(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    catalogue.tick(at(60));
    assert_eq!(catalogue.counts(), (1, 20));
    assert_eq!(catalogue.get(&name("cart"), "3").unwrap().lease, LeaseState::Unrenewed);
    assert_eq!(routable(&catalogue, "3"), Some(Routable::Yes));
    assert_eq!(catalogue.preserved(), ["run".into()]);
    probe(&mut catalogue, "3", ProbeResult::Failing);
    assert_eq!(routable(&catalogue, "3"), Some(Routable::Failing));
    for id in ids.iter().skip(1) {
        catalogue.renew(&name("cart"), id, at(61)).unwrap();
    }
    catalogue.tick(at(62));
    assert_eq!((routable(&catalogue, "0"), catalogue.counts()), (None, (1, 19)));
}

#[test]
fn preservation_of_one_source_does_not_keep_another() {
    let mut catalogue = Catalogue::new(0);
    for i in 0..20 {
        catalogue.register(instance("cart", &format!("run-{i}")), Origin::Remote, at(0)).unwrap();
    }
    let other = Instance { source: "eureka".into(), ..instance("cart", "other") };
    catalogue.register(other, Origin::Remote, at(0)).unwrap();
    catalogue.tick(at(60));
    assert_eq!((routable(&catalogue, "other"), catalogue.counts()), (None, (1, 20)));
}

#[test]
fn registering_again_with_the_same_content_renews_and_changes_nothing() {
    let mut catalogue = catalogue_with(&["a"]);
    let before = catalogue.revision();
    catalogue.register(instance("cart", "a"), Origin::Remote, at(20)).unwrap();
    assert_eq!(catalogue.revision(), before);
    catalogue.tick(at(49));
    assert_eq!(routable(&catalogue, "a"), Some(Routable::Yes));
}

#[test]
fn registering_again_with_another_address_forgets_what_probes_found() {
    let mut catalogue = catalogue_with(&["a"]);
    probe(&mut catalogue, "a", ProbeResult::Failing);
    let old = catalogue.get(&name("cart"), "a").unwrap();
    let moved = Instance { address: [10, 0, 0, 2].into(), ..instance("cart", "a") };
    catalogue.register(moved, Origin::Remote, at(1)).unwrap();
    assert_eq!(routable(&catalogue, "a"), Some(Routable::Yes));
    // A probe of the old address that answers late says nothing of the new one.
    catalogue.set_probe(&InstanceKey::new(&name("cart"), "a"), old.registration, ProbeResult::Failing);
    assert_eq!(routable(&catalogue, "a"), Some(Routable::Yes));
}

#[test]
fn out_of_service_outlasts_registrations_and_draining_does_not() {
    let mut catalogue = catalogue_with(&["a"]);
    catalogue.set_status(&name("cart"), "a", InstanceStatus::Out).unwrap();
    catalogue.register(instance("cart", "a"), Origin::Remote, at(1)).unwrap();
    assert_eq!(routable(&catalogue, "a"), Some(Routable::Out));
    catalogue.set_status(&name("cart"), "a", InstanceStatus::Draining).unwrap();
    catalogue.register(instance("cart", "a"), Origin::Remote, at(2)).unwrap();
    assert_eq!(routable(&catalogue, "a"), Some(Routable::Yes));
}

#[test]
fn an_id_of_another_source_is_refused() {
    let mut catalogue = catalogue_with(&["a"]);
    let other = Instance { source: "eureka".into(), ..instance("cart", "a") };
    assert!(matches!(catalogue.register(other, Origin::Remote, at(0)), Err(Error::Owned { .. })));
}

#[test]
fn a_lease_that_becomes_shorter_ends_sooner_and_one_that_is_given_up_never() {
    let mut catalogue = catalogue_with(&["a", "b"]);
    catalogue.register(Instance { lease: Some(5 * SECOND), ..instance("cart", "a") }, Origin::Remote, at(1)).unwrap();
    catalogue.register(Instance { lease: None, ..instance("cart", "b") }, Origin::Remote, at(1)).unwrap();
    catalogue.tick(at(6));
    assert_eq!(routable(&catalogue, "a"), None);
    assert_eq!(catalogue.tick(at(1000)), None);
    assert_eq!(catalogue.get(&name("cart"), "b").unwrap().lease, LeaseState::Persistent);
}

#[test]
fn a_full_service_refuses_one_more_and_takes_the_ones_it_has() {
    let mut catalogue = Catalogue::new(0);
    for i in 0..INSTANCES_PER_SERVICE_MAX {
        catalogue.register(instance("cart", &i.to_string()), Origin::Remote, at(0)).unwrap();
    }
    let full = catalogue.register(instance("cart", "more"), Origin::Remote, at(0));
    assert_eq!(full.err(), Some(Error::ServiceFull { service: name("cart") }));
    assert!(catalogue.register(instance("cart", "7"), Origin::Remote, at(0)).is_ok());
    assert!(catalogue.register(instance("pay", "7"), Origin::Remote, at(0)).is_ok());
}

#[test]
fn every_visible_change_raises_the_revision_and_names_its_service() {
    let mut catalogue = catalogue_with(&["a"]);
    let mut last = catalogue.revision();
    let mut changed = |catalogue: &mut Catalogue, what: &str| {
        let dirty = catalogue.dirty_since(Some(last));
        assert!(dirty.revision > last && dirty.services.contains(&name("cart")), "{what}");
        last = dirty.revision;
    };
    catalogue.set_weight(&name("cart"), "a", 7).unwrap();
    changed(&mut catalogue, "weight");
    catalogue.set_status(&name("cart"), "a", InstanceStatus::Draining).unwrap();
    changed(&mut catalogue, "status");
    probe(&mut catalogue, "a", ProbeResult::Passing);
    changed(&mut catalogue, "probe");
    catalogue.deregister(&name("cart"), "a").unwrap();
    changed(&mut catalogue, "gone");
    assert!(catalogue.set_weight(&name("cart"), "a", WEIGHT_MAX + 1).is_err());
}
