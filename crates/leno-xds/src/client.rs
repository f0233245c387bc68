//! The client: subscriptions by name over delta ADS, kept across reconnects and servers.
//!
//! A message of the server becomes one [`Update`] of model types. Its consumer accepts it once what it brought is in
//! use, or refuses some of it; what does not decode is refused without asking. In both cases the last good one stays.
//! After a reconnect, and after a restart with [`ClientOptions::held`], only what differs is sent.
//!
//! `core` decides what is said and is pure; `driver` holds the connection.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use leno_model::seam::Random;
use leno_model::snapshot::{Cluster, Endpoints, Listener, Name, RouteConfig};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::kind::Kind;
use crate::node::NodeInfo;
use crate::transport::Connect;
use crate::version::Version;

mod core;

mod driver;

/// Updates that a consumer has not taken yet; then the client stops reading.
const EVENTS_MAX: usize = 16;

/// What a client needs to know.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Who asks.
    pub node: NodeInfo,
    /// The shortest wait before a reconnect. Default 100 ms; doubled each time, with jitter.
    pub backoff_min: Duration,
    /// The longest wait before a reconnect. Default 3 s: after an outage all is as it should be within 5.
    pub backoff_max: Duration,
    /// Time for a connection to be made and the stream to be opened. Default 2 s.
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
    names: Rc<RefCell<Names>>,
    changed: Rc<Notify>,
}

#[derive(Default)]
struct Names {
    wanted: BTreeSet<(Kind, Name)>,
    /// Unsubscribed since the driver last looked, and so forgotten by the consumer, even if wanted again.
    dropped: BTreeSet<(Kind, Name)>,
}

/// A client of the servers that `connect` knows, tried in turn: what it is subscribed to, what happens, and the future
/// that does it, to be spawned; it ends when the receiver of events is dropped.
pub fn client(
    options: ClientOptions,
    connect: impl Connect + 'static,
    random: impl Random + 'static,
) -> (Subscriptions, mpsc::Receiver<Event>, impl Future<Output = ()>) {
    let subscriptions = Subscriptions { names: Rc::default(), changed: Rc::default() };
    let (events, receiver) = mpsc::channel(EVENTS_MAX);
    let driver = driver::Driver::new(options, connect, random, subscriptions.clone(), events);
    (subscriptions, receiver, driver.run())
}

// === impl ClientOptions ===

impl ClientOptions {
    /// The defaults, for `node`.
    pub fn new(node: NodeInfo) -> Self {
        Self {
            node,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(2),
            held: Vec::new(),
        }
    }
}

// === impl Subscriptions ===

impl Subscriptions {
    /// Asks for a resource; asking again changes nothing. It arrives, now and whenever it changes, as an [`Update`].
    pub fn subscribe(&self, kind: Kind, name: &Name) {
        if self.names.borrow_mut().wanted.insert((kind, name.clone())) {
            self.changed.notify_one();
        }
    }

    /// Asks no more. Whoever unsubscribes forgets the resource by itself: no update says that it went.
    pub fn unsubscribe(&self, kind: Kind, name: &Name) {
        let mut names = self.names.borrow_mut();
        let key = (kind, name.clone());
        if names.wanted.remove(&key) {
            names.dropped.insert(key);
            self.changed.notify_one();
        }
    }

    /// What is wanted, and what was dropped since this was last called.
    fn take(&self) -> Names {
        let mut names = self.names.borrow_mut();
        Names { wanted: names.wanted.clone(), dropped: std::mem::take(&mut names.dropped) }
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

// === impl Refusal ===

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.kind, self.name, self.detail)
    }
}

#[cfg(test)]
mod tests;
