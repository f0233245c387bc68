//! A proxy's side of the control plane: the connection, the registration of its instance, and a control plane of its
//! own for proxies that work from files alone.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use leno_control::directory::Empty;
use leno_control::{Apply, Control, Options as ControlOptions};
use leno_http::client::ClientOptions;
use leno_http::{Connection, ServerOptions, grpc, serve_connection};
use leno_model::document::{self, Parsed};
use leno_model::fault;
use leno_model::identity::{Principal, Role};
use leno_model::instance::{Instance, InstanceStatus};
use leno_model::seam::Clock;
use leno_net::dial::{Dial, Dialling, HostDial};
use leno_net::{Address, Stream};
use leno_registry::InstanceKey;
use leno_registry::wire::Client as RegistryClient;
use leno_runtime::ready::Gate;
use leno_runtime::serve::NamedTasks;
use leno_runtime::{SystemClock, task};
use leno_store::memory::MemoryStore;
use leno_xds::server::{Server as XdsServer, ServerOptions as XdsOptions};
use leno_xds::status::StatusTable;
use leno_xds::transport;
use tokio::sync::{mpsc, watch};

/// Time for a connection to a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for a call to a server.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The first wait between two attempts to register.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest wait between two attempts to register.
const RETRY_MAX: Duration = Duration::from_secs(3);
/// How long a draining instance waits for its callers to be told.
const DRAIN_NOTICE: Duration = Duration::from_secs(5);

/// A gRPC client of the `attempt`-th server; none when it does not answer.
pub(super) async fn connect(servers: &[Address], attempt: usize) -> Option<grpc::Client> {
    let address = servers.get(attempt.checked_rem(servers.len())?)?;
    let stream = HostDial.connect(address, CONNECT_TIMEOUT).await.ok()?;
    let options = Rc::new(ClientOptions { limits: transport::limits(), ..ClientOptions::default() });
    let (connection, driver) = Connection::h2(stream, &options).await.ok()?;
    drop(task::spawn("control-connection", driver));
    Some(
        grpc::Client::new(connection, address.tcp().map_or("localhost".to_owned(), |tcp| tcp.to_string()))
            .with_timeout(CALL_TIMEOUT),
    )
}

// === registration ===

/// An instance that is kept registered. Dropping it stops renewing.
pub(super) struct Enrolment {
    wanted: watch::Sender<Wanted>,
    reached: watch::Receiver<Wanted>,
    _keeping: task::AbortOnDrop<()>,
}

/// What the registry shall say of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Up,
    Draining,
    Gone,
}

// === impl Enrolment ===

impl Enrolment {
    /// Registers as soon as a server answers, and again whenever it was forgotten.
    pub(super) fn start(servers: Vec<Address>, instance: Instance, gate: Gate) -> Self {
        let (wanted, wants) = watch::channel(Wanted::Up);
        let (reach, reached) = watch::channel(Wanted::Nothing);
        let key = InstanceKey::new(&instance.service, &instance.id);
        let renew_every = instance.lease.unwrap_or(Duration::from_secs(30)) / 3;
        let keeper = Keeper { instance, key, renew_every, gate, wants, reach };
        let keeping = task::spawn("enrolment", keep(servers, keeper)).abort_on_drop();
        Self { wanted, reached, _keeping: keeping }
    }

    /// Says that the instance finishes what it has; returns when the server has told those who call it.
    pub(super) async fn drain(&self) {
        self.reach(Wanted::Draining, DRAIN_NOTICE).await;
    }

    /// Takes the instance out.
    pub(super) async fn leave(self) {
        self.reach(Wanted::Gone, CALL_TIMEOUT).await;
    }

    async fn reach(&self, wanted: Wanted, timeout: Duration) {
        if *self.reached.borrow() == Wanted::Nothing {
            return;
        }
        self.wanted.send_replace(wanted);
        let mut reached = self.reached.clone();
        // A server that does not answer keeps nobody from stopping: the lease ends by itself.
        let _ = tokio::time::timeout(timeout, reached.wait_for(|reached| *reached == wanted)).await;
    }
}

/// An instance and what is wanted of it, across connections.
struct Keeper {
    instance: Instance,
    key: InstanceKey,
    renew_every: Duration,
    gate: Gate,
    wants: watch::Receiver<Wanted>,
    reach: watch::Sender<Wanted>,
}

async fn keep(servers: Vec<Address>, mut keeper: Keeper) {
    let (mut attempt, mut wait) = (0, RETRY_MIN);
    loop {
        if let Some(calls) = connect(&servers, attempt).await {
            let mut registered = false;
            match keeper.keep_at(&RegistryClient::new(calls), &mut registered).await {
                None => return,
                Some(status) => tracing::warn!(error = %status, "registration interrupted, trying again"),
            }
            wait = if registered { RETRY_MIN } else { wait };
        } else {
            let named: Vec<String> = servers.iter().map(ToString::to_string).collect();
            keeper.gate.close(format!("no server answers at {}: start one with `leno server`", named.join(", ")));
        }
        attempt += 1;
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

// === impl Keeper ===

impl Keeper {
    /// Registers and renews at one server until a call fails; none when the instance has left.
    async fn keep_at(&mut self, registry: &RegistryClient, registered: &mut bool) -> Option<grpc::Status> {
        if *self.wants.borrow() == Wanted::Up {
            if let Err(status) = registry.register(&self.instance).await {
                self.gate.close(format!("registration refused: {}", status.message));
                return Some(status);
            }
            *registered = true;
            self.gate.open();
            self.reach.send_replace(Wanted::Up);
            tracing::info!(service = %self.instance.service, instance = %self.instance.id, "registered");
        }
        loop {
            let wanted = *self.wants.borrow_and_update();
            if wanted != *self.reach.borrow() {
                if let Err(status) = self.tell(registry, wanted).await {
                    return Some(status);
                }
                self.reach.send_replace(wanted);
                if wanted == Wanted::Gone {
                    return None;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(self.renew_every) => {
                    if let Err(status) = self.renew(registry).await {
                        return Some(status);
                    }
                }
                changed = self.wants.changed() => if changed.is_err() { return None },
            }
        }
    }

    /// Says what has become of the instance.
    async fn tell(&mut self, registry: &RegistryClient, wanted: Wanted) -> Result<(), grpc::Status> {
        match wanted {
            Wanted::Draining => {
                self.instance.status = InstanceStatus::Draining;
                registry.set_status(&self.key, InstanceStatus::Draining).await.map(drop)
            }
            Wanted::Gone => registry.deregister(&self.key).await,
            Wanted::Up | Wanted::Nothing => Ok(()),
        }
    }

    /// Begins the lease anew, and registers again where it was forgotten.
    async fn renew(&self, registry: &RegistryClient) -> Result<(), grpc::Status> {
        match registry.renew(std::slice::from_ref(&self.key)).await?.is_empty() {
            true => Ok(()),
            false => registry.register(&self.instance).await.map(drop),
        }
    }
}

// === a control plane of its own ===

/// Dials the control plane in this process, whatever address is asked for.
pub(super) struct Embedded {
    accept: mpsc::Sender<Stream>,
    _control: task::AbortOnDrop<()>,
}

impl Dial for Embedded {
    fn connect<'a>(&'a self, _: &'a Address, _: Duration) -> Dialling<'a> {
        Box::pin(async move {
            let (here, there) = tokio::net::UnixStream::pair()?;
            self.accept.send(Stream::from(there)).await.map_err(|_| std::io::ErrorKind::ConnectionRefused)?;
            Ok(Stream::from(here))
        })
    }
}

/// A control plane over the resources of a file or directory, in this process: one contract, with a server or without.
pub(super) async fn embedded(resources: &Path) -> anyhow::Result<Embedded> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let status = StatusTable::new();
    let (control, driver) = Control::open(ControlOptions {
        store: Arc::new(MemoryStore::new(clock.clone())),
        directory: Arc::new(Empty),
        clock: clock.clone(),
        subscribers: status.clone(),
    })
    .await?;
    let watched = if resources.is_dir() {
        let mut source = leno_control::source::file::FileSource::new(control.clone(), resources);
        let first = source.sync().await;
        refuse_faults(&first.faults)?;
        if let Some(error) = first.error {
            anyhow::bail!(error);
        }
        Some(source)
    } else {
        apply_file(&control, resources).await?;
        None
    };
    let server = XdsServer::new(Rc::new(control), status, clock, XdsOptions::default());
    let (accept, mut accepted) = mpsc::channel::<Stream>(4);
    let serving = task::spawn("embedded-control", async move {
        let follow = async {
            tokio::join!(driver.run(), async {
                if let Some(source) = watched {
                    source.run().await
                }
            })
        };
        let options = Rc::new(ServerOptions {
            limits: transport::limits(),
            spawn: Rc::new(NamedTasks),
            ..ServerOptions::default()
        });
        let accepting = async {
            while let Some(stream) = accepted.recv().await {
                let router = Rc::new(server.routes(grpc::Router::new(), None));
                let options = options.clone();
                drop(task::spawn("embedded-xds", async move {
                    serve_connection(stream, Bytes::new(), &options, router, std::future::pending()).await;
                }));
            }
        };
        tokio::join!(follow, accepting);
    });
    Ok(Embedded { accept, _control: serving.abort_on_drop() })
}

/// The address under which an embedded control plane is asked for, as logs have it; nothing listens there.
pub(super) fn embedded_address() -> Address {
    Address::Unix("(this process)".into())
}

async fn apply_file(control: &Control, file: &Path) -> anyhow::Result<()> {
    let name = file.display().to_string();
    let bytes = std::fs::read(file).with_context(|| format!("resource file {name}"))?;
    let parsed: Parsed = document::parse_bytes(&name, &bytes);
    refuse_faults(&control.check(&parsed))?;
    let principal = Principal { name: "file".to_owned(), role: Role::Operator };
    let set = format!("file:{name}").into();
    let apply =
        Apply { principal, from: None, set, parsed, prune: true, dry_run: false, expected: None, summary: None };
    control.apply(apply).await?;
    Ok(())
}

fn refuse_faults(faults: &[fault::Fault]) -> anyhow::Result<()> {
    let is_error = |fault: &&fault::Fault| fault.severity == fault::Severity::Error;
    let errors: Vec<String> = faults.iter().filter(is_error).map(ToString::to_string).collect();
    anyhow::ensure!(errors.is_empty(), "resources refused:\n  {}", errors.join("\n  "));
    Ok(())
}
