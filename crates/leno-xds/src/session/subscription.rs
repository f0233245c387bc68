//! What a subscriber wants, has and is owed of one kind.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use leno_model::snapshot::Name;

use super::Now;
use crate::kind::Kind;
use crate::messages::wkt::Status;
use crate::provide::Resource;
use crate::status::{DETAIL_MAX, KindStatus, Rejection};
use crate::version::{SetVersion, Version};

/// One subscriber's state of one kind.
#[derive(Default)]
pub(super) struct Subscription {
    pub(super) opened: bool,
    pub(super) wildcard: bool,
    pub(super) names: BTreeSet<Name>,
    /// What `*` means now.
    pub(super) all: BTreeSet<Name>,
    pub(super) held: BTreeMap<Name, Held>,
    pub(super) set: SetVersion,
    pub(super) dirty: BTreeMap<Name, Mark>,
    pub(super) unanswered: VecDeque<Unanswered>,
    /// An answer is due even if it brings nothing.
    pub(super) must_answer: bool,
    pub(super) last_nonce: u64,
    pub(super) sent: u64,
    pub(super) acked: u64,
    pub(super) rejection: Option<Rejection>,
}

/// What the subscriber was last told of a name.
pub(super) struct Held {
    /// None: that it does not exist.
    pub(super) version: Option<Version>,
    /// Kept where a removal may have to wait in a message that lists all.
    pub(super) body: Option<Bytes>,
}

/// Why a name is to be looked at.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    /// The revision that changed it; `NO_REVISION` when the subscriber asked.
    pub(super) revision: u64,
    /// The subscriber asked: no waiting.
    pub(super) asked: bool,
    /// Send it even if the subscriber has it.
    pub(super) again: bool,
    /// It is to be removed, as far as was known when it was last looked at.
    pub(super) gone: bool,
}

/// A message without an answer yet.
pub(super) struct Unanswered {
    pub(super) nonce: u64,
    pub(super) names: Vec<Name>,
    /// The earliest revision that it brings.
    pub(super) since: u64,
    /// The revision that it was made from.
    pub(super) revision: u64,
    pub(super) sent_at: Duration,
}

/// The mark of what no revision brought.
pub(super) const NO_REVISION: u64 = u64::MAX;

/// A refusal as the status table keeps it: with the names that the client's words name, if they name any.
pub(super) fn rejection(kind: Kind, message: &Unanswered, status: &Status, now: Now) -> Rejection {
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
    pub(super) fn wants(&self, name: &Name) -> bool {
        self.names.contains(name) || self.wildcard && self.all.contains(name)
    }

    pub(super) fn wanted(&self) -> BTreeSet<Name> {
        self.names.iter().chain(&self.all).chain(self.held.keys()).cloned().collect()
    }

    /// Subscribes to a name and has it answered; at once, unless there is an older version that will do meanwhile.
    pub(super) fn ask(&mut self, name: Name, again: bool) {
        let has_one = self.held.get(&name).is_some_and(|held| held.version.is_some());
        self.mark(name.clone(), Mark { asked: !has_one || again, ..Mark::asked(again) });
        self.names.insert(name);
    }

    /// Marks a name, keeping the more pressing of two reasons and the earlier of two revisions.
    pub(super) fn mark(&mut self, name: Name, mark: Mark) {
        let merged = self.dirty.entry(name).or_insert(mark);
        merged.revision = merged.revision.min(mark.revision);
        merged.asked |= mark.asked;
        merged.again |= mark.again;
        merged.gone = mark.gone;
    }

    pub(super) fn hold(&mut self, name: Name, held: Held) {
        if let Some(version) = &held.version {
            self.set.insert(&name, version);
        }
        if let Some(Held { version: Some(version), .. }) = self.held.insert(name.clone(), held) {
            self.set.remove(&name, &version);
        }
    }

    pub(super) fn forget(&mut self, name: &str) {
        if let Some(Held { version: Some(version), .. }) = self.held.remove(name) {
            self.set.remove(name, &version);
        }
        self.dirty.remove(name);
        self.excuse(|rejected| &**rejected == name);
    }

    /// Drops names from the last refusal, and the refusal when none is left.
    pub(super) fn excuse(&mut self, is_excused: impl Fn(&Name) -> bool) {
        if let Some(rejection) = &mut self.rejection {
            rejection.resources.retain(|name| !is_excused(name));
            if rejection.resources.is_empty() {
                self.rejection = None;
            }
        }
    }

    pub(super) fn accepted(&mut self, message: &Unanswered) {
        self.acked = self.acked.max(message.revision);
        self.excuse(|name| message.names.contains(name));
    }

    /// Whether something other than a removal is unsent or unanswered.
    pub(super) fn is_moving(&self) -> bool {
        !self.unanswered.is_empty() || self.dirty.values().any(|mark| !mark.gone)
    }

    pub(super) fn status(&self) -> KindStatus {
        KindStatus {
            subscribed: self.names.len(),
            wildcard: self.wildcard,
            resources: self.held.values().filter(|held| held.version.is_some()).count(),
            version: self.set,
            sent: self.sent,
            acked: self.acked,
            in_effect: self.dirty.is_empty() && self.unanswered.is_empty() && self.rejection.is_none(),
            rejection: self.rejection.clone(),
        }
    }
}

// === impl Held ===

impl Held {
    pub(super) fn of(resource: &Resource, keep_body: bool) -> Self {
        Self { version: Some(resource.version.clone()), body: keep_body.then(|| resource.body.clone()) }
    }
}

// === impl Mark ===

impl Mark {
    pub(super) fn asked(again: bool) -> Self {
        Self { revision: NO_REVISION, asked: true, again, gone: false }
    }
}
