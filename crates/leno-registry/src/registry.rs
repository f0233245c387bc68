//! The handle that everybody shares, and the driver that lets time pass and writes behind.
//!
//! One mutex around the pure catalogue, held for microseconds and never across an await. Instances with leases are
//! answered from memory and written within [`SAVE_INTERVAL`]; persistent ones go through a queue to the driver, which
//! commits what waits in one transaction, changes the catalogue, and then answers.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leno_model::instance::{Instance, InstanceStatus, ProbeResult};
use leno_model::name::ServiceName;
use leno_model::seam::Clock;
use leno_store::Store;
use tokio::sync::{mpsc, oneshot, watch as signal};

use crate::catalogue::{Catalogue, InstanceKey, Now, ServiceSummary};
use crate::record::{self, OpenError, Record};
use crate::watch::{Dirty, Watch};
use crate::{Error, Origin, Registered, Revision};

/// How long a change of a leased instance may be in memory only.
pub const SAVE_INTERVAL: Duration = Duration::from_millis(500);

/// How long the driver sleeps at most: a lease that begins meanwhile may end sooner than all others.
const TICK_INTERVAL_MAX: Duration = Duration::from_millis(500);

/// How many changes of persistent instances wait, then callers do.
const QUEUE_MAX: usize = 1024;

/// How a registry works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long after the start [`Registry::is_warming`] says so: the time in which what was not on disk comes back.
    pub warm_up: Duration,
}

/// The registry, for whoever registers, asks or watches. Clones share it.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Waiting>,
}

/// What must run beside a registry, once.
pub struct Driver {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Waiting>,
}

pub(crate) struct Shared {
    catalogue: Mutex<Catalogue>,
    /// None when the driver has ended.
    newest: signal::Sender<Option<Revision>>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// Held while records are written, so that an older one never overtakes a newer one.
    saving: tokio::sync::Mutex<()>,
    started: Duration,
    warm_up: Duration,
}

/// A change of a persistent instance, which is answered after its commit.
struct Waiting {
    change: Change,
    answer: oneshot::Sender<Result<Arc<Registered>, Error>>,
}

enum Change {
    Register(Box<Instance>, Origin),
    Deregister(InstanceKey),
    Status(InstanceKey, InstanceStatus),
    Weight(InstanceKey, u32),
}

// === impl Registry ===

impl Registry {
    /// A registry with what `store` has kept: each lease begins anew, and nothing is gone.
    pub async fn open(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<(Registry, Driver), OpenError> {
        // Milliseconds times 1024 stay exact in a double, for callers that read revisions as JSON numbers.
        let mut catalogue = Catalogue::new(clock.wall().0 * 1024);
        let started = clock.monotonic();
        let kept = record::load(&*store).await?;
        let (count, now) = (kept.len(), Now { monotonic: started, wall: clock.wall() });
        for registered in kept {
            let name = registered.instance.id.clone();
            if let Err(error) = catalogue.restore(registered, now) {
                tracing::warn!(instance = %name, %error, "a stored instance is not valid any more and was left out");
            }
        }
        tracing::info!(instances = count, "the registry is open");
        let newest = signal::Sender::new(Some(catalogue.revision()));
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let (catalogue, saving) = (Mutex::new(catalogue), tokio::sync::Mutex::new(()));
        let warm_up = options.warm_up;
        let shared = Arc::new(Shared { catalogue, newest, store, clock, saving, started, warm_up });
        Ok((Registry { shared: shared.clone(), queue }, Driver { shared, queue: waiting }))
    }

    /// Registers an instance, or what has become of it. One without a lease is answered after it is on disk.
    pub async fn register(&self, instance: Instance, origin: Origin) -> Result<Arc<Registered>, Error> {
        let was_persistent = {
            let catalogue = self.shared.lock();
            catalogue.check(&instance, origin)?;
            let before = catalogue.get(&instance.service, &instance.id);
            before.is_some_and(|before| before.instance.lease.is_none())
        };
        if instance.lease.is_none() || was_persistent {
            return self.ask(Change::Register(Box::new(instance), origin)).await;
        }
        let now = self.shared.now();
        self.shared.change(|catalogue| catalogue.register(instance, origin, now))
    }

    /// Begins the lease of an instance anew; does nothing for a persistent one.
    pub fn renew(&self, service: &ServiceName, id: &str) -> Result<(), Error> {
        let now = self.shared.now();
        self.shared.change(|catalogue| catalogue.renew(service, id, now))
    }

    /// Begins many leases anew; whether each instance is there. Whoever is not registers again.
    pub fn renew_many(&self, keys: &[InstanceKey]) -> Vec<bool> {
        let now = self.shared.now();
        self.shared
            .change(|catalogue| keys.iter().map(|key| catalogue.renew(&key.service, &key.id, now).is_ok()).collect())
    }

    /// Removes an instance.
    pub async fn deregister(&self, service: &ServiceName, id: &str) -> Result<(), Error> {
        if self.is_persistent(service, id)? {
            return self.ask(Change::Deregister(InstanceKey::new(service, id))).await.map(drop);
        }
        self.shared.change(|catalogue| catalogue.deregister(service, id)).map(drop)
    }

    /// Says whether an instance takes traffic. `Out` outlasts registrations by the instance itself.
    pub async fn set_status(
        &self,
        service: &ServiceName,
        id: &str,
        status: InstanceStatus,
    ) -> Result<Arc<Registered>, Error> {
        if self.is_persistent(service, id)? {
            return self.ask(Change::Status(InstanceKey::new(service, id), status)).await;
        }
        self.shared.change(|catalogue| catalogue.set_status(service, id, status))
    }

    /// Says how much traffic an instance takes, until it registers again.
    pub async fn set_weight(&self, service: &ServiceName, id: &str, weight: u32) -> Result<Arc<Registered>, Error> {
        if self.is_persistent(service, id)? {
            return self.ask(Change::Weight(InstanceKey::new(service, id), weight)).await;
        }
        self.shared.change(|catalogue| catalogue.set_weight(service, id, weight))
    }

    /// Notes what the probes of a registration found. For [`crate::health`] and tests.
    pub fn set_probe(&self, key: &InstanceKey, registration: u64, probe: ProbeResult) {
        self.shared.change(|catalogue| catalogue.set_probe(key, registration, probe));
    }

    /// All services, by name.
    pub fn services(&self) -> Vec<ServiceSummary> {
        self.shared.lock().services()
    }

    /// The instances of a service, by id; none if there is no such service.
    pub fn instances(&self, service: &ServiceName) -> Vec<Arc<Registered>> {
        self.shared.lock().instances(service)
    }

    /// One instance.
    pub fn instance(&self, service: &ServiceName, id: &str) -> Option<Arc<Registered>> {
        self.shared.lock().get(service, id)
    }

    /// How many services and instances there are.
    pub fn counts(&self) -> (usize, usize) {
        self.shared.lock().counts()
    }

    /// The sources whose leases are preserved now, because too many of them are late.
    pub fn preserved(&self) -> Vec<Arc<str>> {
        self.shared.lock().preserved()
    }

    /// The revision of the last change.
    pub fn revision(&self) -> Revision {
        self.shared.lock().revision()
    }

    /// Which services change, from revision `seen` on, or beginning with all there are.
    pub fn watch(&self, seen: Option<Revision>) -> Watch {
        Watch::new(self.shared.clone(), self.shared.newest.subscribe(), seen)
    }

    /// Whether the registry has started so lately that instances may be missing that were never on its disk.
    pub fn is_warming(&self) -> bool {
        self.shared.clock.monotonic().saturating_sub(self.shared.started) < self.shared.warm_up
    }

    /// Lets time pass: ends leases that are over. The driver does this; tests with a clock of their own call it.
    pub fn tick(&self) -> Option<Duration> {
        let now = self.shared.now();
        self.shared.change(|catalogue| catalogue.tick(now))
    }

    /// Writes what is in memory only. The driver does this; call it once more before the process ends.
    pub async fn save(&self) -> Result<(), leno_store::Error> {
        self.shared.save().await
    }

    fn is_persistent(&self, service: &ServiceName, id: &str) -> Result<bool, Error> {
        let registered = self.instance(service, id).ok_or_else(|| Error::unknown(service, id))?;
        Ok(registered.instance.lease.is_none())
    }

    async fn ask(&self, change: Change) -> Result<Arc<Registered>, Error> {
        let closed = || Error::Closed { revision: self.revision() };
        let (answer, answered) = oneshot::channel();
        self.queue.send(Waiting { change, answer }).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

// === impl Driver ===

impl Driver {
    /// Ends leases, writes behind, and commits persistent instances, until all handles are gone; then writes the rest.
    pub async fn run(mut self) {
        let mut failed = false;
        loop {
            let pause = self.shared.tick().unwrap_or(TICK_INTERVAL_MAX).min(TICK_INTERVAL_MAX);
            let pause = pause.max(Duration::from_millis(1));
            let mut waiting = Vec::new();
            match tokio::time::timeout(pause, self.queue.recv_many(&mut waiting, QUEUE_MAX)).await {
                Ok(0) => break,
                Ok(_) => self.shared.commit(waiting).await,
                Err(_) => failed = self.save(failed).await,
            }
        }
        self.save(failed).await;
        self.shared.newest.send_replace(None);
    }

    /// Writes behind; says so once when it does not work, and once when it does again.
    async fn save(&self, failed: bool) -> bool {
        match self.shared.save().await {
            Ok(()) if failed => tracing::info!("the registry is written to disk again"),
            Ok(()) => {}
            Err(error) if !failed => {
                tracing::warn!(%error, "the registry cannot be written to disk, serving goes on from memory");
                return true;
            }
            Err(_) => return true,
        }
        false
    }
}

// === impl Shared ===

impl Shared {
    pub(crate) fn dirty_since(&self, seen: Option<Revision>) -> Dirty {
        self.lock().dirty_since(seen)
    }

    fn lock(&self) -> MutexGuard<'_, Catalogue> {
        self.catalogue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        Now { monotonic: self.clock.monotonic(), wall: self.clock.wall() }
    }

    fn tick(&self) -> Option<Duration> {
        let now = self.now();
        self.change(|catalogue| catalogue.tick(now))
    }

    /// Changes the catalogue, and tells the watchers if the revision rose.
    fn change<T>(&self, change: impl FnOnce(&mut Catalogue) -> T) -> T {
        let mut catalogue = self.lock();
        let before = catalogue.revision();
        let result = change(&mut catalogue);
        let after = catalogue.revision();
        drop(catalogue);
        if after > before {
            self.newest.send_if_modified(|newest| {
                let rose = newest.is_some_and(|newest| newest < after);
                if rose {
                    *newest = Some(after);
                }
                rose
            });
        }
        result
    }

    /// Writes the records that are not as they should be, in as many transactions as it takes.
    async fn save(&self) -> Result<(), leno_store::Error> {
        let _saving = self.saving.lock().await;
        loop {
            let records = {
                let mut catalogue = self.lock();
                let keys = catalogue.take_unsaved(record::BATCH_MAX);
                keys.into_iter().map(|key| (catalogue.get(&key.service, &key.id), key)).collect::<Vec<_>>()
            };
            if records.is_empty() {
                return Ok(());
            }
            let writes = records.iter().map(|(registered, key)| (key, registered.as_deref().map(Record::of)));
            if let Err(error) = record::write(&*self.store, writes).await {
                self.lock().put_back_unsaved(records.into_iter().map(|(_, key)| key));
                return Err(error);
            }
        }
    }

    /// Commits changes of persistent instances, makes them, and answers.
    async fn commit(&self, waiting: Vec<Waiting>) {
        let _saving = self.saving.lock().await;
        let mut waiting = waiting.into_iter().peekable();
        while waiting.peek().is_some() {
            // A key that is changed twice waits for the next transaction.
            let mut group: Vec<(InstanceKey, Waiting)> = Vec::new();
            while let Some(next) = waiting.next_if(|next| {
                group.len() < record::BATCH_MAX && !group.iter().any(|(key, _)| *key == next.change.key())
            }) {
                group.push((next.change.key(), next));
            }
            self.commit_group(group).await;
        }
    }

    async fn commit_group(&self, group: Vec<(InstanceKey, Waiting)>) {
        let (mut ready, now) = (Vec::new(), self.now());
        for (key, waiting) in group {
            match self.foresee(&waiting.change, &key, now) {
                Ok(record) => ready.push((key, record, waiting)),
                // Whoever stopped waiting needs no answer.
                Err(error) => drop(waiting.answer.send(Err(error))),
            }
        }
        if ready.is_empty() {
            return;
        }
        let done = record::write(&*self.store, ready.iter().map(|(key, record, _)| (key, record.clone()))).await;
        for (key, record, waiting) in ready {
            let result = match &done {
                Err(error) => Err(error.clone().into()),
                Ok(()) => self.change(|catalogue| {
                    let result = waiting.change.make(catalogue, now);
                    // While it was written, a probe may have answered: then the record is written once more.
                    let is = catalogue.get(&key.service, &key.id).as_deref().map(Record::of);
                    if is == record {
                        catalogue.saved(&key)
                    } else {
                        catalogue.put_back_unsaved([key])
                    }
                    result
                }),
            };
            drop(waiting.answer.send(result));
        }
    }

    /// The record that a change will leave, none for a removal; or why it will be refused.
    fn foresee(&self, change: &Change, key: &InstanceKey, now: Now) -> Result<Option<Record>, Error> {
        let catalogue = self.lock();
        let before = catalogue.get(&key.service, &key.id);
        if let Change::Register(instance, origin) = change {
            catalogue.check(instance, *origin)?;
            return Ok(Some(Record::following(before.as_deref(), Instance::clone(instance), *origin, now.wall)));
        }
        let before = before.ok_or_else(|| Error::unknown(&key.service, &key.id))?;
        let mut record = Record::of(&before);
        match change {
            Change::Status(_, status) => record.instance.status = *status,
            Change::Weight(_, weight) => record.instance.weight = *weight,
            Change::Deregister(_) | Change::Register(..) => return Ok(None),
        }
        crate::validate::validate(&record.instance)?;
        Ok(Some(record))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

// === impl Change ===

impl Change {
    fn key(&self) -> InstanceKey {
        match self {
            Self::Register(instance, _) => InstanceKey { service: instance.service.clone(), id: instance.id.clone() },
            Self::Deregister(key) | Self::Status(key, _) | Self::Weight(key, _) => key.clone(),
        }
    }

    fn make(&self, catalogue: &mut Catalogue, now: Now) -> Result<Arc<Registered>, Error> {
        match self {
            Self::Register(instance, origin) => catalogue.register(Instance::clone(instance), *origin, now),
            Self::Deregister(key) => catalogue.deregister(&key.service, &key.id),
            Self::Status(key, status) => catalogue.set_status(&key.service, &key.id, *status),
            Self::Weight(key, weight) => catalogue.set_weight(&key.service, &key.id, *weight),
        }
    }
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { warm_up: Duration::from_secs(30) }
    }
}

#[cfg(test)]
mod tests;
