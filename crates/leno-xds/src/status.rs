//! What every subscriber was sent, accepted and refused: `leno status`, and the wait of `apply --wait`.
//!
//! The server's driver writes a row after each step of a session; API handlers on any thread read. A row is state and
//! not a log: it is as large for a proxy that has been connected for a year as for one that came just now.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leno_model::seam::Timestamp;
use tokio::sync::watch;

use crate::kind::Kind;
use crate::node::NodeInfo;
use crate::version::SetVersion;

/// Batches of changes remembered per subscriber; waiting for an older revision counts as settled.
pub(crate) const BATCHES_MAX: usize = 64;
/// How often whoever waits looks at a table that changes.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Bytes of a client's words about a refusal that are kept.
pub(crate) const DETAIL_MAX: usize = 2048;

/// One connected subscriber.
#[derive(Debug, Clone)]
pub struct Subscriber {
    /// Who it is.
    pub node: NodeInfo,
    /// Where it connected from; empty if that is not known.
    pub peer: String,
    /// Since when.
    pub connected_since: Timestamp,
    /// How it stands with each kind, in the order of [`Kind::ALL`].
    pub kinds: [KindStatus; 4],
    /// The revision up to which its subscriptions have been compared.
    pub seen: u64,
    /// The revision up to which everything it subscribed to has been sent and answered.
    pub settled: u64,
    /// Since when something has been unsent or unanswered all the time; none when nothing is.
    pub waiting_since: Option<Timestamp>,
    /// The batches of changes that touched its subscriptions, oldest first.
    pub(crate) batches: VecDeque<Batch>,
}

/// How a subscriber stands with one kind of resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KindStatus {
    /// Whether it subscribed to this kind at all, and to how many names (0 with `wildcard`).
    pub subscribed: usize,
    /// Whether it subscribed to all of this kind.
    pub wildcard: bool,
    /// How many resources it was sent and not told to drop.
    pub resources: usize,
    /// The version of these as a set: two subscribers with the same have the same.
    pub version: SetVersion,
    /// The revision of the last message, 0 for none.
    pub sent: u64,
    /// The revision of the last message that it accepted, 0 for none.
    pub acked: u64,
    /// Nothing is unsent, unanswered or refused. For a leno proxy: in use; for others: accepted.
    pub in_effect: bool,
    /// The last refusal that a newer content has not replaced.
    pub rejection: Option<Rejection>,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The kind.
    pub kind: Kind,
    /// The names that the message brought and, where the client's words name some of them, only those.
    pub resources: Vec<Arc<str>>,
    /// What the client said.
    pub detail: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// The revision that was refused.
    pub revision: u64,
}

/// Changes between two revisions that touched a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    /// After this revision,
    pub(crate) after: u64,
    /// up to and with this one.
    pub(crate) to: u64,
    /// Some of it was refused.
    pub(crate) refused: bool,
}

/// How far a revision has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Subscribers to anything that the revision changed.
    pub subscribed: usize,
    /// Those that have all of it in effect.
    pub in_effect: usize,
    /// Subscribers that have not been compared or have not answered yet.
    pub pending: Vec<String>,
    /// Subscribers that refused some of it, with their words.
    pub refused: Vec<(String, Rejection)>,
}

/// All connected subscribers. A handle: clones share the table.
#[derive(Clone)]
pub struct StatusTable {
    shared: Arc<Shared>,
}

struct Shared {
    rows: Mutex<Rows>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Rows {
    next: u64,
    rows: BTreeMap<u64, Subscriber>,
}

/// A subscriber's row; dropping it removes the row.
pub(crate) struct Row {
    table: StatusTable,
    key: u64,
}

// === impl StatusTable ===

impl Default for StatusTable {
    fn default() -> Self {
        Self::new()
    }
}

impl StatusTable {
    /// An empty table.
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared { rows: Mutex::default(), changed: watch::Sender::new(0) }) }
    }

    /// Every connected subscriber, in the order in which they connected.
    pub fn list(&self) -> Vec<Subscriber> {
        self.rows().rows.values().cloned().collect()
    }

    /// How many subscribers are connected.
    pub fn len(&self) -> usize {
        self.rows().rows.len()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Told whenever a row appeared, changed or went.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// How far `revision` has come by now.
    pub fn progress(&self, revision: u64) -> Progress {
        let mut progress = Progress::default();
        for row in self.rows().rows.values() {
            row.count_into(revision, &mut progress);
        }
        progress
    }

    /// Waits until every subscriber to what `revision` changed has it in effect or refused it, at most `timeout`.
    pub async fn wait(&self, revision: u64, timeout: Duration) -> Progress {
        let mut changes = self.changes();
        let settled = async {
            while !self.progress(revision).pending.is_empty() && changes.changed().await.is_ok() {
                // Many rows change at once: one look for all of them.
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        // Elapsed or not, the answer is how far it has come.
        let _ = tokio::time::timeout(timeout, settled).await;
        self.progress(revision)
    }

    /// Adds a row.
    pub(crate) fn join(&self, subscriber: Subscriber) -> Row {
        let mut rows = self.rows();
        rows.next += 1;
        let key = rows.next;
        rows.rows.insert(key, subscriber);
        drop(rows);
        self.tell();
        Row { table: self.clone(), key }
    }

    fn tell(&self) {
        self.shared.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // A row is written in one assignment, so what a panicking writer left is whole.
        self.shared.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Row ===

impl Row {
    /// Changes the row.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Subscriber)) {
        if let Some(row) = self.table.rows().rows.get_mut(&self.key) {
            change(row);
        }
        self.table.tell();
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        self.table.rows().rows.remove(&self.key);
        self.table.tell();
    }
}

// === impl Subscriber ===

impl Subscriber {
    /// One that has just connected.
    pub(crate) fn new(node: NodeInfo, peer: String, connected_since: Timestamp) -> Self {
        let (kinds, batches) = (Default::default(), VecDeque::new());
        Self { node, peer, connected_since, kinds, seen: 0, settled: 0, waiting_since: None, batches }
    }

    /// Notes whether something is unsent or unanswered; what was refused waits for nobody.
    pub(crate) fn look(&mut self, now: Timestamp) {
        let waits = self.kinds.iter().any(|kind| !kind.in_effect && kind.rejection.is_none());
        self.waiting_since = waits.then(|| self.waiting_since.unwrap_or(now));
    }

    fn count_into(&self, revision: u64, progress: &mut Progress) {
        if self.seen < revision {
            progress.pending.push(self.node.id.clone());
            return;
        }
        let Some(batch) = self.batches.iter().find(|batch| batch.after < revision && revision <= batch.to) else {
            return;
        };
        progress.subscribed += 1;
        if self.settled < batch.to {
            progress.pending.push(self.node.id.clone());
        } else if batch.refused {
            let rejection = self.kinds.iter().filter_map(|kind| kind.rejection.clone()).max_by_key(|r| r.at);
            progress.refused.extend(rejection.map(|rejection| (self.node.id.clone(), rejection)));
        } else {
            progress.in_effect += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(in_effect: bool) -> Subscriber {
        let mut subscriber = Subscriber::new(NodeInfo::new("a"), String::new(), Timestamp(0));
        subscriber.kinds = std::array::from_fn(|_| KindStatus { in_effect, ..KindStatus::default() });
        subscriber
    }

    #[test]
    fn who_waits_has_waited_since_something_was_first_not_in_effect() {
        let mut subscriber = subscriber(false);
        subscriber.look(Timestamp(1_000));
        subscriber.look(Timestamp(4_000));
        assert_eq!(subscriber.waiting_since, Some(Timestamp(1_000)));
        subscriber.kinds.iter_mut().for_each(|kind| kind.in_effect = true);
        subscriber.look(Timestamp(5_000));
        assert_eq!(subscriber.waiting_since, None);
    }

    #[test]
    fn what_was_refused_is_waited_for_by_nobody() {
        let mut subscriber = subscriber(true);
        let (resources, detail) = (Vec::new(), "no".into());
        let rejection = Rejection { kind: Kind::Listener, resources, detail, at: Timestamp(1), revision: 1 };
        subscriber.kinds[0] = KindStatus { rejection: Some(rejection), ..KindStatus::default() };
        subscriber.look(Timestamp(1_000));
        assert_eq!(subscriber.waiting_since, None);
    }
}
