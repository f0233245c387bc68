//! A provider that tests change by hand. A body is text; a route's body names the clusters that it leads to.

#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use leno_model::snapshot::Name;
use leno_xds::kind::Kind;
use leno_xds::node::{NodeInfo, ProxyKind};
use leno_xds::provide::{Dirty, Provide, Resource};
use tokio::sync::watch;

pub(crate) struct World {
    resources: RefCell<BTreeMap<(Kind, Name), Resource>>,
    changes: RefCell<Vec<(u64, Kind, Name)>>,
    revision: watch::Sender<u64>,
    pub(crate) warming: Cell<bool>,
    pub(crate) forgets: Cell<bool>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            resources: RefCell::default(),
            changes: RefCell::default(),
            revision: watch::Sender::new(1),
            warming: Cell::new(false),
            forgets: Cell::new(false),
        }
    }

    pub(crate) fn set(&self, kind: Kind, name: &str, body: &str) {
        self.put(Resource::new(name.into(), body.as_bytes().to_vec().into()), kind);
    }

    pub(crate) fn put(&self, resource: Resource, kind: Kind) {
        let name = resource.name.clone();
        self.resources.borrow_mut().insert((kind, name.clone()), resource);
        self.changed(kind, name);
    }

    pub(crate) fn remove(&self, kind: Kind, name: &str) {
        self.resources.borrow_mut().remove(&(kind, name.into()));
        self.changed(kind, name.into());
    }

    pub(crate) fn get(&self, kind: Kind, name: &str) -> Option<Resource> {
        self.resources.borrow().get(&(kind, name.into())).cloned()
    }

    pub(crate) fn all(&self, kind: Kind) -> Vec<Name> {
        self.resources.borrow().keys().filter(|(k, _)| *k == kind).map(|(_, name)| name.clone()).collect()
    }

    fn changed(&self, kind: Kind, name: Name) {
        let revision = *self.revision.borrow() + 1;
        self.changes.borrow_mut().push((revision, kind, name));
        self.revision.send_replace(revision);
    }
}

impl Provide for World {
    fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    fn resource(&self, _: &NodeInfo, kind: Kind, name: &str) -> Option<Resource> {
        self.get(kind, name)
    }

    fn names(&self, _: &NodeInfo, kind: Kind) -> Vec<Name> {
        self.all(kind)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    fn dirty_since(&self, revision: u64) -> Dirty {
        if self.forgets.get() {
            return Dirty::All;
        }
        let changes = self.changes.borrow();
        let names: BTreeSet<_> =
            changes.iter().filter(|(at, ..)| *at > revision).map(|(_, kind, name)| (*kind, name.clone())).collect();
        Dirty::Names(names)
    }

    fn is_warming(&self) -> bool {
        self.warming.get()
    }
}

pub(crate) fn node(proxy: ProxyKind) -> NodeInfo {
    NodeInfo { proxy, ..NodeInfo::new("test") }
}
