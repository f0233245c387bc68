//! The seam to whoever has resources: `leno-control` implements it, sessions ask it.
//!
//! Sessions keep names and versions, never content: what a subscriber is to have is asked for when it is sent, so a
//! slow subscriber gets the newest state and not a queue of old ones.

use std::collections::BTreeSet;

use bytes::Bytes;
use leno_model::snapshot::Name;
use tokio::sync::watch;

use crate::kind::Kind;
use crate::node::NodeInfo;
use crate::version::Version;

/// An encoded resource, made once and shared by all its subscribers. `translate::*::encode` makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The name by which it is subscribed to.
    pub name: Name,
    /// A hash of `body`.
    pub version: Version,
    /// The encoded message, what `Any.value` holds.
    pub body: Bytes,
}

/// What may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dirty {
    /// Anything: whoever asked was away for longer than changes are remembered.
    All,
    /// These names, appeared, changed or gone.
    Names(BTreeSet<(Kind, Name)>),
}

/// Where resources come from. Called on the control thread only; every call answers from memory and at once.
pub trait Provide {
    /// The revision that the other methods answer from. Starts at 1 and never goes back; 0 is "nothing seen".
    fn revision(&self) -> u64;

    /// The resource of this name as this subscriber is to see it, in the dialect of `node.proxy`; none when it does
    /// not exist for it.
    fn resource(&self, node: &NodeInfo, kind: Kind, name: &str) -> Option<Resource>;

    /// The names that a subscriber to `*` gets: for Envoy, the listeners that it binds and their clusters.
    fn names(&self, node: &NodeInfo, kind: Kind) -> Vec<Name>;

    /// Told whenever `revision` grew.
    fn changes(&self) -> watch::Receiver<u64>;

    /// What may differ, for any subscriber, between `revision` and now.
    fn dirty_since(&self, revision: u64) -> Dirty;

    /// Whether the server has just started and instances may not have found their way back yet: until then no
    /// subscriber loses a resource that it has had since before, so `resource` may answer `None` for what it does not
    /// know *yet*. What a revision of this server takes away is gone at once.
    fn is_warming(&self) -> bool {
        false
    }
}

// === impl Resource ===

impl Resource {
    /// Names an encoded message and gives it its version.
    pub fn new(name: Name, body: Bytes) -> Self {
        let version = crate::version::of_bytes(&body);
        Self { name, version, body }
    }
}
