//! Which of the dirty names may be sent now, and which have to wait for what they point at, or for what points at
//! them.

use std::collections::BTreeMap;
use std::time::Duration;

use leno_model::snapshot::Name;

use super::Session;
use super::subscription::NO_REVISION;
use crate::kind::Kind;
use crate::provide::{Dirty, Provide, Resource};

/// How often to look whether a server that has just started may take away by now what it does not know.
const WARMING_LOOK: Duration = Duration::from_secs(1);

/// What of one kind is to be sent now.
#[derive(Default)]
pub(super) struct Due {
    pub(super) resources: Vec<(Resource, u64)>,
    pub(super) removed: Vec<(Name, u64)>,
    /// Something waits for the client to accept something else.
    pub(super) held_back: bool,
    /// Some of it is a change that nobody asked for.
    pub(super) changed: bool,
}

impl Session {
    /// The names of a kind that this subscriber cares about, among those that may have changed.
    pub(super) fn touched_names(&mut self, kind: Kind, dirty: &Dirty, provide: &dyn Provide) -> Vec<Name> {
        let subscription = &mut self.kinds[kind.index()];
        if !subscription.opened {
            return Vec::new();
        }
        let candidates: Option<Vec<&Name>> = match dirty {
            Dirty::All => None,
            Dirty::Names(names) => {
                let of_kind: Vec<&Name> = names.iter().filter(|(k, _)| *k == kind).map(|(_, name)| name).collect();
                if of_kind.is_empty() {
                    return Vec::new();
                }
                Some(of_kind)
            }
        };
        if subscription.wildcard {
            let all = provide.names(&self.node, kind).into_iter().collect();
            // A name may come to or go from `*` without having changed by itself.
            let moved: Vec<Name> = subscription.all.symmetric_difference(&all).cloned().collect();
            subscription.all = all;
            let named = match candidates {
                None => subscription.wanted().into_iter().collect(),
                Some(names) => {
                    let cares = |name: &&&Name| subscription.wants(name) || subscription.held.contains_key(**name);
                    names.iter().filter(cares).map(|name| (*name).clone()).collect::<Vec<_>>()
                }
            };
            return named.into_iter().chain(moved).collect();
        }
        match candidates {
            None => subscription.wanted().into_iter().collect(),
            Some(names) => names.into_iter().filter(|name| subscription.names.contains(*name)).cloned().collect(),
        }
    }

    /// What the subscriber is to have under a name.
    pub(super) fn target(&self, kind: Kind, name: &Name, provide: &dyn Provide) -> Option<Resource> {
        self.kinds[kind.index()].wants(name).then(|| provide.resource(&self.node, kind, name)).flatten()
    }

    /// Takes what is to be sent now off the dirty names of a kind.
    pub(super) fn due(&mut self, kind: Kind, now: Duration, patience_is_over: bool, provide: &dyn Provide) -> Due {
        let mut due = Due::default();
        let may_update = patience_is_over || self.may_update(kind);
        let may_remove = patience_is_over || self.may_remove(kind, now);
        // Who takes all clusters gets no route before the clusters, even the first time.
        let answers_at_once = kind != Kind::Route || !self.kinds[Kind::Cluster.index()].wildcard;
        // Changes wait for the answer to the last message; not for ever, as Envoy answers about clusters only when all
        // of them have endpoints.
        let turn = match self.kinds[kind.index()].unanswered.front() {
            Some(unanswered) => self.next_push.max(unanswered.sent_at.saturating_add(self.bounds.hold_max)),
            None => self.next_push,
        };
        let is_turn = now >= turn;
        let dirty = std::mem::take(&mut self.kinds[kind.index()].dirty);
        let mut later = BTreeMap::new();
        for (name, mut mark) in dirty {
            if !mark.asked && !is_turn {
                self.next_turn = Some(self.next_turn.map_or(turn, |next| next.min(turn)));
                later.insert(name, mark);
                continue;
            }
            let target = self.target(kind, &name, provide);
            mark.gone = target.is_none();
            let held = self.kinds[kind.index()].held.get(&name);
            match (target, held.map(|held| held.version.as_ref())) {
                (Some(resource), Some(Some(version))) if resource.version == *version && !mark.again => {}
                (Some(resource), _) if may_update || mark.asked && answers_at_once => {
                    due.changed |= !mark.asked;
                    due.resources.push((resource, mark.revision));
                }
                (None, Some(None)) if !mark.again => {}
                (None, None | Some(None)) => due.removed.push((name, mark.revision)),
                // A server that has just started takes nothing away that was there before it; what goes while it runs goes.
                (None, Some(Some(_))) if mark.revision == NO_REVISION && provide.is_warming() => {
                    let next = now + WARMING_LOOK;
                    self.next_turn = Some(self.next_turn.map_or(next, |turn| turn.min(next)));
                    later.insert(name, mark);
                }
                (None, Some(Some(_))) if may_remove => {
                    due.changed |= !mark.asked;
                    due.removed.push((name, mark.revision));
                }
                (Some(_), _) | (None, Some(Some(_))) => {
                    due.held_back = true;
                    later.insert(name, mark);
                }
            }
        }
        self.kinds[kind.index()].dirty = later;
        due
    }

    /// Whether what a change of this kind may point at has been accepted.
    fn may_update(&self, kind: Kind) -> bool {
        match kind {
            Kind::Cluster | Kind::Endpoints => true,
            Kind::Listener | Kind::Route => self.warming.is_empty() && !self.kinds[Kind::Cluster.index()].is_moving(),
        }
    }

    /// Whether nothing that is on its way may still point at what is to be removed, or may be about to stop.
    fn may_remove(&self, kind: Kind, now: Duration) -> bool {
        let still = |kind: Kind| !self.kinds[kind.index()].is_moving();
        match kind {
            // A client that comes back may have routes that it has not asked for yet.
            Kind::Cluster | Kind::Endpoints => {
                let has_asked = self.kinds[Kind::Route.index()].opened;
                let has_had_time = now >= self.started.saturating_add(self.bounds.hold_max);
                still(Kind::Listener) && still(Kind::Route) && (has_asked || has_had_time)
            }
            Kind::Route => still(Kind::Listener),
            Kind::Listener => true,
        }
    }
}
