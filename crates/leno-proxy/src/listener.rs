//! Accepting: each worker has its own socket for every listener, and one task that accepts from it.
//!
//! The control thread binds ([`leno_net::listen::bind_group`]) and hands one socket of each group to every worker by a
//! [`Command`]; listeners come and go while the proxy runs (a gateway's, the ports of a program that has just started).
//!
//! accepted → a place for it, else it is reset (`leno_net::places`) → the worker that serves it (`spread`) → its purpose.

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use leno_model::snapshot::Name;
use leno_net::{Stream, listen};
use leno_runtime::DrainGuard;
use leno_runtime::task::{self, AbortOnDrop};
use leno_telemetry::Registry;
use leno_telemetry::access::Direction;
use tokio::sync::mpsc;

use crate::connection::{self, HttpConnection, Where};
use crate::inbound;
use crate::outbound;
use crate::spread::{Counted, Loads, Passed, Spread, spread};
use crate::table::Destination;
use crate::worker::{PoolOwner, Worker};

/// Commands that may wait for a worker.
const COMMANDS_MAX: usize = 256;
/// How often pools are swept.
const SWEEP: Duration = Duration::from_secs(1);

/// Names a listener of this proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
}

/// A socket to accept from.
pub enum Socket {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
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
}

/// A worker's end.
pub struct Commanded {
    commands: mpsc::Receiver<Command>,
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

// === impl Commands ===

impl Commands {
    /// The ends for `workers` workers.
    pub fn new(workers: usize) -> (Self, Vec<Commanded>) {
        let (loads, ends) = spread(workers);
        let end = |(spread, passed)| {
            let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
            (commands, Commanded { commands: commanded, spread, passed })
        };
        let (workers, commanded) = ends.into_iter().map(end).unzip();
        (Self { workers, loads }, commanded)
    }

    /// Shows how many connections each worker serves.
    pub fn measure(&self, metrics: &Registry) {
        self.loads.measure(metrics);
    }

    /// Binds `address` and has every worker accept there. The address that was bound, with its port.
    pub async fn listen(
        &self,
        key: Key,
        purpose: Purpose,
        address: std::net::SocketAddr,
    ) -> Result<std::net::SocketAddr, ListenError> {
        let failed = |cause| ListenError { address: address.to_string(), cause };
        let sockets = listen::bind_group(address, self.workers.len()).map_err(failed)?;
        let bound = sockets[0].local_addr().map_err(failed)?;
        for (worker, socket) in self.workers.iter().zip(sockets) {
            // A worker that has ended accepts nothing more, which is what its end means.
            let _ = worker.send(Command::Listen(key.clone(), purpose.clone(), Socket::Tcp(socket))).await;
        }
        Ok(bound)
    }

    /// Has every worker accept from a socket that was made elsewhere, each from a duplicate of it.
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
        if std::os::unix::net::UnixStream::connect(&path).is_err() {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        let socket = std::os::unix::net::UnixListener::bind(&path).map_err(failed)?;
        for worker in &self.workers {
            let socket = Socket::Unix(socket.try_clone().map_err(failed)?);
            let _ = worker.send(Command::Listen(key.clone(), purpose.clone(), socket)).await;
        }
        Ok(())
    }

    /// Closes a listener on every worker.
    pub async fn close(&self, key: &Key) {
        for worker in &self.workers {
            let _ = worker.send(Command::Close(key.clone())).await;
        }
    }
}

/// A worker's life: accepts as it is told, until it shall drain and all commands' senders are gone.
pub async fn run(worker: Rc<Worker>, commanded: Commanded) {
    let Commanded { mut commands, spread, mut passed } = commanded;
    let spread = Rc::new(spread);
    let mut accepting: HashMap<Key, AbortOnDrop<()>> = HashMap::new();
    let mut owners: HashMap<Key, PoolOwner> = HashMap::new();
    let mut sweep = tokio::time::interval(SWEEP);
    let mut drain = worker.shared.drain.clone();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Listen(key, purpose, socket)) => {
                    if let Purpose::Inbound(destination) = &purpose {
                        owners.extend(destination.clusters().flat_map(|c| c.endpoints.first()).map(|e| (key.clone(), PoolOwner(e.state.key))));
                    }
                    let task = task::spawn("accept", accept(worker.clone(), spread.clone(), purpose, socket));
                    accepting.insert(key, task.abort_on_drop());
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
            () = drain.draining() => break,
        }
    }
    // Dropping them closes the sockets.
    drop(accepting);
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

async fn accept(worker: Rc<Worker>, spread: Rc<Spread>, purpose: Purpose, socket: Socket) {
    let places = worker.shared.places.clone();
    match socket {
        Socket::Tcp(socket) => {
            let listener = match listen::attach(socket) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "listener lost"),
            };
            loop {
                let accepted = listen::accept_within(&listener, &places).await;
                assign(&worker, &spread, &purpose, accepted.stream);
            }
        }
        Socket::Unix(socket) => {
            let attached = socket.set_nonblocking(true).and_then(|()| tokio::net::UnixListener::from_std(socket));
            let listener = match attached {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "listener lost"),
            };
            loop {
                let stream = listen::accept_unix_within(&listener, &places).await;
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
        Purpose::Inbound(application) => spawn(worker, "inbound", held, inbound::receive(here, application, stream)),
        Purpose::Gateway(destination) => spawn(worker, "gateway", held, async move {
            let to = Where::Named(destination);
            connection::receive(&here, Direction::Gateway, to, stream, Bytes::new()).await
        }),
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
