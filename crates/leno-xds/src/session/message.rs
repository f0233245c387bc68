//! What is due as messages, and what the subscriber knows once it has them.

use std::time::Duration;

use leno_model::snapshot::Name;

use super::due::Due;
use super::subscription::{Held, Mark, NO_REVISION, Unanswered};
use super::{Push, Session};
use crate::kind::Kind;
use crate::node::ProxyKind;
use crate::provide::{Provide, Resource};

/// What one or more messages are made of.
struct Parts {
    resources: Vec<Resource>,
    removed: Vec<Name>,
    names: Vec<Name>,
    since: u64,
    revision: u64,
    now: Duration,
}

impl Session {
    /// Whether a message of this kind lists all that there is, and so removes what it does not list.
    pub(super) fn lists_all(&self, kind: Kind) -> bool {
        self.whole && kind.has_wildcard()
    }

    /// Turns what is due into messages, and remembers what the subscriber is told.
    pub(super) fn push(&mut self, kind: Kind, due: Due, now: Duration, provide: &dyn Provide, pushes: &mut Vec<Push>) {
        let must_answer = std::mem::take(&mut self.kinds[kind.index()].must_answer);
        if due.resources.is_empty() && due.removed.is_empty() && !must_answer {
            return;
        }
        let list_all = self.lists_all(kind);
        let mut since = NO_REVISION;
        let mut names = Vec::with_capacity(due.resources.len() + due.removed.len());
        let mut resources = Vec::with_capacity(due.resources.len());
        for (resource, revision) in due.resources {
            since = since.min(revision);
            names.push(resource.name.clone());
            self.before_update(kind, &resource, revision);
            let subscription = &mut self.kinds[kind.index()];
            if subscription.names.contains(&resource.name) {
                // The provider's own text of the name is shared by all subscribers.
                subscription.names.replace(resource.name.clone());
            }
            subscription.hold(resource.name.clone(), Held::of(&resource, list_all));
            resources.push(resource);
        }
        let mut removed = Vec::with_capacity(due.removed.len());
        for (name, revision) in due.removed {
            since = since.min(revision);
            names.push(name.clone());
            self.told_absent(kind, &name);
            removed.push(name);
        }
        if list_all {
            resources = self.everything(kind, provide);
        } else if self.whole && resources.is_empty() {
            // State of the world has no word for the absence of routes and endpoints.
            return;
        }
        let revision = provide.revision();
        self.send(kind, Parts { resources, removed, names, since, revision, now }, list_all, pushes);
    }

    /// What follows from sending a cluster to a client that is not ours: it waits for endpoints, also for those that
    /// it had before the cluster changed, and does not always ask for them.
    fn before_update(&mut self, kind: Kind, resource: &Resource, revision: u64) {
        if kind != Kind::Cluster || self.node.proxy == ProxyKind::Leno {
            return;
        }
        let had = self.kinds[kind.index()].held.get(&resource.name).is_some_and(|held| held.version.is_some());
        if self.kinds[kind.index()].wildcard && !had {
            self.warming.insert(resource.name.clone(), self.nonce);
        }
        let endpoints = &mut self.kinds[Kind::Endpoints.index()];
        if endpoints.names.contains(&resource.name) {
            let mark = Mark { revision, asked: true, again: true, gone: false };
            endpoints.mark(resource.name.clone(), mark);
        } else {
            self.owed.insert(resource.name.clone());
        }
    }

    fn told_absent(&mut self, kind: Kind, name: &Name) {
        let subscription = &mut self.kinds[kind.index()];
        if subscription.names.contains(name) {
            subscription.hold(name.clone(), Held { version: None, body: None });
        } else {
            subscription.forget(name);
        }
        if kind == Kind::Cluster {
            self.owed.remove(name);
        }
        if kind == Kind::Cluster || kind == Kind::Endpoints {
            self.warming.remove(name);
        }
    }

    /// All of a kind, for a message that lists all: what the provider has, and the last of what may not go yet.
    fn everything(&self, kind: Kind, provide: &dyn Provide) -> Vec<Resource> {
        let subscription = &self.kinds[kind.index()];
        let held = subscription.held.iter().filter_map(|(name, held)| Some((name, held, held.version.as_ref()?)));
        let resources = held.filter_map(|(name, held, version)| {
            let current = self.target(kind, name, provide);
            current.filter(|resource| resource.version == *version).or_else(|| {
                let body = held.body.clone()?;
                Some(Resource { name: name.clone(), version: version.clone(), body })
            })
        });
        resources.collect()
    }

    /// Cuts the parts into messages that clients accept.
    fn send(&mut self, kind: Kind, parts: Parts, list_all: bool, pushes: &mut Vec<Push>) {
        let limit = if list_all { usize::MAX } else { self.bounds.message_bytes };
        let (since, revision, sent_at) = (parts.since, parts.revision, parts.now);
        let mut removed = Some(parts.removed);
        let mut names = parts.names;
        for resources in cut(parts.resources, limit) {
            self.nonce += 1;
            let removed = removed.take().unwrap_or_default();
            let own = if list_all {
                std::mem::take(&mut names)
            } else {
                resources.iter().map(|resource| resource.name.clone()).chain(removed.iter().cloned()).collect()
            };
            let subscription = &mut self.kinds[kind.index()];
            subscription.sent = revision;
            subscription.last_nonce = self.nonce;
            let unanswered = Unanswered { nonce: self.nonce, names: own, since, revision, sent_at };
            subscription.unanswered.push_back(unanswered);
            let set = subscription.set;
            pushes.push(Push { kind, nonce: self.nonce, revision, set, resources, removed });
        }
    }
}

/// Cuts a list where its bytes reach a limit; at least one list, which may be empty.
fn cut(resources: Vec<Resource>, limit: usize) -> Vec<Vec<Resource>> {
    let mut lists = vec![Vec::new()];
    let mut bytes = 0_usize;
    for resource in resources {
        // Name, version and framing, roughly.
        let size = resource.body.len() + resource.name.len() + 128;
        if bytes > 0 && bytes.saturating_add(size) > limit {
            lists.push(Vec::new());
            bytes = 0;
        }
        bytes = bytes.saturating_add(size);
        if let Some(last) = lists.last_mut() {
            last.push(resource);
        }
    }
    lists
}
