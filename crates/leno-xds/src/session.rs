//! What one subscriber is to have, what it has, and what it is sent next: the core that both protocols share.
//!
//! Pure: requests, changes and time come in, pushes go out. It keeps names and versions, never a queue of content; a
//! name is *dirty* until the subscriber has been sent what the provider holds at that moment, so whoever is slow skips
//! states and is never behind by more than one answer.
//!
//! Order (make before break): clusters, endpoints, listeners, routes; removals once nothing that could point at them
//! is on its way. A client that takes all clusters (Envoy) gets routes to a new cluster only after it has accepted the
//! cluster's endpoints. Each wait ends after [`Bounds::hold_max`], for a client that never answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use leno_model::seam::Timestamp;
use leno_model::snapshot::Name;

use crate::kind::Kind;
use crate::messages::wkt::Status;
use crate::node::{NodeInfo, ProxyKind};
use crate::provide::{Dirty, Provide, Resource};
use crate::status::{BATCHES_MAX, Batch, DETAIL_MAX, KindStatus, Rejection, Subscriber};
use crate::version::{SetVersion, Version};

/// What one subscriber may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Destinations (listeners by name) that one subscriber may ask for. Default 1,024; more are answered as absent.
    pub destinations_max: usize,
    /// Names of each other kind, which destinations refer to. Default 16,384.
    pub references_max: usize,
    /// New destinations a second after the first request; more are answered later. Default 50.
    pub destinations_per_second: u32,
    /// The longest name. Default 512 bytes.
    pub name_max: usize,
    /// Bytes of resources in one message, where a message can be split. Default 2 MiB; gRPC clients refuse 4 MiB.
    pub message_bytes: usize,
    /// The first change goes out at once, those after it together this much later. Default 10 ms.
    pub push_interval: Duration,
    /// How long a push waits for the client to accept what it points at. Default 2 s.
    pub hold_max: Duration,
}

/// The present, as it comes in from outside.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    /// Never goes back.
    pub monotonic: Duration,
    /// For people.
    pub wall: Timestamp,
}

/// Something to send, before a protocol gives it its form.
#[derive(Debug)]
pub(crate) struct Push {
    pub(crate) kind: Kind,
    pub(crate) nonce: u64,
    pub(crate) revision: u64,
    /// What the subscriber has of this kind once it has this.
    pub(crate) set: SetVersion,
    pub(crate) resources: Vec<Resource>,
    pub(crate) removed: Vec<Name>,
}

/// One subscriber's state.
pub(crate) struct Session {
    node: NodeInfo,
    bounds: Bounds,
    /// Listeners and clusters are sent whole, as state of the world has it.
    whole: bool,
    kinds: [Subscription; 4],
    /// The provider's revision up to which dirty names are marked.
    seen: u64,
    batches: VecDeque<Batch>,
    nonce: u64,
    /// When the first request came.
    started: Duration,
    /// Changes wait until then.
    next_push: Duration,
    /// When the first of those that wait will have waited long enough.
    next_turn: Option<Duration>,
    /// Since when something waits for the client to accept something else.
    held_back: Option<Duration>,
    /// New clusters whose endpoints an all-taking client has not accepted yet, with the last nonce before they were
    /// sent: an answer to older endpoints is about a cluster of that name that has gone.
    warming: BTreeMap<Name, u64>,
    /// Clusters that were sent to a client which then waits for their endpoints, even if it has them, and which has
    /// not been sent them since.
    owed: BTreeSet<Name>,
    /// New destinations are let in at this pace (the theoretical arrival time of a leaky bucket).
    paced_until: Duration,
    /// New destinations that wait to be let in.
    delayed: VecDeque<Name>,
}

/// One subscriber's state of one kind.
#[derive(Default)]
struct Subscription {
    opened: bool,
    wildcard: bool,
    names: BTreeSet<Name>,
    /// What `*` means now.
    all: BTreeSet<Name>,
    held: BTreeMap<Name, Held>,
    set: SetVersion,
    dirty: BTreeMap<Name, Mark>,
    unanswered: VecDeque<Unanswered>,
    /// An answer is due even if it brings nothing.
    must_answer: bool,
    last_nonce: u64,
    sent: u64,
    acked: u64,
    rejection: Option<Rejection>,
}

/// What the subscriber was last told of a name.
struct Held {
    /// None: that it does not exist.
    version: Option<Version>,
    /// Kept where a removal may have to wait in a message that lists all.
    body: Option<Bytes>,
}

/// Why a name is to be looked at.
#[derive(Clone, Copy)]
struct Mark {
    /// The revision that changed it; `NO_REVISION` when the subscriber asked.
    revision: u64,
    /// The subscriber asked: no waiting.
    asked: bool,
    /// Send it even if the subscriber has it.
    again: bool,
    /// It is to be removed, as far as was known when it was last looked at.
    gone: bool,
}

/// A message without an answer yet.
struct Unanswered {
    nonce: u64,
    names: Vec<Name>,
    /// The earliest revision that it brings.
    since: u64,
    /// The revision that it was made from.
    revision: u64,
    sent_at: Duration,
}

/// Something that a driver runs: one protocol's reading of requests and writing of pushes.
pub(crate) trait Protocol {
    type Request;
    type Response;

    /// Takes a request, or only the time and the provider's changes, and gives what is to be sent.
    fn step(&mut self, now: Now, request: Option<Self::Request>, provide: &dyn Provide) -> Vec<Self::Response>;

    /// The state behind it.
    fn session(&self) -> &Session;
}

/// How far ahead of its pace a subscriber may be with new destinations.
const BURST: Duration = Duration::from_secs(1);

/// The mark of what no revision brought.
const NO_REVISION: u64 = u64::MAX;

// === impl Bounds ===

impl Default for Bounds {
    fn default() -> Self {
        Self {
            destinations_max: 1024,
            references_max: 16 * 1024,
            destinations_per_second: 50,
            name_max: 512,
            message_bytes: 2 << 20,
            push_interval: Duration::from_millis(10),
            hold_max: Duration::from_secs(2),
        }
    }
}

// === impl Session ===

impl Session {
    pub(crate) fn new(node: NodeInfo, bounds: Bounds, whole: bool) -> Self {
        Self {
            node,
            bounds,
            whole,
            kinds: Default::default(),
            seen: 0,
            batches: VecDeque::new(),
            nonce: 0,
            started: Duration::ZERO,
            next_push: Duration::ZERO,
            next_turn: None,
            held_back: None,
            warming: BTreeMap::new(),
            owed: BTreeSet::new(),
            paced_until: Duration::ZERO,
            delayed: VecDeque::new(),
        }
    }

    /// Opens a kind; true the first time.
    pub(crate) fn open(&mut self, kind: Kind, now: Now, provide: &dyn Provide) -> bool {
        // Whatever was dirty before the first request is part of its answer.
        if self.kinds.iter().all(|subscription| !subscription.opened) {
            self.seen = provide.revision();
            self.started = now.monotonic;
        }
        !std::mem::replace(&mut self.kinds[kind.index()].opened, true)
    }

    /// The subscriber has this already.
    pub(crate) fn has(&mut self, kind: Kind, name: &str, version: &str) {
        let held = Held { version: Some(version.into()), body: None };
        if name.len() <= self.bounds.name_max && self.kinds[kind.index()].held.len() < self.bounds.references_max {
            self.kinds[kind.index()].hold(name.into(), held);
        }
    }

    /// Asks for all of a kind.
    pub(crate) fn subscribe_all(&mut self, kind: Kind, provide: &dyn Provide) {
        let all: BTreeSet<Name> = provide.names(&self.node, kind).into_iter().collect();
        let subscription = &mut self.kinds[kind.index()];
        subscription.wildcard = true;
        subscription.must_answer = true;
        let known: Vec<Name> = all.iter().chain(subscription.held.keys()).cloned().collect();
        subscription.all = all;
        for name in known {
            let has_one = subscription.held.get(&name).is_some_and(|held| held.version.is_some());
            subscription.mark(name, Mark { asked: !has_one, ..Mark::asked(false) });
        }
    }

    /// Asks no more for all of a kind.
    pub(crate) fn unsubscribe_all(&mut self, kind: Kind) {
        let subscription = &mut self.kinds[kind.index()];
        subscription.wildcard = false;
        subscription.all.clear();
        self.drop_unwanted(kind);
        if kind == Kind::Cluster {
            self.warming.clear();
            self.owed.clear();
        }
    }

    /// Asks for a name. `paced` is false for a first request, which may bring back what a proxy used before.
    pub(crate) fn subscribe(&mut self, kind: Kind, name: &str, now: Now, paced: bool) {
        let is_destination = kind == Kind::Listener && self.node.proxy != ProxyKind::Envoy;
        let max = if is_destination { self.bounds.destinations_max } else { self.bounds.references_max };
        let waiting = if is_destination { self.delayed.len() } else { 0 };
        let subscription = &mut self.kinds[kind.index()];
        let name = Name::from(name);
        if subscription.names.contains(&name) {
            subscription.mark(name, Mark::asked(true));
        } else if name.len() > self.bounds.name_max || subscription.names.len() + waiting >= max {
            // Answered as absent, once, and not remembered; state of the world would ask again with each answer.
            if !self.whole {
                subscription.mark(name, Mark::asked(false));
            }
        } else if is_destination && self.delayed.contains(&name) {
            // It is on its way in.
        } else if is_destination && paced && !self.admit(now.monotonic) {
            self.delayed.push_back(name);
        } else {
            let is_owed = kind == Kind::Endpoints && self.owed.remove(&name);
            self.kinds[kind.index()].ask(name, is_owed);
        }
    }

    /// Asks no more for a name.
    pub(crate) fn unsubscribe(&mut self, kind: Kind, name: &str) {
        if kind == Kind::Listener {
            self.keep_delayed(|delayed| delayed != name);
        }
        if kind == Kind::Endpoints {
            self.warming.remove(name);
        }
        let subscription = &mut self.kinds[kind.index()];
        if !subscription.names.remove(name) {
            return;
        }
        if subscription.all.contains(name) {
            // Still wanted as one of all; the protocol asks for an answer.
            subscription.mark(name.into(), Mark::asked(true));
        } else {
            subscription.forget(name);
        }
    }

    /// Drops destinations that wait to be let in.
    pub(crate) fn keep_delayed(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.delayed.retain(|name| is_wanted(name));
    }

    /// Forgets what the subscriber said it has and does not ask for.
    pub(crate) fn drop_unwanted(&mut self, kind: Kind) {
        let subscription = &mut self.kinds[kind.index()];
        if !subscription.wildcard {
            let unwanted: Vec<Name> =
                subscription.held.keys().filter(|name| !subscription.names.contains(*name)).cloned().collect();
            unwanted.iter().for_each(|name| subscription.forget(name));
        }
    }

    /// The names that are subscribed to one by one.
    pub(crate) fn names(&self, kind: Kind) -> &BTreeSet<Name> {
        &self.kinds[kind.index()].names
    }

    /// Whether all of a kind is subscribed to.
    pub(crate) fn takes_all(&self, kind: Kind) -> bool {
        self.kinds[kind.index()].wildcard
    }

    /// If what the subscriber is to have of a kind has this version as a set, it has it, and nothing need be sent.
    pub(crate) fn has_set(&mut self, kind: Kind, version: &str, provide: &dyn Provide) {
        let subscription = &self.kinds[kind.index()];
        let wanted: Vec<Name> = subscription.names.union(&subscription.all).cloned().collect();
        let resources: Vec<Resource> =
            wanted.iter().filter_map(|name| provide.resource(&self.node, kind, name)).collect();
        let mut set = SetVersion::default();
        resources.iter().for_each(|resource| set.insert(&resource.name, &resource.version));
        if set.text() != version {
            // It has older ones that will do until what the new ones point at has been accepted.
            self.kinds[kind.index()].dirty.values_mut().for_each(|mark| mark.asked = false);
            return;
        }
        let keep_body = self.lists_all(kind);
        let subscription = &mut self.kinds[kind.index()];
        for resource in resources {
            subscription.hold(resource.name.clone(), Held::of(&resource, keep_body));
        }
        subscription.must_answer = false;
    }

    /// The answer to a message: accepted, or refused with words. True if the nonce is that of the last message.
    pub(crate) fn answered(&mut self, kind: Kind, nonce: &str, error: Option<&Status>, now: Now) -> bool {
        let subscription = &mut self.kinds[kind.index()];
        let Ok(nonce) = nonce.parse::<u64>() else { return false };
        let Some(at) = subscription.unanswered.iter().position(|unanswered| unanswered.nonce == nonce) else {
            // A client that changes its subscription between two messages says the last nonce again.
            return nonce == subscription.last_nonce;
        };
        let Some(message) = subscription.unanswered.remove(at) else { return false };
        match error {
            None => subscription.accepted(&message),
            Some(status) => {
                subscription.rejection = Some(rejection(kind, &message, status, now));
                for batch in &mut self.batches {
                    batch.refused |= (message.since..=message.revision).contains(&batch.to);
                }
            }
        }
        if kind == Kind::Endpoints {
            self.warming.retain(|name, sent| message.nonce <= *sent || !message.names.contains(name));
        }
        nonce == self.kinds[kind.index()].last_nonce
    }

    /// Marks what changed since the last look.
    pub(crate) fn look(&mut self, provide: &dyn Provide) {
        let (after, to) = (self.seen, provide.revision());
        if after >= to {
            return;
        }
        let dirty = provide.dirty_since(after);
        let mut touched = false;
        for kind in Kind::ALL {
            for name in self.touched_names(kind, &dirty, provide) {
                let target = self.target(kind, &name, provide);
                let subscription = &mut self.kinds[kind.index()];
                let held = subscription.held.get(&name).and_then(|held| held.version.as_ref());
                if held != target.as_ref().map(|resource| &resource.version) {
                    touched = true;
                    let mark = Mark { revision: to, asked: false, again: false, gone: target.is_none() };
                    subscription.mark(name, mark);
                }
            }
        }
        self.seen = to;
        if touched {
            if self.batches.len() == BATCHES_MAX {
                self.batches.pop_front();
            }
            self.batches.push_back(Batch { after, to, refused: false });
        }
    }

    /// What is to be sent now.
    pub(crate) fn flush(&mut self, now: Now, provide: &dyn Provide) -> Vec<Push> {
        self.admit_delayed(now.monotonic);
        let patience_is_over =
            self.held_back.is_some_and(|since| now.monotonic >= since.saturating_add(self.bounds.hold_max));
        if patience_is_over {
            self.warming.clear();
        }
        let mut held_back = false;
        let mut pushes = Vec::new();
        self.next_turn = None;
        let mut changed = false;
        for kind in Kind::ALL {
            let due = self.due(kind, now.monotonic, patience_is_over, provide);
            held_back |= due.held_back;
            changed |= due.changed;
            self.push(kind, due, now.monotonic, provide, &mut pushes);
        }
        if changed {
            self.next_push = now.monotonic + self.bounds.push_interval;
        }
        self.held_back = match (held_back, self.held_back) {
            (false, _) => None,
            (true, Some(since)) if !patience_is_over => Some(since),
            (true, _) => Some(now.monotonic),
        };
        pushes
    }

    /// When to look again without being told of anything.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        let hold = self.held_back.map(|since| since.saturating_add(self.bounds.hold_max));
        let pace = (!self.delayed.is_empty()).then(|| (self.paced_until + self.pace()).saturating_sub(BURST));
        [self.next_turn, hold, pace].into_iter().flatten().min()
    }

    /// When the oldest message that has no answer was sent.
    pub(crate) fn unanswered_since(&self) -> Option<Duration> {
        self.kinds.iter().filter_map(|subscription| subscription.unanswered.front()).map(|first| first.sent_at).min()
    }

    /// Writes what there is to say about this subscriber.
    pub(crate) fn describe(&self, row: &mut Subscriber) {
        let marks = self.kinds.iter().flat_map(|subscription| {
            let dirty = subscription.dirty.values().map(|mark| mark.revision);
            dirty.chain(subscription.unanswered.iter().map(|unanswered| unanswered.since))
        });
        row.seen = self.seen;
        row.settled = marks.filter(|revision| *revision != NO_REVISION).min().map_or(self.seen, |first| first - 1);
        row.batches.clone_from(&self.batches);
        for (kind, status) in self.kinds.iter().zip(&mut row.kinds) {
            *status = kind.status();
        }
    }
}

/// What of one kind is to be sent now.
#[derive(Default)]
struct Due {
    resources: Vec<(Resource, u64)>,
    removed: Vec<(Name, u64)>,
    /// Something waits for the client to accept something else.
    held_back: bool,
    /// Some of it is a change that nobody asked for.
    changed: bool,
}

impl Session {
    /// The names of a kind that this subscriber cares about, among those that may have changed.
    fn touched_names(&mut self, kind: Kind, dirty: &Dirty, provide: &dyn Provide) -> Vec<Name> {
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
    fn target(&self, kind: Kind, name: &Name, provide: &dyn Provide) -> Option<Resource> {
        self.kinds[kind.index()].wants(name).then(|| provide.resource(&self.node, kind, name)).flatten()
    }

    /// Takes what is to be sent now off the dirty names of a kind.
    fn due(&mut self, kind: Kind, now: Duration, patience_is_over: bool, provide: &dyn Provide) -> Due {
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
                // A server that has just started takes nothing away.
                (None, Some(Some(_))) if provide.is_warming() => {}
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

    /// Whether a message of this kind lists all that there is, and so removes what it does not list.
    fn lists_all(&self, kind: Kind) -> bool {
        self.whole && kind.has_wildcard()
    }

    /// Turns what is due into messages, and remembers what the subscriber is told.
    fn push(&mut self, kind: Kind, due: Due, now: Duration, provide: &dyn Provide, pushes: &mut Vec<Push>) {
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
            self.kinds[kind.index()].hold(resource.name.clone(), Held::of(&resource, list_all));
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

    /// Lets in one new destination, if the pace allows it.
    fn admit(&mut self, now: Duration) -> bool {
        let next = self.paced_until.max(now) + self.pace();
        let admitted = next <= now + BURST;
        if admitted {
            self.paced_until = next;
        }
        admitted
    }

    fn admit_delayed(&mut self, now: Duration) {
        while !self.delayed.is_empty() && self.admit(now) {
            if let Some(name) = self.delayed.pop_front() {
                self.kinds[Kind::Listener.index()].ask(name, false);
            }
        }
    }

    fn pace(&self) -> Duration {
        Duration::from_secs(1) / self.bounds.destinations_per_second.max(1)
    }
}

/// What one or more messages are made of.
struct Parts {
    resources: Vec<Resource>,
    removed: Vec<Name>,
    names: Vec<Name>,
    since: u64,
    revision: u64,
    now: Duration,
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

fn rejection(kind: Kind, message: &Unanswered, status: &Status, now: Now) -> Rejection {
    let words = &status.message;
    let end = (0..=words.len().min(DETAIL_MAX)).rev().find(|end| words.is_char_boundary(*end)).unwrap_or(0);
    let named: Vec<Name> = message.names.iter().filter(|name| words.contains(&***name)).cloned().collect();
    Rejection {
        kind,
        resources: if named.is_empty() { message.names.clone() } else { named },
        detail: words[..end].into(),
        at: now.wall,
        revision: message.revision,
    }
}

// === impl Subscription ===

impl Subscription {
    fn wants(&self, name: &Name) -> bool {
        self.names.contains(name) || self.wildcard && self.all.contains(name)
    }

    fn wanted(&self) -> BTreeSet<Name> {
        self.names.iter().chain(&self.all).chain(self.held.keys()).cloned().collect()
    }

    /// Subscribes to a name and has it answered; at once, unless there is an older version that will do meanwhile.
    fn ask(&mut self, name: Name, again: bool) {
        let has_one = self.held.get(&name).is_some_and(|held| held.version.is_some());
        self.mark(name.clone(), Mark { asked: !has_one || again, ..Mark::asked(again) });
        self.names.insert(name);
    }

    /// Marks a name, keeping the more pressing of two reasons and the earlier of two revisions.
    fn mark(&mut self, name: Name, mark: Mark) {
        let merged = self.dirty.entry(name).or_insert(mark);
        merged.revision = merged.revision.min(mark.revision);
        merged.asked |= mark.asked;
        merged.again |= mark.again;
        merged.gone = mark.gone;
    }

    fn hold(&mut self, name: Name, held: Held) {
        if let Some(version) = &held.version {
            self.set.insert(&name, version);
        }
        if let Some(Held { version: Some(version), .. }) = self.held.insert(name.clone(), held) {
            self.set.remove(&name, &version);
        }
    }

    fn forget(&mut self, name: &str) {
        if let Some(Held { version: Some(version), .. }) = self.held.remove(name) {
            self.set.remove(name, &version);
        }
        self.dirty.remove(name);
        self.excuse(|rejected| &**rejected == name);
    }

    /// Drops names from the last refusal, and the refusal when none is left.
    fn excuse(&mut self, is_excused: impl Fn(&Name) -> bool) {
        if let Some(rejection) = &mut self.rejection {
            rejection.resources.retain(|name| !is_excused(name));
            if rejection.resources.is_empty() {
                self.rejection = None;
            }
        }
    }

    fn accepted(&mut self, message: &Unanswered) {
        self.acked = self.acked.max(message.revision);
        self.excuse(|name| message.names.contains(name));
    }

    /// Whether something other than a removal is unsent or unanswered.
    fn is_moving(&self) -> bool {
        !self.unanswered.is_empty() || self.dirty.values().any(|mark| !mark.gone)
    }

    fn status(&self) -> KindStatus {
        KindStatus {
            subscribed: self.names.len(),
            wildcard: self.wildcard,
            resources: self.held.values().filter(|held| held.version.is_some()).count(),
            sent: self.sent,
            acked: self.acked,
            in_effect: self.dirty.is_empty() && self.unanswered.is_empty() && self.rejection.is_none(),
            rejection: self.rejection.clone(),
        }
    }
}

// === impl Held ===

impl Held {
    fn of(resource: &Resource, keep_body: bool) -> Self {
        Self { version: Some(resource.version.clone()), body: keep_body.then(|| resource.body.clone()) }
    }
}

// === impl Mark ===

impl Mark {
    fn asked(again: bool) -> Self {
        Self { revision: NO_REVISION, asked: true, again, gone: false }
    }
}
