//! The control thread's work for the table: asks the server for what workers need, builds tables, keeps them on disk.
//!
//! ```text
//! workers ─ a name ─► wanted ─► Subscriptions (names, and what they lead to) ⇢ server
//! server ⇢ Update ─► Held ─► Builder ─► Table ─ swap ─► workers;  accept | refuse ⇢ server;  Held ─► disk
//! ```
//!
//! Bounds: [`NAMES_MAX`] names, [`NEW_PER_SECOND`] new ones a second, unsubscribed after [`IDLE`]; that a name does not
//! exist is believed for [`ABSENT_TTL`]. A proxy that has endpoints keeps them while no server answers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use leno_model::name::ServiceName;
use leno_model::seam::Clock;
use leno_model::snapshot::{Listener, Name};
use leno_xds::client::{Event, Subscriptions, Update};
use leno_xds::kind::Kind;
use tokio::sync::{mpsc, oneshot, watch};

use crate::held::Held;
use crate::lookup::Tables;
use crate::rate_limit::Inbound;
use crate::snapshot_file;
use crate::table::Builder;

/// Names that a proxy subscribes to at most.
pub const NAMES_MAX: usize = 1024;
/// New names that are subscribed to in a second.
pub const NEW_PER_SECOND: u32 = 50;
/// A name that no request asked for within this time is unsubscribed from.
pub const IDLE: Duration = Duration::from_secs(600);
/// How long a name is believed not to exist.
pub const ABSENT_TTL: Duration = Duration::from_secs(5);
/// Changes are written to disk at most this often.
const PERSIST_EVERY: Duration = Duration::from_millis(500);
/// The name that stands for everything of a kind.
const ALL: &str = "*";

/// How the proxy stands with its control plane, for readiness, metrics and the admin listener.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sync {
    /// Whether a server answers.
    pub connected: bool,
    /// Which, or why none.
    pub words: String,
    /// Tables swapped in so far.
    pub table: u64,
    /// Updates refused so far.
    pub refused: u64,
    /// Whether the first table is from disk and no server has spoken yet.
    pub from_disk: bool,
}

/// Subscribes, builds and swaps.
pub struct Subscriber {
    options: Options,
    subscriptions: Subscriptions,
    tables: Tables,
    builder: Builder,
    held: Held,
    wanted: BTreeMap<Name, Duration>,
    absent: HashMap<Name, Duration>,
    subscribed: BTreeSet<(Kind, Name)>,
    tokens: u32,
    dirty_disk: bool,
    sync: watch::Sender<Sync>,
    bound: watch::Sender<Vec<Arc<Listener>>>,
    copies: (Copies, mpsc::Receiver<oneshot::Sender<Held>>),
}

/// Asks for copies of what a subscriber holds.
#[derive(Clone)]
pub struct Copies {
    ask: mpsc::Sender<oneshot::Sender<Held>>,
}

/// What a subscriber needs to know.
pub struct Options {
    /// Names that are always subscribed to: those of `--to`.
    pub pinned: Vec<Name>,
    /// The service beside whose instance this proxy stands, and what is let in to it.
    pub inbound: Option<(ServiceName, Arc<Inbound>)>,
    /// Whether this is a gateway, which is told what to listen on.
    pub gateway: bool,
    /// Where the last good state is kept; none keeps nothing.
    pub file: Option<PathBuf>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

// === impl Subscriber ===

impl Subscriber {
    /// Starts with what `held` says, which a file kept, and has it in force at once.
    pub fn new(
        mut options: Options,
        subscriptions: Subscriptions,
        tables: Tables,
        builder: Builder,
        held: Held,
    ) -> Self {
        let now = options.clock.monotonic();
        let mut wanted: BTreeMap<Name, Duration> = held.listeners.keys().map(|name| (name.clone(), now)).collect();
        let inbound = options.inbound.as_ref().map(|(service, _)| inbound_name(service));
        options.pinned.extend(inbound);
        wanted.extend(options.pinned.iter().map(|name| (name.clone(), now)));
        if options.gateway {
            wanted.insert(ALL.into(), now);
        }
        let sync = Sync { from_disk: !held.listeners.is_empty(), ..Sync::default() };
        let mut subscriber = Self {
            options,
            subscriptions,
            tables,
            builder,
            held,
            wanted,
            absent: HashMap::new(),
            subscribed: BTreeSet::new(),
            tokens: NEW_PER_SECOND,
            dirty_disk: false,
            sync: watch::Sender::new(sync),
            bound: watch::Sender::new(Vec::new()),
            copies: copies(),
        };
        subscriber.subscribe();
        subscriber.swap();
        subscriber
    }

    /// How it stands with the control plane.
    pub fn sync(&self) -> watch::Receiver<Sync> {
        self.sync.subscribe()
    }

    /// The listeners that the proxy opens by itself (gateways), whenever they change.
    pub fn bound(&self) -> watch::Receiver<Vec<Arc<Listener>>> {
        self.bound.subscribe()
    }

    /// The way to what it holds, while it runs.
    pub fn copies(&self) -> Copies {
        self.copies.0.clone()
    }

    /// Runs until the events end.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut persist = tokio::time::interval(PERSIST_EVERY);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.on_event(event),
                    None => return,
                },
                Some(name) = self.tables.asked.recv() => self.want(name),
                // Whoever asked may have gone.
                Some(asked) = self.copies.1.recv() => drop(asked.send(self.held.clone())),
                _ = second.tick() => self.each_second(),
                _ = persist.tick(), if self.dirty_disk => self.persist().await,
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected { server } => {
                tracing::info!(%server, "connected to the control plane");
                self.sync.send_modify(|sync| {
                    sync.connected = true;
                    sync.words = server;
                });
            }
            Event::Disconnected { server, reason, retry_in } => {
                let was_connected = self.sync.borrow().connected;
                if was_connected {
                    tracing::warn!(%server, %reason, ?retry_in, "control plane lost, traffic goes on as it is");
                } else {
                    tracing::debug!(%server, %reason, ?retry_in, "control plane does not answer");
                }
                self.sync.send_modify(|sync| {
                    sync.connected = false;
                    sync.words = format!("{server}: {reason}");
                });
            }
            Event::Update(update) => self.on_update(update),
        }
    }

    /// Takes an update over: a table is in force before the server hears that it is.
    fn on_update(&mut self, update: Update) {
        self.held.apply(&update);
        let until = self.options.clock.monotonic() + ABSENT_TTL;
        for received in &update.listeners {
            self.absent.remove(&received.resource.name);
        }
        for (kind, name) in &update.removed {
            if *kind == Kind::Listener {
                self.absent.insert(name.clone(), until);
            }
        }
        self.dirty_disk = true;
        self.subscribe();
        let refusals = self.swap();
        if refusals.is_empty() {
            update.accept();
        } else {
            for refusal in &refusals {
                tracing::warn!(kind = %refusal.kind, name = %refusal.name, error = %refusal.detail, "update refused");
            }
            self.sync.send_modify(|sync| sync.refused += 1);
            update.refuse(refusals);
        }
    }

    fn want(&mut self, name: Name) {
        let now = self.options.clock.monotonic();
        let known = self.wanted.contains_key(&name) || self.absent.get(&name).is_some_and(|until| now < *until);
        if known {
            // Whoever waits has missed a swap, or waits for the answer that is on its way.
            self.tables.nudge();
            return;
        }
        if self.wanted.len() >= NAMES_MAX || self.tokens == 0 {
            tracing::debug!(%name, names = self.wanted.len(), "name not subscribed to: too many");
            return;
        }
        self.tokens -= 1;
        self.wanted.insert(name, now);
        self.subscribe();
    }

    fn each_second(&mut self) {
        self.tokens = NEW_PER_SECOND;
        let now = self.options.clock.monotonic();
        let absent = &mut self.absent;
        // A name that does not exist is not kept subscribed to: whoever asks again after its time subscribes anew.
        let gone: Vec<Name> = absent.iter().filter(|(_, until)| **until <= now).map(|(name, _)| name.clone()).collect();
        absent.retain(|_, until| now < *until);
        let table = self.tables.current();
        let pinned = &self.options.pinned;
        let before = self.wanted.len();
        self.wanted.retain(|name, since| {
            let kept = &**name == ALL || pinned.contains(name);
            let used = table.destination(name).map_or(*since, |destination| destination.last_used().max(*since));
            kept || !(gone.contains(name) && table.destination(name).is_none()) && now < used + IDLE
        });
        if self.wanted.len() != before || !gone.is_empty() {
            self.subscribe();
            self.swap();
        }
    }

    /// Brings the subscriptions in line with what is wanted and what that leads to.
    fn subscribe(&mut self) {
        let bound: Vec<Name> =
            if self.options.gateway { self.held.listeners.keys().cloned().collect() } else { Vec::new() };
        let mut needs = self.held.needs(self.wanted.keys().chain(&bound));
        for (kind, name) in needs.difference(&self.subscribed) {
            self.subscriptions.subscribe(*kind, name);
        }
        for (kind, name) in self.subscribed.difference(&needs) {
            self.subscriptions.unsubscribe(*kind, name);
        }
        self.held.retain(&needs);
        if self.options.gateway {
            // Bound listeners come by the wildcard; naming them as well would keep them after they are gone.
            needs.retain(|(kind, name)| *kind != Kind::Listener || self.wanted.contains_key(name));
        }
        self.subscribed = needs;
    }

    fn swap(&mut self) -> Vec<leno_xds::client::Refusal> {
        let (table, refusals) = self.builder.build(&self.held, self.absent.clone());
        let version = table.version;
        if let Some((service, inbound)) = &self.options.inbound {
            let destination = table.destination(&inbound_name(service));
            let limits = destination.and_then(|destination| destination.rate_limits.clone());
            inbound.set(limits, destination.and_then(|destination| destination.overload.clone()));
        }
        self.tables.swap(table);
        self.sync.send_modify(|sync| sync.table = version);
        let bound = self.held.listeners.values().map(|held| held.resource.clone()).filter(|listener| listener.bind);
        let bound: Vec<Arc<Listener>> = bound.collect();
        self.bound.send_if_modified(|before| {
            let changed = *before != bound;
            *before = bound;
            changed
        });
        refusals
    }

    async fn persist(&mut self) {
        self.dirty_disk = false;
        let Some(file) = &self.options.file else { return };
        if let Err(error) = snapshot_file::write(file, &self.held).await {
            tracing::warn!(file = %file.display(), %error, "last good state not kept: a restart will need a server");
        }
    }
}

/// What a proxy asks for that stands beside an instance of a service.
fn inbound_name(service: &ServiceName) -> Name {
    format!("inbound/{}", service.host()).into()
}

fn copies() -> (Copies, mpsc::Receiver<oneshot::Sender<Held>>) {
    let (ask, asked) = mpsc::channel(1);
    (Copies { ask }, asked)
}

// === impl Copies ===

impl Copies {
    /// What it holds now; none when it runs no more.
    pub async fn take(&self) -> Option<Held> {
        let (answer, answered) = oneshot::channel();
        self.ask.send(answer).await.ok()?;
        answered.await.ok()
    }
}

#[cfg(test)]
mod tests;
