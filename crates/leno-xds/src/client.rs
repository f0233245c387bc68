//! The client: subscriptions by name over delta ADS, kept across reconnects and servers.
//!
//! A message of the server becomes one [`Update`] of model types. Its consumer accepts it once what it brought is in
//! use, or refuses some of it; what does not decode is refused without asking. In both cases the last good one stays.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use leno_model::snapshot::{Cluster, Endpoints, Listener, Name, RouteConfig};

use tokio::sync::{Notify, oneshot};

use crate::kind::Kind;
use crate::node::NodeInfo;
use crate::version::Version;

/// What a client needs to know.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Who asks.
    pub node: NodeInfo,
    /// The shortest wait before a reconnect. Default 100 ms; doubled each time, with jitter.
    pub backoff_min: Duration,
    /// The longest wait before a reconnect. Default 5 s.
    pub backoff_max: Duration,
    /// Time for a connection to be made. Default 2 s.
    pub connect_timeout: Duration,
    /// What the consumer has from its last run, so that the server need not send it again.
    pub held: Vec<(Kind, Name, Version)>,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A server answers.
    Connected {
        /// Which.
        server: String,
    },
    /// No server answers; subscriptions stay and what was received stays valid.
    Disconnected {
        /// Which.
        server: String,
        /// Why.
        reason: String,
        /// When the next one is tried.
        retry_in: Duration,
    },
    /// The server sent something.
    Update(Update),
}

/// One message of the server. [`Update::accept`] or [`Update::refuse`] answers it; dropping it refuses it.
#[derive(Debug)]
pub struct Update {
    /// Listeners that appeared or changed.
    pub listeners: Vec<Received<Listener>>,
    /// Route configurations that appeared or changed.
    pub routes: Vec<Received<RouteConfig>>,
    /// Clusters that appeared or changed.
    pub clusters: Vec<Received<Cluster>>,
    /// Endpoints that appeared or changed.
    pub endpoints: Vec<Received<Endpoints>>,
    /// Names that went, or that do not exist although they are subscribed to.
    pub removed: Vec<(Kind, Name)>,
    /// Takes the answer; dropped unused, it refuses.
    answer: oneshot::Sender<Vec<Refusal>>,
}

/// A resource with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received<T> {
    /// Its version, to be given back in [`ClientOptions::held`] after a restart.
    pub version: Version,
    /// The resource.
    pub resource: Arc<T>,
}

/// Why a consumer does not take a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// Why.
    pub detail: String,
}

/// What a client is subscribed to. Clones share it; it belongs to the control thread.
#[derive(Clone)]
pub struct Subscriptions {
    wanted: Rc<RefCell<BTreeSet<(Kind, Name)>>>,
    changed: Rc<Notify>,
}

// === impl Subscriptions ===

impl Subscriptions {
    /// Asks for a resource; asking again changes nothing. It arrives, now and whenever it changes, as an [`Update`].
    pub fn subscribe(&self, kind: Kind, name: &Name) {
        if self.wanted.borrow_mut().insert((kind, name.clone())) {
            self.changed.notify_one();
        }
    }

    /// Asks no more. Whoever unsubscribes forgets the resource by itself: no update says that it went.
    pub fn unsubscribe(&self, kind: Kind, name: &Name) {
        if self.wanted.borrow_mut().remove(&(kind, name.clone())) {
            self.changed.notify_one();
        }
    }
}

// === impl Update ===

impl Update {
    /// All of it is in use.
    pub fn accept(self) {
        self.refuse(Vec::new());
    }

    /// These parts are not used, and the last good ones stay; the rest is in use.
    pub fn refuse(self, refusals: Vec<Refusal>) {
        // A client that has gone needs no answer.
        let _ = self.answer.send(refusals);
    }
}
