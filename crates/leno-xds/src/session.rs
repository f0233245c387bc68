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

use leno_model::seam::Timestamp;
use leno_model::snapshot::Name;

use crate::kind::Kind;
use crate::messages::wkt::Status;
use crate::node::{NodeInfo, ProxyKind};
use crate::provide::{Dirty, Provide, Resource};
use crate::status::{BATCHES_MAX, Batch, Subscriber};
use crate::version::SetVersion;

use self::subscription::{Held, Mark, NO_REVISION, Subscription, rejection};

mod due;
mod message;
mod subscription;

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
        if set.to_string() != version {
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
        // Which of the names changed is not known any more: some may not have come back yet.
        let may_be_unknown = matches!(dirty, Dirty::All) && provide.is_warming();
        let mut touched = false;
        for kind in Kind::ALL {
            for name in self.touched_names(kind, &dirty, provide) {
                let target = self.target(kind, &name, provide);
                let subscription = &mut self.kinds[kind.index()];
                let held = subscription.held.get(&name).and_then(|held| held.version.as_ref());
                if held != target.as_ref().map(|resource| &resource.version) {
                    touched = true;
                    let gone = target.is_none();
                    let revision = if gone && may_be_unknown { NO_REVISION } else { to };
                    let mark = Mark { revision, asked: false, again: false, gone };
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
