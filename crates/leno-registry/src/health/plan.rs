//! Who is probed when, and what a row of answers means. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use leno_model::instance::{HealthCheck, Instance, ProbeResult, Protocol};
use leno_model::name::ServiceName;
use leno_model::seam::Random;

use crate::catalogue::InstanceKey;
use crate::validate::check_address;
use crate::{Origin, Registered};

/// The longest time until a new instance is asked for the first time.
const FIRST_MAX: Duration = Duration::from_secs(1);

/// What one probe needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) key: InstanceKey,
    pub(super) registration: u64,
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) check: HealthCheck,
}

/// All instances that are probed.
#[derive(Debug, Default)]
pub(super) struct Plan {
    watched: BTreeMap<ServiceName, BTreeMap<Arc<str>, Watched>>,
    due: BTreeSet<(Duration, InstanceKey)>,
}

#[derive(Debug)]
struct Watched {
    target: Target,
    result: ProbeResult,
    /// Equal answers in a row that speak against `result`.
    against: u32,
    due: Duration,
}

// === impl Plan ===

impl Plan {
    /// Takes over what has become of a service.
    pub(super) fn update(
        &mut self,
        service: &ServiceName,
        instances: &[Arc<Registered>],
        now: Duration,
        random: &mut dyn Random,
    ) {
        let mut before = self.watched.remove(service).unwrap_or_default();
        let mut after = BTreeMap::new();
        for target in instances.iter().filter_map(|registered| Some((target(registered)?, registered.probe))) {
            let (target, probe) = target;
            let id = target.key.id.clone();
            let watched = match before.remove(&id) {
                Some(known) if known.target == target => known,
                other => {
                    self.forget(other);
                    let due = now + within(target.check.interval.min(FIRST_MAX), random);
                    self.due.insert((due, target.key.clone()));
                    Watched { target, result: probe, against: 0, due }
                }
            };
            after.insert(id, watched);
        }
        for gone in before.into_values() {
            self.forget(Some(gone));
        }
        if !after.is_empty() {
            self.watched.insert(service.clone(), after);
        }
    }

    /// Forgets every service but these.
    pub(super) fn keep_only(&mut self, services: &BTreeSet<ServiceName>) {
        let gone: Vec<ServiceName> = self.watched.keys().filter(|name| !services.contains(*name)).cloned().collect();
        for name in gone {
            for watched in self.watched.remove(&name).into_iter().flat_map(BTreeMap::into_values) {
                self.forget(Some(watched));
            }
        }
    }

    /// The targets to probe now, at most `max`, the longest due first. Their next time is set.
    pub(super) fn start(&mut self, now: Duration, max: usize, random: &mut dyn Random) -> Vec<Target> {
        let mut targets = Vec::new();
        while targets.len() < max {
            let Some((due, key)) = self.due.first().filter(|(due, _)| *due <= now).cloned() else { break };
            self.due.remove(&(due, key.clone()));
            let Some(watched) = self.find(&key) else { continue };
            // Not before this probe can have ended: an instance is never asked twice at once.
            let interval = watched.target.check.interval;
            let pause = interval * 9 / 10 + within(interval / 5, random);
            watched.due = now + pause.max(watched.target.check.timeout + Duration::from_millis(1));
            let (due, target) = (watched.due, watched.target.clone());
            self.due.insert((due, key));
            targets.push(target);
        }
        targets
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Notes an answer. What the probes say from now on, if that has changed.
    pub(super) fn finish(&mut self, target: &Target, passed: bool) -> Option<ProbeResult> {
        let watched = self.find(&target.key).filter(|watched| watched.target == *target)?;
        let check = &watched.target.check;
        let (result, threshold) = match (watched.result, passed) {
            (ProbeResult::Passing, true) | (ProbeResult::Failing, false) => {
                watched.against = 0;
                return None;
            }
            // The first good answer of a new instance is enough: it waits for nothing else.
            (ProbeResult::Unknown, true) => (ProbeResult::Passing, 1),
            (ProbeResult::Failing, true) => (ProbeResult::Passing, check.healthy_threshold),
            (_, false) => (ProbeResult::Failing, check.unhealthy_threshold),
        };
        watched.against += 1;
        if watched.against < threshold {
            return None;
        }
        watched.result = result;
        watched.against = 0;
        Some(result)
    }

    fn find(&mut self, key: &InstanceKey) -> Option<&mut Watched> {
        self.watched.get_mut(&key.service)?.get_mut(&key.id)
    }

    fn forget(&mut self, watched: Option<Watched>) {
        if let Some(watched) = watched {
            self.due.remove(&(watched.due, watched.target.key));
        }
    }
}

/// What is probed of an instance; none if it is not probed.
fn target(registered: &Registered) -> Option<Target> {
    let instance = &registered.instance;
    let check = instance.health_check.clone()?;
    let (address, protocol) = address(instance, &check)?;
    let foreign_loopback = address.ip().to_canonical().is_loopback() && registered.origin == Origin::Remote;
    if foreign_loopback || check_address("address", address.ip()).is_err() {
        return None;
    }
    let key = InstanceKey { service: instance.service.clone(), id: instance.id.clone() };
    Some(Target { key, registration: registered.registration, address, protocol, check })
}

/// The address at which callers reach the checked port.
fn address(instance: &Instance, check: &HealthCheck) -> Option<(SocketAddr, Protocol)> {
    let port = match check.port {
        Some(number) => instance.ports.iter().find(|port| port.number == number)?,
        None => instance.ports.first()?,
    };
    let address = match port.proxy_port {
        Some(proxy) => SocketAddr::new(instance.proxy_address.unwrap_or(instance.address), proxy),
        None => SocketAddr::new(instance.address, port.number),
    };
    Some((address, port.protocol))
}

fn within(duration: Duration, random: &mut dyn Random) -> Duration {
    Duration::from_micros(random.below(duration.as_micros() as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LeaseState;
    use crate::catalogue::tests::{instance, name};

    struct Seeded(fastrand::Rng);

    impl Random for Seeded {
        fn next_u64(&mut self) -> u64 {
            self.0.u64(..)
        }
    }

    fn seeded() -> Seeded {
        Seeded(fastrand::Rng::with_seed(3))
    }

    fn registered(id: &str, change: impl FnOnce(&mut Registered)) -> Arc<Registered> {
        let mut registered = Registered {
            instance: instance("cart", id),
            origin: Origin::Remote,
            lease: LeaseState::Valid,
            probe: ProbeResult::Unknown,
            since: leno_model::seam::Timestamp(0),
            registration: 1,
            revision: 1,
        };
        change(&mut registered);
        Arc::new(registered)
    }

    fn plan_of(instances: &[Arc<Registered>]) -> Plan {
        let mut plan = Plan::default();
        plan.update(&name("cart"), instances, Duration::ZERO, &mut seeded());
        plan
    }

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_instance_is_asked_once_per_interval_with_some_variation() {
        let mut plan = plan_of(&[registered("a", |_| {}), registered("b", |_| {})]);
        let mut random = seeded();
        let (mut asked, mut last) = (0, BTreeMap::new());
        for millisecond in 0..1_000_000_u64 {
            let now = Duration::from_millis(millisecond);
            for target in plan.start(now, 10, &mut random) {
                asked += 1;
                if let Some(before) = last.insert(target.key.id.clone(), now) {
                    assert!((second(9)..=second(11) + Duration::from_millis(1)).contains(&(now - before)));
                }
            }
        }
        assert!((190..=215).contains(&asked), "{asked}");
    }

    #[test]
    fn no_more_are_started_than_there_is_room_for() {
        let fleet: Vec<_> = (0..50).map(|i| registered(&i.to_string(), |_| {})).collect();
        let mut plan = plan_of(&fleet);
        let started: Vec<usize> = (0..4).map(|_| plan.start(second(2), 20, &mut seeded()).len()).collect();
        assert_eq!(started, [20, 20, 10, 0]);
    }

    #[test]
    fn thresholds_count_answers_in_a_row() {
        let mut plan = plan_of(&[registered("a", |r| {
            r.instance.health_check.as_mut().unwrap().healthy_threshold = 2;
        })]);
        let target = plan.start(second(2), 1, &mut seeded()).remove(0);
        let answers = [
            (false, None),
            (false, None),
            (false, Some(ProbeResult::Failing)),
            (false, None),
            (true, None),
            (false, None),
            (true, None),
            (true, Some(ProbeResult::Passing)),
            (false, None),
            (false, None),
            (true, None),
            (false, None),
        ];
        for (i, (passed, result)) in answers.into_iter().enumerate() {
            assert_eq!(plan.finish(&target, passed), result, "answer {i}");
        }
    }

    #[test]
    fn the_first_good_answer_of_a_new_instance_is_enough() {
        let mut plan = plan_of(&[registered("a", |r| {
            r.instance.health_check.as_mut().unwrap().healthy_threshold = 5;
        })]);
        let target = plan.start(second(2), 1, &mut seeded()).remove(0);
        assert_eq!(plan.finish(&target, true), Some(ProbeResult::Passing));
    }

    #[test]
    fn an_answer_to_what_is_registered_no_more_says_nothing() {
        let mut plan = plan_of(&[registered("a", |_| {})]);
        let target = plan.start(second(2), 1, &mut seeded()).remove(0);
        let moved = registered("a", |r| {
            r.instance.address = [10, 0, 0, 9].into();
            r.registration = 2;
        });
        plan.update(&name("cart"), &[moved], second(2), &mut seeded());
        assert_eq!(plan.finish(&target, true), None);
        plan.update(&name("cart"), &[], second(2), &mut seeded());
        assert_eq!((plan.next(), plan.watched.len()), (None, 0));
    }

    #[test]
    fn a_weight_that_changes_does_not_ask_anew() {
        let mut plan = plan_of(&[registered("a", |_| {})]);
        let before = plan.next();
        plan.update(&name("cart"), &[registered("a", |r| r.instance.weight = 5)], second(0), &mut seeded());
        assert_eq!(plan.next(), before);
    }

    #[test]
    fn loopback_is_asked_only_for_what_was_registered_there() {
        let loopback = |origin| {
            registered("a", |r| {
                r.instance.address = [127, 0, 0, 1].into();
                r.origin = origin;
            })
        };
        assert!(plan_of(&[loopback(Origin::Local)]).next().is_some());
        assert_eq!(plan_of(&[loopback(Origin::Remote)]).next(), None);
    }

    #[test]
    fn a_port_with_a_proxy_is_asked_there() {
        let mut plan = plan_of(&[registered("a", |r| {
            r.instance.ports[0].proxy_port = Some(15006);
            r.instance.proxy_address = Some([10, 0, 0, 7].into());
        })]);
        let target = plan.start(second(2), 1, &mut seeded()).remove(0);
        assert_eq!(target.address.to_string(), "10.0.0.7:15006");
    }
}
