//! Datagrams of a gateway's UDP listeners: every source has a session, which leads to one endpoint while that is there.
//!
//! listener's socket → session of the source, or a new one: a place → pick → a socket of its own → endpoint, and back. The
//! kernel gives all datagrams of one source to the same worker's socket, so sessions are a worker's own and nothing is
//! locked. A session has a socket connected to its endpoint: what anybody else sends there is not taken for an answer, and
//! an ICMP error is heard as that endpoint's, whose session ends, so that the next datagram goes to another one.
//!
//! Nothing is sent but what a client or an endpoint sent: for a datagram there is never more than one. Limits: sessions
//! (`--udp-sessions-max`), the places of connections, idle time; what is beyond is dropped and counted, as UDP has it.
//! Sessions do not outlive their process: after a hand-over a source may get another endpoint.
//!
//! Hot path: no locks held, no allocation for a datagram of a known source, no info logs.

pub(crate) mod socket;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leno_model::seam::Timestamp;
use leno_model::snapshot::{EndpointHealth, Name};
use leno_net::places::Place;
use leno_route::weighted;
use leno_runtime::task::{self, AbortOnDrop};
use leno_telemetry::access::{AccessEvent, Direction};
use leno_telemetry::metric::Counter;
use leno_telemetry::{Edge, Flag, Registry};
use leno_traffic::{Load, Open, Outcome};
use tokio::net::UdpSocket;

use self::socket::{DATAGRAM_MAX, attach, connect, send, send_to};
use crate::table::Table;
use crate::worker::Worker;

/// Sessions of a proxy, if nobody says otherwise.
pub const SESSIONS_MAX: usize = 4096;

/// Datagrams that are taken from one socket before others get their turn.
const BATCH: usize = 64;
/// How often idle sessions are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// How long receiving pauses after an error that is not of one datagram.
const PAUSE: Duration = Duration::from_millis(50);

/// What all UDP listeners of a proxy share: how many sessions there may be, and what is counted.
#[derive(Clone)]
pub struct Udp {
    shared: Arc<Shared>,
}

struct Shared {
    sessions_max: usize,
    open: AtomicUsize,
    opened: Counter,
    received: Counter,
    sent: Counter,
    dropped: [Counter; Dropped::ALL.len()],
}

/// Why a datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dropped {
    /// There are as many sessions as there may be.
    Sessions,
    /// There are as many connections as there may be, of all or of this source.
    Places,
    /// No route leads on from the listener.
    NoRoute,
    /// No endpoint takes traffic.
    NoEndpoint,
    /// The endpoint cannot be reached.
    Unreachable,
    /// A queue of the kernel is full.
    Full,
    /// It is longer than the way is wide.
    TooLong,
}

/// A listener of one worker.
struct Here {
    worker: Rc<Worker>,
    listener: Name,
    udp: Udp,
    socket: UdpSocket,
    /// For one datagram at a time, and never across a wait.
    buffer: RefCell<Box<[u8]>>,
}

/// One source's way to an endpoint.
struct Session {
    upstream: Rc<UdpSocket>,
    to: SocketAddr,
    /// The table in which the endpoint was seen last.
    table: u64,
    idle_timeout: Duration,
    life: Rc<Life>,
    /// Ends with the session.
    _answers: AbortOnDrop<()>,
}

/// What is known of a session; its record is written when it is dropped.
struct Life {
    worker: Rc<Worker>,
    /// Its share of `--udp-sessions-max`.
    _counted: Counted,
    _place: Place,
    edge: Arc<Edge>,
    load: Arc<Load>,
    _open: Open,
    cluster: String,
    client: SocketAddr,
    endpoint: SocketAddr,
    start: Timestamp,
    began: Duration,
    last: Cell<Duration>,
    received: Cell<u64>,
    sent: Cell<u64>,
    flag: Cell<Option<Flag>>,
    failure: RefCell<String>,
}

/// One session among those of the proxy.
struct Counted(Udp);

/// Carries datagrams until it is dropped.
pub(crate) async fn serve(worker: Rc<Worker>, listener: Name, udp: Udp, socket: std::net::UdpSocket) {
    let socket = match attach(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, %listener, "listener lost"),
    };
    let buffer = RefCell::new(vec![0; DATAGRAM_MAX].into());
    let here = Rc::new(Here { worker, listener, udp, socket, buffer });
    let mut sessions: HashMap<SocketAddr, Session> = HashMap::new();
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            ready = here.socket.readable() => {
                let received = ready.and_then(|()| Here::receive(&here, &mut sessions));
                if let Err(error) = received {
                    tracing::debug!(%error, listener = %here.listener, "datagram not received");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            _ = sweep.tick() => {
                let now = here.worker.now();
                sessions.retain(|_, session| !session.is_over(now));
            }
        }
    }
}

// === impl Udp ===

impl Udp {
    /// At most so many sessions at once, counted in `metrics`.
    pub fn new(sessions_max: usize, metrics: &Registry) -> Self {
        let datagrams = |direction| {
            let help = "Datagrams of UDP listeners: received from clients, sent to clients.";
            metrics.counter("leno_udp_datagrams_total", help, &[("direction", direction)])
        };
        let dropped = |why: Dropped| {
            let help = "Datagrams of UDP listeners that were dropped, by reason.";
            metrics.counter("leno_udp_datagrams_dropped_total", help, &[("reason", why.reason())])
        };
        let shared = Arc::new(Shared {
            sessions_max,
            open: AtomicUsize::new(0),
            opened: metrics.counter("leno_udp_sessions_total", "Sessions of UDP listeners that were opened.", &[]),
            received: datagrams("received"),
            sent: datagrams("sent"),
            dropped: Dropped::ALL.map(dropped),
        });
        let read = shared.clone();
        let open = move || read.open.load(Ordering::Relaxed) as f64;
        metrics.gauge_from("leno_udp_sessions", "Sessions of UDP listeners that are open.", &[], open);
        Self { shared }
    }

    fn drop(&self, why: Dropped) {
        self.shared.dropped[why as usize].increment();
    }

    fn count(&self) -> Result<Counted, Dropped> {
        if self.shared.open.fetch_add(1, Ordering::Relaxed) >= self.shared.sessions_max {
            self.shared.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Dropped::Sessions);
        }
        self.shared.opened.increment();
        Ok(Counted(self.clone()))
    }
}

impl std::fmt::Debug for Udp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Udp").field("sessions_max", &self.shared.sessions_max).finish_non_exhaustive()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Dropped ===

impl Dropped {
    /// In the order of their numbers.
    const ALL: [Dropped; 7] = [
        Dropped::Sessions,
        Dropped::Places,
        Dropped::NoRoute,
        Dropped::NoEndpoint,
        Dropped::Unreachable,
        Dropped::Full,
        Dropped::TooLong,
    ];

    fn reason(self) -> &'static str {
        match self {
            Dropped::Sessions => "sessions_max",
            Dropped::Places => "connections_max",
            Dropped::NoRoute => "no_route",
            Dropped::NoEndpoint => "no_endpoint",
            Dropped::Unreachable => "unreachable",
            Dropped::Full => "queue_full",
            Dropped::TooLong => "too_long",
        }
    }

    /// What an error of sending says of the datagram alone; none if it is about the way.
    fn of_datagram(error: &io::Error) -> Option<Self> {
        match error.kind() {
            ErrorKind::WouldBlock => Some(Dropped::Full),
            _ => match rustix::io::Errno::from_io_error(error) {
                Some(rustix::io::Errno::MSGSIZE) => Some(Dropped::TooLong),
                Some(rustix::io::Errno::NOBUFS) => Some(Dropped::Full),
                _ => None,
            },
        }
    }
}

// === impl Here ===

impl Here {
    /// Takes what has arrived, up to a batch.
    fn receive(here: &Rc<Self>, sessions: &mut HashMap<SocketAddr, Session>) -> io::Result<()> {
        let mut buffer = here.buffer.borrow_mut();
        let table = here.worker.shared.lookup.table();
        for _ in 0..BATCH {
            let (length, from) = match here.socket.try_recv_from(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                received => received?,
            };
            here.udp.shared.received.increment();
            if let Err(why) = Self::pass(here, sessions, &table, from, &buffer[..length]) {
                here.udp.drop(why);
            }
        }
        Ok(())
    }

    /// Passes a datagram on, by the session of its source or a new one.
    fn pass(
        here: &Rc<Self>,
        sessions: &mut HashMap<SocketAddr, Session>,
        table: &Table,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), Dropped> {
        let mut avoid = None;
        if let Some(session) = sessions.get_mut(&from) {
            if session.leads_on(here, table) {
                match session.send(datagram) {
                    Err(Dropped::Unreachable) => {}
                    sent => return sent,
                }
            }
            avoid = Some(session.to);
            sessions.remove(&from);
        }
        let session = Self::open(here, table, from, avoid)?;
        let sent = session.send(datagram);
        sessions.insert(from, session);
        sent
    }

    /// A session for a source, with another endpoint than the one to avoid where there is one.
    fn open(here: &Rc<Self>, table: &Table, client: SocketAddr, avoid: Option<SocketAddr>) -> Result<Session, Dropped> {
        let counted = here.udp.count()?;
        let worker = &here.worker;
        let place = worker.shared.places.admit(Some(client.ip())).map_err(|_| Dropped::Places)?;
        let destination = table.destination(&here.listener).ok_or(Dropped::NoRoute)?;
        destination.touch(worker.now());
        let targets = &destination.tcp;
        let at = weighted::pick_by(targets, |target| target.weight, worker.random_bits()).ok_or(Dropped::NoRoute)?;
        let cluster = targets[at].cluster.as_ref().ok_or(Dropped::NoRoute)?;
        let avoided = cluster.endpoints.iter().position(|endpoint| Some(endpoint.spec.address) == avoid);
        let tried: &[usize] = avoided.as_slice();
        let hash = targets[at].hash_of_caller(worker, Some(client));
        let pick = |tried| worker.pick(cluster, hash, tried);
        let picked = pick(tried).or_else(|| pick(&[])).ok_or(Dropped::NoEndpoint)?;
        let endpoint = &cluster.endpoints[picked];
        // A proxy of the mesh carries connections; datagrams go to the application.
        let to = endpoint.spec.address;
        let upstream = Rc::new(connect(to).map_err(|_| Dropped::Unreachable)?);
        cluster.edges.tcp.connection_opened();
        let now = worker.now();
        let life = Rc::new(Life {
            worker: worker.clone(),
            _counted: counted,
            _place: place,
            edge: cluster.edges.tcp.clone(),
            load: endpoint.state.load.clone(),
            _open: endpoint.state.load.open(),
            cluster: cluster.spec.name.to_string(),
            client,
            endpoint: to,
            start: worker.shared.clock.wall(),
            began: now,
            last: Cell::new(now),
            received: Cell::new(0),
            sent: Cell::new(0),
            flag: Cell::new(None),
            failure: RefCell::default(),
        });
        let answers = answers(here.clone(), life.clone(), upstream.clone());
        Ok(Session {
            upstream,
            to,
            table: table.version,
            idle_timeout: destination.listener.idle_timeout,
            life,
            _answers: task::spawn("udp-session", answers).abort_on_drop(),
        })
    }

    /// Whether an endpoint is among those of the listener, and not failing; one that is draining finishes what it has.
    fn has(&self, table: &Table, address: SocketAddr) -> bool {
        let Some(destination) = table.destination(&self.listener) else { return false };
        let clusters = destination.tcp.iter().filter(|target| target.weight > 0).filter_map(|t| t.cluster.as_ref());
        let mut endpoints = clusters.flat_map(|cluster| &cluster.endpoints);
        endpoints.any(|e| e.spec.address == address && e.spec.health != EndpointHealth::Unhealthy)
    }
}

// === impl Session ===

impl Session {
    /// Whether its endpoint still is where datagrams go.
    fn leads_on(&mut self, here: &Here, table: &Table) -> bool {
        if self.table != table.version {
            if !here.has(table, self.to) {
                return false;
            }
            self.table = table.version;
        }
        self.life.flag.get().is_none()
    }

    fn send(&self, datagram: &[u8]) -> Result<(), Dropped> {
        self.life.last.set(self.life.worker.now());
        match send(&self.upstream, datagram) {
            Ok(_) => {
                self.life.received.set(self.life.received.get() + datagram.len() as u64);
                Ok(())
            }
            Err(error) => match Dropped::of_datagram(&error) {
                Some(why) => Err(why),
                None => {
                    self.life.fail(&error);
                    Err(Dropped::Unreachable)
                }
            },
        }
    }

    /// Whether nothing was sent either way for too long, or its endpoint does not answer.
    fn is_over(&self, now: Duration) -> bool {
        let is_idle = now.saturating_sub(self.life.last.get()) >= self.idle_timeout;
        if is_idle && self.life.flag.get().is_none() {
            self.life.flag.set(Some(Flag::IdleTimeout));
        }
        is_idle || self.life.flag.get().is_some()
    }
}

/// Carries what the endpoint sends to the client.
async fn answers(here: Rc<Here>, life: Rc<Life>, upstream: Rc<UdpSocket>) {
    loop {
        let ready = upstream.readable().await;
        if let Err(error) = ready.and_then(|()| answer(&here, &life, &upstream)) {
            return life.fail(&error);
        }
    }
}

/// Carries what has arrived, up to a batch.
fn answer(here: &Here, life: &Life, upstream: &UdpSocket) -> io::Result<()> {
    let mut buffer = here.buffer.borrow_mut();
    for _ in 0..BATCH {
        let length = match upstream.try_recv(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            received => received?,
        };
        let now = life.worker.now();
        if life.sent.get() == 0 {
            life.load.observe(now, now.saturating_sub(life.last.get()), Outcome::Answered);
        }
        life.last.set(now);
        match send_to(&here.socket, &buffer[..length], life.client) {
            Ok(_) => {
                here.udp.shared.sent.increment();
                life.sent.set(life.sent.get() + length as u64);
            }
            Err(error) => here.udp.drop(Dropped::of_datagram(&error).unwrap_or(Dropped::Unreachable)),
        }
    }
    Ok(())
}

// === impl Life ===

impl Life {
    fn fail(&self, error: &io::Error) {
        if self.flag.get().is_some() {
            return;
        }
        let now = self.worker.now();
        self.load.observe(now, now.saturating_sub(self.began), Outcome::Failed);
        self.flag.set(Some(Flag::ConnectFailure));
        *self.failure.borrow_mut() = error.to_string();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let (received, sent) = (self.received.get(), self.sent.get());
        self.edge.connection_closed();
        self.edge.tcp_bytes(received, sent);
        let Some(access) = &self.worker.shared.access else { return };
        access.record(&AccessEvent {
            start: self.start,
            duration: self.worker.now().saturating_sub(self.began),
            direction: Direction::Outbound,
            protocol: "UDP",
            flag: self.flag.get(),
            failure: &self.failure.borrow(),
            received,
            sent,
            source: &self.worker.shared.source_name,
            destination: &self.edge.key().destination.to_string(),
            upstream: &self.endpoint.to_string(),
            cluster: &self.cluster,
            downstream_remote: Some(self.client),
            tries: 1,
            ..AccessEvent::default()
        });
    }
}
