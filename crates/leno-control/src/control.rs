//! The control plane's heart: one state, changed by commits and by instances, read by snapshots and APIs.
//!
//! A commit plans on the state in memory, writes with a compare on the head, and plans again when another server was
//! faster. What it wrote is in force here before it is answered; other servers learn of it by their watch of the store.
//! The state is behind a mutex that is never held across an await.

mod concerning;
mod follow;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use leno_model::document::Parsed;
use leno_model::fault::{self, Fault};
use leno_model::identity::Principal;
use leno_model::name::ServiceName;
use leno_model::resource::kind::ResourceKey;
use leno_model::resource::rate_limit::{LimitThreshold, QuotaPeriod};
use leno_model::seam::Clock;
use leno_model::snapshot::{Name, Rate};
use leno_model::validate::validate;
use leno_runtime::guard::Audited;
use leno_store::Store;
use leno_traffic::allot::Terms;
use leno_xds::kind::Kind;
use leno_xds::node::NodeInfo;
use leno_xds::provide::{Dirty, Provide, Resource};
use leno_xds::status::StatusTable;
use tokio::sync::watch;

pub use self::concerning::{Concerning, Turned};
pub use self::follow::Driver;
use self::plan::Plan;
use crate::allot;
use crate::audit::Audit;
use crate::merge::{Entry, KnownWorld, Merged};
use crate::revision::{self, Change, ChangeSummary, Revision};
use crate::serve::Served;
use crate::source::SourceStatus;
use crate::status::{self, ResourceStatus};
use crate::{Directory, Error};

/// How often a commit is planned again because others were faster.
const TRIES_MAX: u32 = 8;

/// What control needs from outside.
pub struct Options {
    /// Where resources are kept.
    pub store: Arc<dyn Store>,
    /// The registry.
    pub directory: Arc<dyn Directory>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// What subscribers have; the xDS server writes it.
    pub subscribers: StatusTable,
}

/// The control plane. A handle: clones share the state.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    directory: Arc<dyn Directory>,
    clock: Arc<dyn Clock>,
    subscribers: StatusTable,
    audit: Audit,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    sources: Mutex<BTreeMap<Arc<str>, SourceStatus>>,
}

/// Everything in memory.
struct State {
    merged: Merged,
    served: Served,
    /// The number of the newest revision.
    number: u64,
    /// The store's revision of the head, for compare-and-swap.
    head_mod: u64,
    /// Up to this store revision, every change to resources is in `merged`.
    through: u64,
}

/// A set to apply.
#[derive(Debug, Clone)]
pub struct Apply {
    /// Who asks.
    pub principal: Principal,
    /// From which address, where it is known.
    pub from: Option<IpAddr>,
    /// To which set the resources belong.
    pub set: Arc<str>,
    /// The resources, as read, with the faults of reading.
    pub parsed: Parsed,
    /// Whether resources of the set that are not among these are deleted.
    pub prune: bool,
    /// Plan only.
    pub dry_run: bool,
    /// The revision in which the caller last saw these resources, 0 for none; refused when they changed since.
    pub expected: Option<u64>,
    /// Why, in a few words.
    pub summary: Option<String>,
}

/// Resources to delete.
#[derive(Debug, Clone)]
pub struct Delete {
    /// Who asks.
    pub principal: Principal,
    /// From which address, where it is known.
    pub from: Option<IpAddr>,
    /// The set they belong to.
    pub set: Arc<str>,
    /// The resources.
    pub resources: Vec<ResourceKey>,
    /// Plan only.
    pub dry_run: bool,
    /// The revision in which the caller last saw them.
    pub expected: Option<u64>,
    /// Why, in a few words.
    pub summary: Option<String>,
}

/// An earlier state to go back to.
#[derive(Debug, Clone)]
pub struct Rollback {
    /// Who asks.
    pub principal: Principal,
    /// From which address, where it is known.
    pub from: Option<IpAddr>,
    /// The set whose resources go back; those of others stay.
    pub set: Arc<str>,
    /// The revision after which things stood as they shall stand again.
    pub revision: u64,
    /// Only this resource.
    pub resource: Option<ResourceKey>,
    /// Plan only.
    pub dry_run: bool,
    /// Why, in a few words.
    pub summary: Option<String>,
}

/// What came of a change.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The revision of resources, the one before if nothing changed.
    pub revision: u64,
    /// The revision of snapshots from which on proxies are told: `StatusTable::wait` takes it.
    pub snapshot: u64,
    /// What was done to each resource.
    pub changes: Vec<Changed>,
    /// What is not wrong enough to refuse it.
    pub warnings: Vec<Fault>,
}

/// What was done to one resource.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The resource and what was done.
    pub summary: ChangeSummary,
    /// The difference, as people read it.
    pub diff: String,
}

/// A change as the audit log sees it.
struct Act {
    action: &'static str,
    principal: Principal,
    from: Option<IpAddr>,
    object: String,
    dry_run: bool,
}

// === impl Control ===

impl Control {
    /// Reads the resources in the store.
    pub async fn open(options: Options) -> Result<(Self, Driver), Error> {
        let Options { store, directory, clock, subscribers } = options;
        let audit = Audit::open(store.clone(), clock.clone()).await?;
        let mut state = State { merged: Merged::default(), served: Served::new(), number: 0, head_mod: 0, through: 0 };
        state.pass_time(clock.wall());
        state.read(&*store).await?;
        let (changed, _) = watch::channel(state.served.revision());
        let changes = directory.watch();
        let (state, sources) = (Mutex::new(state), Mutex::default());
        let inner = Inner { store, directory, clock, subscribers, audit, state, changed, sources };
        let control = Self { inner: Arc::new(inner) };
        Ok((control.clone(), Driver::new(control, changes)))
    }

    /// All faults of a set beside what is in force; nothing is changed.
    pub fn check(&self, parsed: &Parsed) -> Vec<Fault> {
        let state = self.state();
        let known = KnownWorld { merged: &state.merged, directory: &*self.inner.directory, pruned: None };
        let mut faults = parsed.faults.clone();
        faults.extend(validate(&parsed.resources, &known));
        fault::sort(&mut faults);
        faults
    }

    /// Applies a set: whole or not at all.
    pub async fn apply(&self, apply: Apply) -> Result<Applied, Error> {
        let object = match &apply.parsed.resources[..] {
            [only] => only.resource.key.to_string(),
            several => format!("{} resources of {}", several.len(), apply.set),
        };
        let plan = |state: &State| plan::apply(&state.merged, &*self.inner.directory, &apply);
        self.commit(&Act::new("apply", &apply.principal, apply.from, object, apply.dry_run), plan).await
    }

    /// Deletes resources: all or none.
    pub async fn delete(&self, delete: Delete) -> Result<Applied, Error> {
        let names: Vec<String> = delete.resources.iter().map(ToString::to_string).collect();
        let object = names.join(", ");
        let plan = |state: &State| plan::delete(&state.merged, &delete);
        self.commit(&Act::new("delete", &delete.principal, delete.from, object, delete.dry_run), plan).await
    }

    /// Restores an earlier state as a new revision.
    pub async fn rollback(&self, rollback: Rollback) -> Result<Applied, Error> {
        let object = match &rollback.resource {
            Some(resource) => format!("{resource} to revision {}", rollback.revision),
            None => format!("{} to revision {}", rollback.set, rollback.revision),
        };
        let act = Act::new("rollback", &rollback.principal, rollback.from, object, rollback.dry_run);
        for _ in 0..TRIES_MAX {
            let (undo, upto) = match self.changes_after(rollback.revision).await {
                Ok(found) => found,
                Err(error) => return self.refused(&act, error).await,
            };
            let plan = |state: &State| match state.number == upto {
                true => plan::rollback(&state.merged, &rollback, &undo),
                false => Err(Error::Contended(1)),
            };
            match self.try_commit(&act, plan).await {
                Err(Error::Contended(_)) => {}
                Err(error) => return self.refused(&act, error).await,
                done => return done,
            }
        }
        self.refused(&act, Error::Contended(TRIES_MAX)).await
    }

    /// Looks at the instances of a service now, whether its directory has told of a change already or not. Answers the
    /// revision by which subscribers have what was seen.
    pub fn look_at(&self, service: &ServiceName) -> u64 {
        self.instances_changed(&crate::directory::Changed { services: [service.clone()].into(), complete: false });
        self.state().served.revision()
    }

    /// One resource in force.
    pub fn resource_in_force(&self, key: &ResourceKey) -> Option<Arc<Entry>> {
        self.state().merged.get(key).cloned()
    }

    /// The numbers of a limit of a service that proxies count together, if there is one of this name.
    pub(crate) fn shared_limit(&self, service: &ServiceName, name: &str) -> Option<Terms> {
        let state = self.state();
        let (_, policy) = state.merged.policies_of(service).into_iter().next()?;
        let limit = policy.rate_limits.iter().find(|limit| limit.name == name)?;
        let (shared, bucket) = (limit.shared.as_ref()?, limit.limit.as_ref()?);
        let rate = Rate { requests: bucket.requests.get(), per: bucket.per.0 };
        Some(allot::terms(rate, limit.burst(bucket), shared.threshold == LimitThreshold::PerProxy))
    }

    /// What a quota of a service says, if there is one of this name.
    pub(crate) fn quota(&self, service: &ServiceName, name: &str) -> Option<(u32, QuotaPeriod)> {
        let state = self.state();
        let (_, policy) = state.merged.policies_of(service).into_iter().next()?;
        let limit = policy.rate_limits.iter().find(|limit| limit.name == name)?;
        limit.quota.as_ref().map(|quota| (quota.requests.get(), quota.per))
    }

    /// Where everything is kept.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// Every resource in force, and the number of the newest revision.
    pub fn resources(&self) -> (u64, Vec<Arc<Entry>>) {
        let state = self.state();
        (state.number, state.merged.iter().cloned().collect())
    }

    /// What a resource came to.
    pub fn status_of(&self, key: &ResourceKey) -> Option<ResourceStatus> {
        let state = self.state();
        let entry = state.merged.get(key)?;
        Some(status::of(&state.merged, &*self.inner.directory, entry))
    }

    /// What every resource came to.
    pub fn statuses(&self) -> Vec<ResourceStatus> {
        let state = self.state();
        state.merged.iter().map(|entry| status::of(&state.merged, &*self.inner.directory, entry)).collect()
    }

    /// The revisions that are kept, the newest first, at most `limit`; with `resource`, those that changed it.
    pub async fn history(&self, resource: Option<&ResourceKey>, limit: usize) -> Result<Vec<Revision>, Error> {
        let range = self.inner.store.range(revision::HISTORY, None).await?;
        let mut found = Vec::new();
        for item in range.items.iter().rev() {
            let revision: Revision = revision::decode(item)?;
            if resource.is_none_or(|key| revision.changes.iter().any(|change| change.resource == *key)) {
                found.push(revision);
            }
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// One revision with the content of its changes.
    pub async fn revision_content(&self, number: u64) -> Result<(Revision, Vec<Change>), Error> {
        let Some(header) = self.inner.store.get(&revision::history_key(number)).await? else {
            return Err(self.unknown_revision(number).await?);
        };
        let changes = self.inner.store.range(&revision::changes_prefix(number), None).await?;
        let changes: Result<Vec<Change>, Error> = changes.items.iter().map(revision::decode).collect();
        Ok((revision::decode(&header)?, changes?))
    }

    /// The audit log.
    pub fn audit(&self) -> &Audit {
        &self.inner.audit
    }

    /// What subscribers have.
    pub fn subscribers(&self) -> &StatusTable {
        &self.inner.subscribers
    }

    /// How the sources stand.
    pub fn sources(&self) -> Vec<SourceStatus> {
        self.inner.sources.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn set_source(&self, status: SourceStatus) {
        self.inner.sources.lock().unwrap_or_else(PoisonError::into_inner).insert(status.name.clone(), status);
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.inner.clock
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panics with the lock held does so between whole steps: indexes are rebuilt from entries.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits, and writes down why not.
    async fn commit(&self, act: &Act, plan: impl Fn(&State) -> Result<Plan, Error>) -> Result<Applied, Error> {
        match self.try_commit(act, plan).await {
            Err(error) => self.refused(act, error).await,
            done => done,
        }
    }

    /// Plans, writes, and brings into force; plans again when somebody else was faster.
    async fn try_commit(&self, act: &Act, plan: impl Fn(&State) -> Result<Plan, Error>) -> Result<Applied, Error> {
        for _ in 0..TRIES_MAX {
            let (plan, number, head_mod, snapshot) = {
                let state = self.state();
                (plan(&state)?, state.number, state.head_mod, state.served.revision())
            };
            if act.dry_run || plan.changes.iter().all(|change| change.action() == revision::Action::Unchanged) {
                return Ok(Applied::of(plan, number, snapshot));
            }
            match self.write(act, plan, number + 1, head_mod).await? {
                Some(applied) => return Ok(applied),
                None => self.refresh().await?,
            }
        }
        Err(Error::Contended(TRIES_MAX))
    }

    /// Writes a plan as revision `number`; none when the head had moved.
    async fn write(&self, act: &Act, mut plan: Plan, number: u64, head_mod: u64) -> Result<Option<Applied>, Error> {
        let principal = &act.principal;
        let (author, time): (Arc<str>, _) = (principal.name.as_str().into(), self.inner.clock.wall());
        plan.changes.sort_by(|a, b| a.resource.cmp(&b.resource));
        let mut changes = plan.changes.clone();
        changes.retain(|change| change.action() != revision::Action::Unchanged);
        for after in changes.iter_mut().filter_map(|change| change.after.as_mut()) {
            (after.revision, after.author, after.updated) = (number, author.clone(), time);
            // A new resource is as old as the revision that brings it.
            after.created = if after.created == 0 { number } else { after.created };
        }
        let revision = Revision {
            number,
            author,
            time,
            action: act.action.into(),
            summary: plan.summary.clone(),
            set: plan.set.clone(),
            changes: changes.iter().map(Change::summary).collect(),
        };
        let txn = revision::txn(&revision, &changes, head_mod)?;
        let event = self.inner.audit.event(&act.audited("done".to_owned()), Some(number));
        let (txn, pending) = self.inner.audit.extend(txn, &[event])?;
        let done = self.inner.store.txn(txn).await;
        if !done.as_ref().is_ok_and(|done| done.succeeded) {
            self.inner.audit.undo(pending);
        }
        let done = done?;
        if !done.succeeded {
            return Ok(None);
        }
        let snapshot = self.bring_into_force(&changes, number, done.revision);
        Ok(Some(Applied::of(plan, number, snapshot)))
    }

    fn bring_into_force(&self, changes: &[Change], number: u64, store_revision: u64) -> u64 {
        let mut state = self.state();
        state.number = state.number.max(number);
        // Where the watch was faster it brought this revision whole, and maybe later ones, which must not be undone.
        if state.through >= store_revision {
            // What the next revision compares with is this one all the same.
            state.head_mod = state.head_mod.max(store_revision);
            return state.served.revision();
        }
        let mut topics = state.pass_time(self.inner.clock.wall());
        for change in changes {
            topics.extend(match &change.after {
                Some(stored) => match revision::entry(stored.clone()) {
                    Ok(entry) => state.merged.insert(Arc::new(entry)),
                    Err(cause) => {
                        tracing::error!(error = %cause, resource = %change.resource, "resource not in force");
                        BTreeSet::new()
                    }
                },
                None => state.merged.remove(&change.resource),
            });
        }
        (state.head_mod, state.through) = (store_revision, store_revision);
        let State { merged, served, .. } = &mut *state;
        served.resources_changed(merged, &*self.inner.directory, &topics);
        self.tell(&state)
    }

    /// Tells subscribers of the newest revision.
    fn tell(&self, state: &State) -> u64 {
        let revision = state.served.revision();
        self.inner.changed.send_replace(revision);
        revision
    }

    /// Writes a refusal to the audit log and passes it on.
    async fn refused(&self, act: &Act, error: Error) -> Result<Applied, Error> {
        if !act.dry_run {
            self.inner.audit.record(vec![act.audited(format!("refused: {error}"))]).await;
        }
        Err(error)
    }

    /// What revision `after` + 1 and all later ones changed, the newest first, and the newest number.
    async fn changes_after(&self, after: u64) -> Result<(Vec<Change>, u64), Error> {
        self.refresh().await?;
        let newest = self.state().number;
        if after == 0 || after > newest {
            return Err(self.unknown_revision(after).await?);
        }
        let mut changes = Vec::new();
        for number in (after + 1..=newest).rev() {
            changes.extend(self.revision_content(number).await?.1);
        }
        Ok((changes, newest))
    }

    async fn unknown_revision(&self, asked: u64) -> Result<Error, Error> {
        let range = self.inner.store.range(revision::HISTORY, None).await?;
        let number = |item: Option<&leno_store::KeyValue>| -> Result<u64, Error> {
            item.map_or(Ok(0), |item| revision::decode::<Revision>(item).map(|revision| revision.number))
        };
        Ok(Error::UnknownRevision { asked, oldest: number(range.items.first())?, newest: number(range.items.last())? })
    }
}

// === impl Act ===

impl Act {
    fn new(action: &'static str, principal: &Principal, from: Option<IpAddr>, object: String, dry_run: bool) -> Self {
        Self { action, principal: principal.clone(), from, object, dry_run }
    }

    fn audited(&self, outcome: String) -> Audited {
        let (principal, object) = (Some(self.principal.clone()), self.object.clone());
        Audited { principal, from: self.from, action: self.action.to_owned(), object, outcome }
    }
}

// === impl Applied ===

impl Applied {
    fn of(plan: Plan, revision: u64, snapshot: u64) -> Self {
        let changes = plan.changes.iter().map(|change| Changed { summary: change.summary(), diff: change.diff() });
        Self { revision, snapshot, changes: changes.collect(), warnings: plan.warnings }
    }
}

// === impl Provide ===

impl Provide for Control {
    fn revision(&self) -> u64 {
        self.state().served.revision()
    }

    fn resource(&self, node: &NodeInfo, kind: Kind, name: &str) -> Option<Resource> {
        let mut state = self.state();
        let before = state.served.revision();
        let State { merged, served, .. } = &mut *state;
        let resource = served.resource(merged, &*self.inner.directory, node, kind, name);
        if state.served.revision() != before {
            self.tell(&state);
        }
        resource
    }

    fn names(&self, node: &NodeInfo, kind: Kind) -> Vec<Name> {
        let mut state = self.state();
        let State { merged, served, .. } = &mut *state;
        served.names(merged, &*self.inner.directory, node, kind)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    fn dirty_since(&self, revision: u64) -> Dirty {
        self.state().served.dirty_since(revision)
    }

    fn is_warming(&self) -> bool {
        self.inner.directory.is_warming()
    }
}
