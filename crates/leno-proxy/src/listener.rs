//! Accepting: each worker has its own socket for every listener, and one task that accepts from it.
//!
//! The control thread binds ([`leno_net::listen::bind_group`]) and hands one socket of each group to every worker by a
//! [`Command`]; listeners come and go while the proxy runs (a gateway's, the ports of a program that has just started).
//!
//! accepted → a place for it, else it is reset (`leno_net::places`) → the worker that serves it (`spread`) → whom it is from,
//! where a proxy in front says so (`proxy_protocol`) → its purpose.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use leno_model::snapshot::Name;
use leno_net::{Stream, listen};
use leno_runtime::DrainGuard;
use leno_runtime::task::{self, AbortOnDrop};
use leno_telemetry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::connection::{self, HttpConnection};
use crate::inbound;
use crate::outbound;
use crate::pressure;
use crate::proxy_protocol;
use crate::secure;
use crate::sockets::Sockets;
use crate::spread::{Counted, Loads, Passed, Spread, spread};
use crate::table::Destination;
use crate::udp::socket::bind_group as bind_datagrams;
use crate::udp::{self, Udp};
use crate::worker::{PoolOwner, Worker};

/// Commands that may wait for a worker.
const COMMANDS_MAX: usize = 256;
/// How often pools are swept.
const SWEEP: Duration = Duration::from_secs(1);

/// Names a listener of this proxy, to a successor as well.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Key {
    /// The outbound port.
    Outbound,
    /// Connections captured in a program's namespace.
    Captured(u8),
    /// A local port or Unix socket for one destination.
    To(String),
    /// The inbound port of an application port.
    Inbound(u16),
    /// A gateway's listener.
    Gateway(Name),
    /// One that the control thread accepts from: admin, metrics, that of hand-overs.
    Control(String),
}

/// What connections to a listener get.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// Captured, by name, as an HTTP proxy.
    Outbound,
    /// One destination of the mesh.
    To(Name),
    /// The application.
    Inbound(Arc<Destination>),
    /// The destination of a gateway's listener.
    Gateway(Arc<Destination>),
    /// That of a gateway's listener of datagrams, by its name.
    Datagrams(Name, Udp),
}

/// A socket to accept from.
pub enum Socket {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
    /// UDP.
    Udp(std::net::UdpSocket),
}

/// What the control thread tells a worker.
pub enum Command {
    /// Accept from here from now on.
    Listen(Key, Purpose, Socket),
    /// Accept no more; open connections go on.
    Close(Key),
}

/// The control thread's end of all workers.
#[derive(Clone)]
pub struct Commands {
    workers: Vec<mpsc::Sender<Command>>,
    loads: Loads,
    sockets: Arc<Mutex<Sockets>>,
    /// Whether connections are accepted.
    begun: Arc<watch::Sender<bool>>,
}

/// A worker's end.
pub struct Commanded {
    commands: mpsc::Receiver<Command>,
    begun: watch::Receiver<bool>,
    spread: Spread,
    passed: mpsc::Receiver<Passed>,
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}: {cause}")]
pub struct ListenError {
    address: String,
    #[source]
    cause: std::io::Error,
}

// === impl Purpose ===

impl Purpose {
    /// Whether what comes from a proxy in front begins with a PROXY header.
    fn takes_headers(&self) -> bool {
        matches!(self, Self::Inbound(_) | Self::Gateway(_))
    }
}

// === impl Commands ===

impl Commands {
    /// The ends for `workers` workers.
    pub fn new(workers: usize) -> (Self, Vec<Commanded>) {
        let (loads, ends) = spread(workers);
        let begun = Arc::new(watch::Sender::new(true));
        let end = |(spread, passed)| {
            let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
            (commands, Commanded { commands: commanded, begun: begun.subscribe(), spread, passed })
        };
        let (workers, commanded) = ends.into_iter().map(end).unzip();
        (Self { workers, loads, sockets: Arc::default(), begun }, commanded)
    }

    /// Shows how many connections each worker serves.
    pub fn measure(&self, metrics: &Registry) {
        self.loads.measure(metrics);
    }

    /// Binds `address` and has every worker accept there, unless its sockets were handed over. The address that was bound,
    /// with its port.
    pub async fn listen(
        &self,
        key: Key,
        purpose: Purpose,
        address: std::net::SocketAddr,
    ) -> Result<std::net::SocketAddr, ListenError> {
        let failed = |cause| ListenError { address: address.to_string(), cause };
        let given = self.sockets().take_tcp(&key, address);
        let sockets = given.map_or_else(|| listen::bind_group(address, self.workers.len()), Ok).map_err(failed)?;
        let bound = sockets[0].local_addr().map_err(failed)?;
        self.sockets().keep(&key, &sockets).map_err(failed)?;
        let duplicate = |socket: &std::net::TcpListener| Ok(Socket::Tcp(socket.try_clone()?));
        self.share(&key, &purpose, &sockets, duplicate).await.map_err(failed)?;
        Ok(bound)
    }

    /// As [`Commands::listen`], for datagrams: every socket has one worker alone, to which the kernel keeps a source.
    pub async fn listen_udp(
        &self,
        key: Key,
        name: Name,
        udp: Udp,
        address: std::net::SocketAddr,
    ) -> Result<std::net::SocketAddr, ListenError> {
        let failed = |cause| ListenError { address: address.to_string(), cause };
        let given = self.sockets().take_udp(&key, address);
        let sockets = given.map_or_else(|| bind_datagrams(address, self.workers.len()), Ok).map_err(failed)?;
        let bound = sockets[0].local_addr().map_err(failed)?;
        self.sockets().keep(&key, &sockets).map_err(failed)?;
        for (socket, worker) in sockets.into_iter().zip(self.workers.iter().cycle()) {
            let purpose = Purpose::Datagrams(name.clone(), udp.clone());
            let _ = worker.send(Command::Listen(key.clone(), purpose, Socket::Udp(socket))).await;
        }
        Ok(bound)
    }

    /// A socket at `address` for the control thread to accept from, once accepting has [begun](Self::begun).
    pub fn control(&self, name: &str, address: std::net::SocketAddr) -> Result<std::net::TcpListener, ListenError> {
        let failed = |cause| ListenError { address: address.to_string(), cause };
        let key = Key::Control(name.to_owned());
        let given = self.sockets().take_tcp(&key, address).and_then(|mut given| given.pop());
        let socket = given.map_or_else(|| listen::bind_one(address), Ok).map_err(failed)?;
        self.sockets().keep(&key, std::slice::from_ref(&socket)).map_err(failed)?;
        Ok(socket)
    }

    /// As [`Commands::control`], for a Unix socket.
    pub fn control_unix(&self, name: &str, path: &Path) -> Result<UnixListener, ListenError> {
        self.bind_unix(&Key::Control(name.to_owned()), path)
    }

    /// Has every worker accept from a socket that was made elsewhere, each from a duplicate of it. Whoever made it hands it
    /// over.
    pub async fn adopt(&self, key: Key, purpose: Purpose, socket: std::net::TcpListener) -> std::io::Result<()> {
        for worker in &self.workers {
            let socket = Socket::Tcp(socket.try_clone()?);
            let _ = worker.send(Command::Listen(key.clone(), purpose.clone(), socket)).await;
        }
        Ok(())
    }

    /// Makes a Unix socket; one that nobody listens on any more is replaced.
    pub async fn listen_unix(&self, key: Key, purpose: Purpose, path: PathBuf) -> Result<(), ListenError> {
        let failed = |cause| ListenError { address: path.display().to_string(), cause };
        let socket = self.bind_unix(&key, &path)?;
        let duplicate = |socket: &UnixListener| Ok(Socket::Unix(socket.try_clone()?));
        self.share(&key, &purpose, std::slice::from_ref(&socket), duplicate).await.map_err(failed)
    }

    /// Closes a listener on every worker.
    pub async fn close(&self, key: &Key) {
        self.sockets().forget(key);
        for worker in &self.workers {
            let _ = worker.send(Command::Close(key.clone())).await;
        }
    }

    fn bind_unix(&self, key: &Key, path: &Path) -> Result<UnixListener, ListenError> {
        let failed = |cause| ListenError { address: path.display().to_string(), cause };
        let given = self.sockets().take_unix(key, path);
        let socket = given.map_or_else(|| replace_unix(path), Ok).map_err(failed)?;
        self.sockets().keep(key, std::slice::from_ref(&socket)).map_err(failed)?;
        Ok(socket)
    }

    /// Gives every socket to a worker and every worker a socket: where there are more workers, some share one.
    async fn share<S>(
        &self,
        key: &Key,
        purpose: &Purpose,
        sockets: &[S],
        duplicate: impl Fn(&S) -> std::io::Result<Socket>,
    ) -> std::io::Result<()> {
        for index in 0..sockets.len().max(self.workers.len()) {
            let socket = duplicate(&sockets[index % sockets.len()])?;
            let worker = &self.workers[index % self.workers.len()];
            // A worker that has ended accepts nothing more, which is what its end means.
            let _ = worker.send(Command::Listen(key.clone(), purpose.clone(), socket)).await;
        }
        Ok(())
    }

    fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// Hand-over.
impl Commands {
    /// Takes sockets over from the process before, for the listeners that ask for them. Until [`Commands::begin`] nothing
    /// is accepted, for that process still does.
    pub fn take_over(&self, sockets: Vec<(Key, OwnedFd)>) {
        self.begun.send_replace(false);
        self.sockets().give(sockets);
    }

    /// Where a listener was in the process before, if its sockets were handed over.
    pub fn given_address(&self, key: &Key) -> Option<std::net::SocketAddr> {
        self.sockets().given_address(key)
    }

    /// Accepts from now on.
    pub fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Closes what was handed over for listeners that there are no more.
    pub fn close_rest(&self) {
        for key in self.sockets().refuse_rest() {
            tracing::info!(listener = ?key, "listener of the process before is closed");
        }
    }

    /// Ends when connections may be accepted.
    pub fn begun(&self) -> impl Future<Output = ()> + use<> {
        may_accept(self.begun.subscribe())
    }

    /// Every listening socket, for the process after.
    pub fn to_hand_over(&self) -> std::io::Result<Vec<(Key, OwnedFd)>> {
        self.sockets().to_hand_over()
    }

    /// Lets go of all listening sockets: they are closed as soon as the workers do not accept any more.
    pub fn let_go(&self) {
        self.sockets().forget_all();
    }
}

async fn may_accept(mut begun: watch::Receiver<bool>) {
    // Whoever said when is gone, and so is what would be accepted.
    let _ = begun.wait_for(|begun| *begun).await;
}

/// A Unix socket, in place of one that nobody listens on any more.
fn replace_unix(path: &Path) -> std::io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_err() {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    UnixListener::bind(path)
}

/// A worker's life: accepts as it is told until it leaves or drains, and serves until it shall stop or all commands' senders
/// are gone.
pub async fn run(worker: Rc<Worker>, commanded: Commanded) {
    let Commanded { mut commands, begun, spread, mut passed } = commanded;
    let spread = Rc::new(spread);
    let mut accepting: HashMap<Key, Vec<AbortOnDrop<()>>> = HashMap::new();
    let mut owners: HashMap<Key, PoolOwner> = HashMap::new();
    let mut sweep = tokio::time::interval(SWEEP);
    let _relief = task::spawn("relief", pressure::relieve(worker.clone())).abort_on_drop();
    let (mut leave, mut drain) = (worker.shared.drain.clone(), worker.shared.drain.clone());
    // No drain is over while something may still be accepted.
    let mut accepts = Some(drain.guard());
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Listen(..)) if accepts.is_none() => {}
                Some(Command::Listen(key, purpose, socket)) => {
                    if let Purpose::Inbound(destination) = &purpose {
                        owners.extend(destination.clusters().flat_map(|c| c.endpoints.first()).map(|e| (key.clone(), PoolOwner(e.state.key))));
                    }
                    let accept = accept(worker.clone(), spread.clone(), begun.clone(), purpose, socket);
                    accepting.entry(key).or_default().push(task::spawn("accept", accept).abort_on_drop());
                }
                Some(Command::Close(key)) => {
                    owners.remove(&key);
                    accepting.remove(&key);
                }
                None => return,
            },
            Some(passed) = passed.recv() => take(&worker, passed),
            _ = sweep.tick() => {
                let owners: Vec<PoolOwner> = owners.values().copied().collect();
                worker.sweep(&owners);
            }
            () = leave.leaving(), if accepts.is_some() => {
                // Dropping them closes the sockets, or this process's duplicates of what was handed over.
                accepting.clear();
                accepts = None;
            }
            () = drain.draining() => break,
        }
    }
    drop((accepting, accepts));
    // What another worker has accepted before may still be on its way here.
    let taking = async {
        while let Some(passed) = passed.recv().await {
            take(&worker, passed);
        }
    };
    tokio::select! {
        () = taking => {}
        () = drain.stopping() => {}
    }
}

async fn accept(
    worker: Rc<Worker>,
    spread: Rc<Spread>,
    begun: watch::Receiver<bool>,
    purpose: Purpose,
    socket: Socket,
) {
    may_accept(begun).await;
    let (places, strain) = (worker.shared.places.clone(), worker.shared.strain.clone());
    match socket {
        Socket::Tcp(socket) => {
            let listener = match listen::attach(socket) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "listener lost"),
            };
            let in_front = worker.shared.in_front.as_ref().filter(|_| purpose.takes_headers());
            let counts = |source| !in_front.is_some_and(|in_front| in_front.includes(source));
            loop {
                strain.may_accept().await;
                let accepted = listen::accept_counting(&listener, &places, counts).await;
                strain.accepted();
                assign(&worker, &spread, &purpose, accepted.stream);
            }
        }
        Socket::Udp(socket) => {
            if let Purpose::Datagrams(name, udp) = purpose {
                udp::serve(worker, name, udp, socket).await;
            }
        }
        Socket::Unix(socket) => {
            let attached = socket.set_nonblocking(true).and_then(|()| tokio::net::UnixListener::from_std(socket));
            let listener = match attached {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "listener lost"),
            };
            loop {
                strain.may_accept().await;
                let stream = listen::accept_unix_within(&listener, &places).await;
                strain.accepted();
                assign(&worker, &spread, &purpose, stream);
            }
        }
    }
}

/// Serves a connection that was accepted here, or passes it on.
fn assign(worker: &Rc<Worker>, spread: &Spread, purpose: &Purpose, stream: Stream) {
    // Taken before it is passed on, so that no drain ends while it is on its way.
    let guard = worker.shared.drain.guard();
    let (counted, to) = spread.assign();
    let Some(to) = to else { return serve(worker, purpose.clone(), stream, (guard, counted)) };
    // A socket that cannot be taken off the runtime is broken.
    let Ok(stream) = stream.detach() else { return };
    if let Err(back) = spread.pass(to, Passed { purpose: purpose.clone(), stream, guard, counted }) {
        take(worker, Passed { counted: spread.keep(), ..back });
    }
}

/// Serves a connection that was passed on to this worker, or did not get through to another.
fn take(worker: &Rc<Worker>, passed: Passed) {
    let Passed { purpose, stream, guard, counted } = passed;
    match stream.attach() {
        Ok(stream) => serve(worker, purpose, stream, (guard, counted)),
        Err(error) => tracing::debug!(%error, "connection lost on its way to a worker"),
    }
}

fn serve(worker: &Rc<Worker>, purpose: Purpose, stream: Stream, held: Held) {
    let here = worker.clone();
    match purpose {
        Purpose::Outbound => spawn(worker, "outbound", held, outbound::receive(here, stream)),
        Purpose::To(name) => spawn(worker, "outbound-to", held, outbound::receive_to(here, name, stream)),
        Purpose::Inbound(application) => spawn(worker, "inbound", held, async move {
            let stream = proxy_protocol::receive(&here, stream).await?;
            inbound::receive(here, application, stream).await
        }),
        Purpose::Gateway(destination) => spawn(worker, "gateway", held, async move {
            let stream = proxy_protocol::receive(&here, stream).await?;
            secure::receive(here, destination, stream).await
        }),
        Purpose::Datagrams(..) => {}
    }
}

/// What a connection holds while it is served: the drain up, and its number among those of its worker.
type Held = (DrainGuard, Counted);

/// Serves what is received on a task of its own.
fn spawn(
    worker: &Worker,
    name: &'static str,
    held: Held,
    received: impl Future<Output = Option<HttpConnection>> + 'static,
) {
    worker.spawn(name, connection::serve(received).map(move |()| drop(held)));
}
