//! The catalogue: services and their instances, by id. Pure: time comes in with each call.
//!
//! ```text
//! register renew deregister set_status set_weight set_probe tick ─► [ Catalogue ] ─► changed instances, revision
//! ```
//!
//! An instance lies in a slot, so that timers can name it in four bytes; readers get an `Arc` of it and may keep that
//! for as long as they like. A renewal changes nothing that readers see and therefore copies nothing.
//!
//! Invariants: the revision rises with every visible change and with nothing else; a service is there as long as it has
//! an instance; what is routable obeys the four-way rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use leno_model::instance::{Instance, InstanceStatus, ProbeResult};
use leno_model::name::ServiceName;
use leno_model::seam::Timestamp;

use crate::lease::{Holders, Lease, Leases, Slot, Verdict};
use crate::validate::{WEIGHT_MAX, check_origin, validate};
use crate::watch::{Dirty, DirtyLog};
use crate::{Error, LeaseState, Origin, Registered, Revision};

/// The most instances of one service.
pub const INSTANCES_PER_SERVICE_MAX: usize = 10_000;
/// The most services.
pub const SERVICES_MAX: usize = 100_000;
/// The most instances.
pub const INSTANCES_MAX: usize = 1_000_000;

/// The name of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceKey {
    /// Its service.
    pub service: ServiceName,
    /// Its id.
    pub id: Arc<str>,
}

/// A service in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSummary {
    /// Its name.
    pub name: ServiceName,
    /// How many instances it has.
    pub instances: usize,
    /// How many of them may take traffic.
    pub routable: usize,
    /// The revision of its last change.
    pub revision: Revision,
}

/// Services and instances.
#[derive(Debug)]
pub(crate) struct Catalogue {
    services: BTreeMap<ServiceName, Service>,
    entries: Entries,
    leases: Leases,
    log: DirtyLog,
    /// Whose record on disk is not as it should be.
    unsaved: BTreeSet<InstanceKey>,
    registrations: u64,
}

#[derive(Debug, Default)]
struct Service {
    ids: BTreeMap<Arc<str>, Slot>,
    /// How many of them may take traffic: counted along, so that listing services does not visit instances.
    routable: usize,
}

#[derive(Debug, Default)]
struct Entries {
    slots: Vec<Option<Entry>>,
    free: Vec<Slot>,
}

#[derive(Debug)]
struct Entry {
    registered: Arc<Registered>,
    lease: Option<Lease>,
}

/// When something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) monotonic: Duration,
    pub(crate) wall: Timestamp,
}

// === impl InstanceKey ===

impl InstanceKey {
    /// Of these two.
    pub fn new(service: &ServiceName, id: &str) -> Self {
        Self { service: service.clone(), id: id.into() }
    }
}

// === impl Catalogue ===

impl Catalogue {
    /// An empty one whose revisions begin after `first`.
    pub(crate) fn new(first: Revision) -> Self {
        Self {
            services: BTreeMap::new(),
            entries: Entries::default(),
            leases: Leases::default(),
            log: DirtyLog::new(first),
            unsaved: BTreeSet::new(),
            registrations: 0,
        }
    }

    /// Refuses what [`Catalogue::register`] would refuse.
    pub(crate) fn check(&self, instance: &Instance, origin: Origin) -> Result<(), Error> {
        validate(instance)?;
        check_origin(instance, origin)?;
        let service = self.services.get(&instance.service);
        if let Some(before) =
            service.and_then(|service| service.ids.get(&instance.id)).and_then(|slot| self.entries.get(*slot))
        {
            let owner = &before.registered.instance.source;
            return if *owner == instance.source { Ok(()) } else { Err(owned(instance, owner)) };
        }
        match service {
            None if self.services.len() >= SERVICES_MAX => Err(Error::ServicesTooMany),
            Some(service) if service.ids.len() >= INSTANCES_PER_SERVICE_MAX => {
                Err(Error::ServiceFull { service: instance.service.clone() })
            }
            _ if self.entries.len() >= INSTANCES_MAX => Err(Error::InstancesTooMany),
            _ => Ok(()),
        }
    }

    /// Registers an instance, or what it has become: whoever registers again with the same content only renews.
    ///
    /// Out of service stays out of service, since that is an operator's decision and not the instance's.
    pub(crate) fn register(&mut self, instance: Instance, origin: Origin, now: Now) -> Result<Arc<Registered>, Error> {
        self.check(&instance, origin)?;
        let Some(slot) = self.slot(&instance.service, &instance.id) else {
            return Ok(self.add(instance, origin, now.wall, ProbeResult::Unknown, now));
        };
        let entry = self.entries.slots[slot as usize].as_mut().expect("a slot that a service names is taken");
        let before = entry.registered.clone();
        let same_lease = before.instance.lease == instance.lease;
        if let Some(lease) = entry.lease.as_mut().filter(|_| same_lease) {
            self.leases.renew(slot, &before.instance.source, lease, now.monotonic);
        } else {
            if let Some(lease) = entry.lease.take() {
                self.leases.end(slot, &before.instance.source, &lease);
            }
            let begin = |duration| self.leases.begin(slot, &instance.source, duration, now.monotonic);
            entry.lease = instance.lease.map(begin);
        }
        let mut registered = succeed(&before, instance, origin);
        if registered == *before {
            return Ok(before);
        }
        if !same_target(&before, &registered) {
            self.registrations += 1;
            registered.registration = self.registrations;
        }
        let key = InstanceKey { service: registered.instance.service.clone(), id: registered.instance.id.clone() };
        Ok(self.replace(slot, key, registered))
    }

    /// Puts back what was kept on disk; its lease begins anew.
    pub(crate) fn restore(&mut self, kept: Registered, now: Now) -> Result<(), Error> {
        self.check(&kept.instance, kept.origin)?;
        let key = InstanceKey { service: kept.instance.service.clone(), id: kept.instance.id.clone() };
        self.add(kept.instance, kept.origin, kept.since, kept.probe, now);
        self.unsaved.remove(&key);
        Ok(())
    }

    /// Begins the lease of an instance anew.
    pub(crate) fn renew(&mut self, service: &ServiceName, id: &str, now: Now) -> Result<(), Error> {
        let slot = self.slot(service, id).ok_or_else(|| Error::unknown(service, id))?;
        let entry = self.entries.slots[slot as usize].as_mut().expect("a slot that a service names is taken");
        let Some(lease) = entry.lease.as_mut() else { return Ok(()) };
        let was_over = self.leases.renew(slot, &entry.registered.instance.source, lease, now.monotonic);
        if was_over {
            self.change(slot, |registered| registered.lease = LeaseState::Valid);
        }
        Ok(())
    }

    /// Removes an instance.
    pub(crate) fn deregister(&mut self, service: &ServiceName, id: &str) -> Result<Arc<Registered>, Error> {
        let slot = self.slot(service, id).ok_or_else(|| Error::unknown(service, id))?;
        Ok(self.remove(slot))
    }

    /// Says whether an instance takes traffic.
    pub(crate) fn set_status(
        &mut self,
        service: &ServiceName,
        id: &str,
        status: InstanceStatus,
    ) -> Result<Arc<Registered>, Error> {
        let slot = self.slot(service, id).ok_or_else(|| Error::unknown(service, id))?;
        Ok(self.change(slot, |registered| registered.instance.status = status))
    }

    /// Says how much traffic an instance takes.
    pub(crate) fn set_weight(
        &mut self,
        service: &ServiceName,
        id: &str,
        weight: u32,
    ) -> Result<Arc<Registered>, Error> {
        if weight > WEIGHT_MAX {
            let (field, problem) = ("weight".to_owned(), format!("{weight} is too much"));
            return Err(Error::Invalid { field, problem, fix: format!("give 0 to {WEIGHT_MAX}") });
        }
        let slot = self.slot(service, id).ok_or_else(|| Error::unknown(service, id))?;
        Ok(self.change(slot, |registered| registered.instance.weight = weight))
    }

    /// Notes what the probes of a registration found; a registration that has changed since is not meant.
    pub(crate) fn set_probe(&mut self, key: &InstanceKey, registration: u64, probe: ProbeResult) {
        let Some(slot) = self.slot(&key.service, &key.id) else { return };
        let Some(entry) = self.entries.get(slot).filter(|entry| entry.registered.registration == registration) else {
            return;
        };
        if entry.registered.lease == LeaseState::Expired && probe != ProbeResult::Passing {
            // Only the probe had spoken for it.
            self.remove(slot);
        } else {
            self.change(slot, |registered| registered.probe = probe);
        }
    }

    /// Lets time pass: ends leases. Answers how long nothing more will happen by itself, none is for ever.
    pub(crate) fn tick(&mut self, now: Now) -> Option<Duration> {
        for verdict in self.leases.advance(now.monotonic, &mut self.entries) {
            match verdict {
                Verdict::Held(slot) => drop(self.change(slot, |registered| registered.lease = LeaseState::Unrenewed)),
                Verdict::Over(slot) => self.over(slot),
            }
        }
        self.leases.tidy(&mut self.entries);
        self.leases.next().map(|next| next.saturating_sub(now.monotonic))
    }

    pub(crate) fn revision(&self) -> Revision {
        self.log.newest()
    }

    pub(crate) fn dirty_since(&self, seen: Option<Revision>) -> Dirty {
        self.log.since(seen)
    }

    pub(crate) fn get(&self, service: &ServiceName, id: &str) -> Option<Arc<Registered>> {
        Some(self.entries.get(self.slot(service, id)?)?.registered.clone())
    }

    pub(crate) fn instances(&self, service: &ServiceName) -> Vec<Arc<Registered>> {
        let slots = self.services.get(service).into_iter().flat_map(|service| service.ids.values());
        slots.filter_map(|slot| Some(self.entries.get(*slot)?.registered.clone())).collect()
    }

    pub(crate) fn services(&self) -> Vec<ServiceSummary> {
        let summary = |(name, service): (&ServiceName, &Service)| ServiceSummary {
            name: name.clone(),
            instances: service.ids.len(),
            routable: service.routable,
            revision: self.log.revision(name).unwrap_or_default(),
        };
        self.services.iter().map(summary).collect()
    }

    /// How many services and instances there are.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.services.len(), self.entries.len())
    }

    /// The sources whose leases are preserved now.
    pub(crate) fn preserved(&self) -> Vec<Arc<str>> {
        self.leases.preserved().cloned().collect()
    }

    /// Takes up to `max` instances whose record on disk is not as it should be.
    pub(crate) fn take_unsaved(&mut self, max: usize) -> Vec<InstanceKey> {
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(key) = self.unsaved.pop_first()
        {
            taken.push(key);
        }
        taken
    }

    /// Gives back what could not be written.
    pub(crate) fn put_back_unsaved(&mut self, keys: impl IntoIterator<Item = InstanceKey>) {
        self.unsaved.extend(keys);
    }

    /// Notes that the record of an instance is as it should be.
    pub(crate) fn saved(&mut self, key: &InstanceKey) {
        self.unsaved.remove(key);
    }

    fn slot(&self, service: &ServiceName, id: &str) -> Option<Slot> {
        self.services.get(service)?.ids.get(id).copied()
    }

    fn add(
        &mut self,
        instance: Instance,
        origin: Origin,
        since: Timestamp,
        probe: ProbeResult,
        now: Now,
    ) -> Arc<Registered> {
        let key = InstanceKey { service: instance.service.clone(), id: instance.id.clone() };
        let slot = self.entries.reserve();
        let lease = instance.lease.map(|lease| self.leases.begin(slot, &instance.source, lease, now.monotonic));
        let state = if lease.is_some() { LeaseState::Valid } else { LeaseState::Persistent };
        self.registrations += 1;
        let registration = self.registrations;
        let revision = self.log.touch(&key.service, false);
        let registered = Registered { instance, origin, lease: state, probe, since, registration, revision };
        let registered = Arc::new(registered);
        self.entries.slots[slot as usize] = Some(Entry { registered: registered.clone(), lease });
        let service = self.services.entry(key.service.clone()).or_default();
        service.ids.insert(key.id.clone(), slot);
        service.routable += usize::from(registered.routable().is_yes());
        self.unsaved.insert(key);
        registered
    }

    /// Changes what readers see of an instance, if it changes at all.
    fn change(&mut self, slot: Slot, change: impl FnOnce(&mut Registered)) -> Arc<Registered> {
        let entry = self.entries.get(slot).expect("a slot that is changed is taken");
        let mut registered = Registered::clone(&entry.registered);
        change(&mut registered);
        if registered == *entry.registered {
            return entry.registered.clone();
        }
        let key = InstanceKey { service: registered.instance.service.clone(), id: registered.instance.id.clone() };
        self.replace(slot, key, registered)
    }

    fn replace(&mut self, slot: Slot, key: InstanceKey, mut registered: Registered) -> Arc<Registered> {
        registered.revision = self.log.touch(&key.service, false);
        let registered = Arc::new(registered);
        if let Some(entry) = &mut self.entries.slots[slot as usize]
            && let Some(service) = self.services.get_mut(&key.service)
        {
            service.routable += usize::from(registered.routable().is_yes());
            service.routable -= usize::from(entry.registered.routable().is_yes());
            entry.registered = registered.clone();
        }
        self.unsaved.insert(key);
        registered
    }

    /// The lease of an instance is over: it goes, unless its probe passes.
    fn over(&mut self, slot: Slot) {
        let Some(entry) = self.entries.slots.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        if entry.registered.probe != ProbeResult::Passing {
            self.remove(slot);
            return;
        }
        if let Some(lease) = &mut entry.lease {
            self.leases.expire(slot, &entry.registered.instance.source, lease);
        }
        self.change(slot, |registered| registered.lease = LeaseState::Expired);
    }

    fn remove(&mut self, slot: Slot) -> Arc<Registered> {
        let entry = self.entries.take(slot).expect("a slot that is removed is taken");
        let instance = &entry.registered.instance;
        if let Some(lease) = &entry.lease {
            self.leases.end(slot, &instance.source, lease);
        }
        let gone = self.services.get_mut(&instance.service).is_none_or(|service| {
            service.ids.remove(&instance.id);
            service.routable -= usize::from(entry.registered.routable().is_yes());
            service.ids.is_empty()
        });
        if gone {
            self.services.remove(&instance.service);
        }
        self.log.touch(&instance.service, gone);
        self.unsaved.insert(InstanceKey { service: instance.service.clone(), id: instance.id.clone() });
        entry.registered
    }
}

/// What becomes of an instance that registers again, but for its revision and the number of the registration.
pub(crate) fn succeed(before: &Registered, mut instance: Instance, origin: Origin) -> Registered {
    if before.instance.status == InstanceStatus::Out && instance.status != InstanceStatus::Draining {
        instance.status = InstanceStatus::Out;
    }
    let lease = if instance.lease.is_some() { LeaseState::Valid } else { LeaseState::Persistent };
    let mut registered = Registered { instance, origin, lease, ..before.clone() };
    if !same_target(before, &registered) {
        // What was found out about another address says nothing about this one.
        registered.probe = ProbeResult::Unknown;
    }
    registered
}

/// Whether probes are sent to the same place in the same way.
fn same_target(before: &Registered, after: &Registered) -> bool {
    let (old, new) = (&before.instance, &after.instance);
    before.origin == after.origin
        && (old.address, old.proxy_address, &old.health_check) == (new.address, new.proxy_address, &new.health_check)
        && old.ports == new.ports
}

fn owned(instance: &Instance, owner: &str) -> Error {
    Error::Owned { service: instance.service.clone(), id: instance.id.to_string(), owner: owner.to_owned() }
}

// === impl Entries ===

impl Entries {
    fn get(&self, slot: Slot) -> Option<&Entry> {
        self.slots.get(slot as usize).and_then(Option::as_ref)
    }

    fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// A free slot. [`INSTANCES_MAX`] keeps their number far below what a slot's number can be.
    fn reserve(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as Slot
        })
    }

    fn take(&mut self, slot: Slot) -> Option<Entry> {
        let entry = self.slots.get_mut(slot as usize).and_then(Option::take)?;
        self.free.push(slot);
        Some(entry)
    }
}

impl Holders for Entries {
    fn lease(&mut self, slot: Slot) -> Option<(&mut Lease, &Arc<str>)> {
        let entry = self.slots.get_mut(slot as usize).and_then(Option::as_mut)?;
        Some((entry.lease.as_mut()?, &entry.registered.instance.source))
    }
}

#[cfg(test)]
pub(crate) mod tests;
