//! Accepting: each worker has its own socket for every listener, and one task that accepts from it.
//!
//! The control thread binds ([`leno_net::listen::bind_group`]) and hands one socket of each group to every worker by a
//! [`Command`]; listeners come and go while the proxy runs (a gateway's, the ports of a program that has just started).

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use leno_model::snapshot::Name;
use leno_net::{Stream, listen};
use leno_runtime::task::{self, AbortOnDrop};
use leno_telemetry::access::Direction;
use tokio::sync::mpsc;

use crate::connection::{self, HttpConnection, Where};
use crate::inbound;
use crate::outbound;
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
}

/// A worker's end.
pub type Commanded = mpsc::Receiver<Command>;

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
        let (workers, commanded) = (0..workers).map(|_| mpsc::channel(COMMANDS_MAX)).unzip();
        (Self { workers }, commanded)
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
pub async fn run(worker: Rc<Worker>, mut commands: Commanded) {
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
                    let task = task::spawn("accept", accept(worker.clone(), purpose, socket));
                    accepting.insert(key, task.abort_on_drop());
                }
                Some(Command::Close(key)) => {
                    owners.remove(&key);
                    accepting.remove(&key);
                }
                None => return,
            },
            _ = sweep.tick() => {
                let owners: Vec<PoolOwner> = owners.values().copied().collect();
                worker.sweep(&owners);
            }
            () = drain.draining() => break,
        }
    }
    // Dropping them closes the sockets.
    drop(accepting);
    drain.stopping().await;
}

async fn accept(worker: Rc<Worker>, purpose: Purpose, socket: Socket) {
    match socket {
        Socket::Tcp(socket) => {
            let listener = match listen::attach(socket) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "listener lost"),
            };
            loop {
                let accepted = listen::accept(&listener).await;
                serve(&worker, &purpose, accepted.stream);
            }
        }
        Socket::Unix(socket) => {
            let attached = socket.set_nonblocking(true).and_then(|()| tokio::net::UnixListener::from_std(socket));
            let listener = match attached {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "listener lost"),
            };
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => serve(&worker, &purpose, Stream::from(stream)),
                    // Out of descriptors, most likely: waiting is all that helps.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }
    }
}

fn serve(worker: &Rc<Worker>, purpose: &Purpose, stream: Stream) {
    let here = worker.clone();
    match purpose.clone() {
        Purpose::Outbound => spawn(worker, "outbound", outbound::receive(here, stream)),
        Purpose::To(name) => spawn(worker, "outbound-to", outbound::receive_to(here, name, stream)),
        Purpose::Inbound(application) => spawn(worker, "inbound", inbound::receive(here, application, stream)),
        Purpose::Gateway(destination) => spawn(worker, "gateway", async move {
            let to = Where::Named(destination);
            connection::receive(&here, Direction::Gateway, to, stream, Bytes::new()).await
        }),
    }
}

/// Serves what is received on a task of its own, which holds the drain up.
fn spawn(worker: &Worker, name: &'static str, received: impl Future<Output = Option<HttpConnection>> + 'static) {
    let guard = worker.shared.drain.guard();
    worker.spawn(name, connection::serve(received).map(move |()| drop(guard)));
}
