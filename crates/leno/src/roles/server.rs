//! `leno server`: the control plane in one process.
//!
//! ```text
//! store ─► registry, resources ─► snapshots ─► xDS (7071) ⇢ proxies
//! API and dashboard (7070), behind the guard; enrolment and telemetry (7071)
//! ```
//!
//! Everything runs on the control thread; the disk has threads of its own.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context;
use leno_collector::Collector;
use leno_control::allot::Allotments;
use leno_control::source::file::FileSource;
use leno_control::{Control, Options as ControlOptions};
use leno_http::grpc::{self, Status};
use leno_http::limits::Strikes;
use leno_http::service::ServiceHandler;
use leno_model::identity::Role;
use leno_model::seam::Clock;
use leno_net::dial::HostDial;
use leno_net::listen;
use leno_net::places::Places;
use leno_registry::health::Prober;
use leno_registry::{Options as RegistryOptions, Registry};
use leno_runtime::guard::{
    self, AuditHook, Audited, Guard, GuardOptions, Guarded, Hosts, PeerAddress, Routes, TokenSet,
};
use leno_runtime::serve::Serve;
use leno_runtime::signal::{Shutdown, Signals};
use leno_runtime::{Drain, SystemClock, SystemRandom, task};
use leno_store::Store;
use leno_store::memory::MemoryStore;
use leno_store::sqlite::{Options as SqliteOptions, SqliteStore};
use leno_telemetry::Registry as Metrics;
use leno_telemetry::log::LogLevel;
use leno_xds::server::{Server as XdsServer, ServerOptions as XdsOptions};
use leno_xds::status::StatusTable;
use leno_xds::transport;
use tokio::sync::mpsc::error::TrySendError;

use super::view::MeshView;
use crate::args::ServerArgs;
use crate::settings::{self, Setting};

mod api;

/// How long after a start instances may take to come back before their absence is believed.
const WARM_UP: Duration = Duration::from_secs(30);
/// How long an instance that drains waits for its callers to know; less than its proxy waits for the answer.
const TOLD_TIMEOUT: Duration = Duration::from_secs(4);
/// Connections of proxies at a time.
const PROXIES_MAX: usize = 20_000;
/// How often a silent proxy is asked whether it is there.
const PROXY_KEEPALIVE: Duration = Duration::from_secs(20);
/// Refusals that wait to be written.
const REFUSALS_MAX: usize = 256;

/// What the parts of a server share with its APIs.
pub(super) struct Parts {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) control: Control,
    pub(super) allotments: Allotments,
    pub(super) registry: Registry,
    pub(super) status: StatusTable,
    pub(super) collector: leno_collector::wire::Shared,
    pub(super) metrics: Arc<Metrics>,
    pub(super) sqlite: Option<Arc<SqliteStore>>,
    pub(super) settings: Vec<Setting>,
    pub(super) log_level: LogLevel,
    pub(super) started: Duration,
    pub(super) places: Places,
    pub(super) strikes: Arc<Strikes>,
}

/// Runs a server until it is told to stop.
pub async fn run(args: ServerArgs, settings: Vec<Setting>, log_level: LogLevel) -> anyhow::Result<()> {
    let mut signals = Signals::catch()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let data_dir = data_dir(&args)?;
    let (store, sqlite) = open_store(data_dir.as_deref(), &clock)?;
    let tokens = tokens(&args, data_dir.as_deref())?;

    let (registry, registry_driver) =
        Registry::open(store.clone(), clock.clone(), RegistryOptions { warm_up: WARM_UP }).await?;
    let status = StatusTable::new();
    let (control, control_driver) = Control::open(ControlOptions {
        store: store.clone(),
        directory: Arc::new(registry.clone()),
        clock: clock.clone(),
        subscribers: status.clone(),
    })
    .await?;
    let metrics = Arc::new(Metrics::new(1, Default::default()));
    leno_telemetry::process::register(&metrics, env!("CARGO_PKG_VERSION"), clock.wall());
    let allotments = Allotments::new(control.clone(), clock.clone());
    measure(&metrics, status.clone(), registry.clone(), sqlite.clone());
    measure_limits(&metrics, allotments.clone());
    let places = Places::new(args.connections.max(true));
    super::measure_places(&metrics, &places);
    let strikes = Arc::default();
    super::measure_strikes(&metrics, &strikes);
    let collector = Arc::new(Mutex::new(Collector::new(Default::default())));
    let started = clock.monotonic();
    let parts = Arc::new(Parts {
        clock: clock.clone(),
        control: control.clone(),
        allotments,
        registry: registry.clone(),
        status: status.clone(),
        collector: collector.clone(),
        metrics,
        sqlite,
        settings,
        log_level,
        started,
        places,
        strikes,
    });

    let drain = Drain::new();
    drop(task::spawn("registry", registry_driver.run()));
    drop(task::spawn("control", control_driver.run()));
    drop(task::spawn("prober", Prober::new(registry.clone(), Rc::new(HostDial), Box::new(SystemRandom)).run()));
    drop(task::spawn("collector", sweep(collector.clone(), clock.clone())));
    watch_resources(&args, &control).await?;

    let xds = XdsServer::new(Rc::new(control), status, clock.clone(), XdsOptions::default());
    let grpc = serve_grpc(&args, &xds, &parts, &drain).await?;
    let http = serve_http(&args, tokens, &parts, &drain).await?;
    announce(http, grpc, data_dir.as_deref());
    leno_runtime::manager::tell_ready();

    let asked = signals.next().await;
    tracing::info!(signal = asked.signal, "stopping");
    xds.stop();
    drain.start();
    tokio::select! {
        left = drain.finish(args.drain_timeout) => if left > 0 { tracing::warn!(left, "time is over: open requests are cut off") },
        () = async { while signals.next().await.shutdown != Shutdown::Now {} } => {}
    }
    registry.save().await?;
    Ok(())
}

// === what it keeps ===

fn data_dir(args: &ServerArgs) -> anyhow::Result<Option<PathBuf>> {
    if args.in_memory {
        return Ok(None);
    }
    let directory = args.data_dir.clone().unwrap_or_else(settings::default_data_dir);
    make_private(&directory).with_context(|| {
        format!(
            "data directory {}: choose another with --data-dir, or keep nothing with --in-memory",
            directory.display()
        )
    })?;
    Ok(Some(directory))
}

/// Makes a directory that only this user can look into; one that is there stays as it is.
fn make_private(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

type Opened = (Arc<dyn Store>, Option<Arc<SqliteStore>>);

fn open_store(data_dir: Option<&Path>, clock: &Arc<dyn Clock>) -> anyhow::Result<Opened> {
    let Some(directory) = data_dir else { return Ok((Arc::new(MemoryStore::new(clock.clone())), None)) };
    let store = Arc::new(SqliteStore::open(&directory.join("state.db"), clock.clone(), SqliteOptions::default())?);
    Ok((store.clone(), Some(store)))
}

/// The tokens on disk. In memory, the admin's alone: of the file that is named for it, or made now and shown to whoever
/// started the server at a terminal. It is never logged, and nothing is written where nobody asked for it.
fn tokens(args: &ServerArgs, data_dir: Option<&Path>) -> anyhow::Result<TokenSet> {
    if let Some(directory) = data_dir {
        return Ok(guard::server_tokens(directory)?);
    }
    let mut tokens = TokenSet::new();
    match &args.admin_token_file {
        Some(file) => tokens.insert_admin(&guard::admin_token(file)?),
        None => {
            anyhow::ensure!(
                std::io::stdout().is_terminal(),
                "--in-memory: the admin's token is shown on the terminal, and there is none: \
                 name a file for it with --admin-token-file"
            );
            let token = guard::make_token()?;
            writeln!(std::io::stdout(), "the admin's token, until this server ends: {token}")?;
            tokens.insert_admin(&token);
        }
    }
    Ok(tokens)
}

async fn watch_resources(args: &ServerArgs, control: &Control) -> anyhow::Result<()> {
    let Some(directory) = &args.resources else { return Ok(()) };
    anyhow::ensure!(directory.is_dir(), "--resources {}: no directory", directory.display());
    let mut source = FileSource::new(control.clone(), directory);
    let first = source.sync().await;
    for fault in &first.faults {
        tracing::warn!(fault = %fault, "resource file");
    }
    drop(task::spawn("resource-files", source.run()));
    Ok(())
}

async fn sweep(collector: leno_collector::wire::Shared, clock: Arc<dyn Clock>) {
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tick.tick().await;
        collector.lock().unwrap_or_else(PoisonError::into_inner).sweep(clock.monotonic());
    }
}

/// What a server measures of itself.
pub fn measure(metrics: &Metrics, status: StatusTable, registry: Registry, sqlite: Option<Arc<SqliteStore>>) {
    metrics.collector(move |out| {
        use leno_telemetry::metric::Kind;
        let subscribers = status.list();
        let behind = subscribers.iter().filter(|s| s.kinds.iter().any(|kind| !kind.in_effect)).count();
        let rejected = subscribers.iter().filter(|s| s.kinds.iter().any(|kind| kind.rejection.is_some())).count();
        let (services, instances) = registry.counts();
        let mut gauge = |name: &str, help: &str, value: f64| {
            out.family(name, help, Kind::Gauge);
            out.sample(name, &[], value);
        };
        gauge("leno_server_proxies", "Proxies with a configuration stream.", subscribers.len() as f64);
        gauge("leno_server_push_queue", "Proxies that have not everything in effect yet.", behind as f64);
        gauge(
            "leno_server_proxies_rejecting",
            "Proxies that refused something and run with what they had.",
            rejected as f64,
        );
        gauge("leno_server_services", "Services with an instance.", services as f64);
        gauge("leno_server_instances", "Registered instances.", instances as f64);
        let Some(stats) = sqlite.as_ref().map(|store| store.stats()) else { return };
        let mut counter = |name: &str, help: &str, value: f64| {
            out.family(name, help, Kind::Counter);
            out.sample(name, &[], value);
        };
        counter("leno_server_store_commits_total", "Commits of the store.", stats.commits as f64);
        counter("leno_server_store_commit_seconds_total", "Time that commits took.", stats.commit_time.as_secs_f64());
        counter("leno_server_store_failures_total", "Commits that did not succeed.", stats.failures as f64);
    });
}

/// What a server measures of limits that proxies count together.
pub fn measure_limits(metrics: &Metrics, allotments: Allotments) {
    metrics.collector(move |out| {
        use leno_telemetry::metric::Kind;
        let counts = allotments.counts();
        let mut write = |name: &str, help: &str, kind: Kind, value: f64| {
            out.family(name, help, kind);
            out.sample(name, &[], value);
        };
        let (held, help) = (counts.limits as f64, "Limits that proxies count together and that one of them holds.");
        write("leno_server_shared_limits", help, Kind::Gauge, held);
        let help = "Proxies that hold such limits, each once for each limit.";
        write("leno_server_shared_limit_proxies", help, Kind::Gauge, counts.holders as f64);
        let help = "Times that a proxy asked what it may let through of such a limit.";
        write("leno_server_shared_limit_asks_total", help, Kind::Counter, counts.asks as f64);
    });
}

// === listeners ===

/// The port of proxies: configuration, enrolment, telemetry. Plain, therefore on loopback only.
async fn serve_grpc(
    args: &ServerArgs,
    xds: &Rc<XdsServer>,
    parts: &Arc<Parts>,
    drain: &Drain,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(address) = args.grpc_listen.address() else { return Ok(None) };
    anyhow::ensure!(
        address.ip().is_loopback(),
        "--grpc-listen {address}: without identities this port is open to whoever reaches it, so it stays on loopback"
    );
    let listener = bind(address, "grpc")?;
    let bound = listener.local_addr()?;
    let (xds, parts, watch) = (xds.clone(), parts.clone(), drain.watch());
    let serve = Serve {
        task: "proxy-connection",
        options: Rc::new(leno_http::ServerOptions {
            limits: leno_http::Limits { h2_streams: 256, ..transport::limits() },
            strikes: parts.strikes.clone(),
            spawn: Rc::new(leno_runtime::serve::NamedTasks),
            // A proxy whose machine has gone says nothing, and is to be missed all the same.
            keepalive: Some(PROXY_KEEPALIVE),
            ..leno_http::ServerOptions::default()
        }),
        connections_max: PROXIES_MAX,
        places: parts.places.clone(),
    };
    drop(task::spawn("grpc", async move {
        serve.run(listener, watch, |peer| Rc::new(proxy_services(&xds, &parts, peer))).await;
    }));
    Ok(Some(bound))
}

/// Everything that a proxy may call, for the connection of one peer.
fn proxy_services(xds: &Rc<XdsServer>, parts: &Arc<Parts>, peer: SocketAddr) -> grpc::Router {
    let router = xds.routes(grpc::Router::new(), Some(peer.to_string()));
    let origin = leno_registry::Origin::from_peer(peer.ip());
    let router = parts.allotments.serve(router);
    let router = leno_registry::wire::server::add(router, &parts.registry, origin, told(&parts.control));
    let admit = |_: &grpc::Call, _: &leno_telemetry::Report| -> Result<(), Status> { Ok(()) };
    leno_collector::wire::serve(router, parts.collector.clone(), parts.clock.clone(), admit)
}

/// Waits until the proxies that call a service have what its instances are now.
fn told(control: &Control) -> leno_registry::wire::server::Told {
    let control = control.clone();
    Rc::new(move |service| {
        let (revision, subscribers) = (control.look_at(service), control.subscribers().clone());
        Box::pin(async move {
            let progress = subscribers.wait(revision, TOLD_TIMEOUT).await;
            tracing::debug!(in_effect = progress.in_effect, pending = ?progress.pending, "told of an instance that drains");
        })
    })
}

/// The port of people and tools: API and dashboard behind the guard.
async fn serve_http(
    args: &ServerArgs,
    tokens: TokenSet,
    parts: &Arc<Parts>,
    drain: &Drain,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(address) = args.http_listen.address() else { return Ok(None) };
    let listener = bind(address, "http")?;
    let bound = listener.local_addr()?;
    let hosts = args.allow_hosts.iter().fold(Hosts::loopback(), |hosts, name| hosts.and(name)).given_by("--allow-host");
    let (audit, refused) = audit(parts.control.clone());
    let links = Arc::new(OnceLock::new());
    let routes = routes(parts, &links, drain);
    let guard = Arc::new(Guard::new(GuardOptions {
        tokens: Some(tokens),
        hosts,
        public: routes.public_paths(),
        audit: Some(audit.clone()),
        clock: parts.clock.clone(),
    }));
    let _ = links.set(guard.clone());
    let router = routes.into_router(Some(audit));
    let serve = Serve { places: parts.places.clone(), ..Serve::counting("api-connection", parts.strikes.clone()) };
    let watch = drain.watch();
    drop(task::spawn("audit", refused));
    drop(task::spawn("http", async move {
        serve
            .run(listener, watch, |peer| {
                let guarded = Guarded::new(guard.clone(), router.clone());
                Rc::new(ServiceHandler::new(guarded).with_extensions(move |extensions| {
                    extensions.insert(PeerAddress(peer.ip()));
                }))
            })
            .await;
    }));
    Ok(Some(bound))
}

/// Every route of the API and the dashboard, each with the role that it needs.
fn routes(parts: &Arc<Parts>, links: &api::Links, drain: &Drain) -> Routes {
    leno_control::api::routes(parts.control.clone())
        .and(leno_control::allot::routes(parts.allotments.clone()))
        .and(leno_registry::api::routes(parts.registry.clone()))
        .and(leno_dashboard::routes(Arc::new(MeshView(parts.clone(), drain.watch()))))
        .and(api::routes(parts.clone(), links.clone()))
        .listed_at("/api/v1/routes", Role::Viewer)
}

/// Where the guard and the routes tell the audit log, and what writes refusals of the unknown there. What somebody known
/// did or was refused is written before it is answered. Whoever has no credential waits for no disk and costs little of
/// it: those refusals are queued, written many at a time, and only logged when there are too many.
fn audit(control: Control) -> (AuditHook, impl Future<Output = ()>) {
    let (refusals, mut refused) = tokio::sync::mpsc::channel::<Audited>(REFUSALS_MAX);
    let (log, written) = (control.audit().clone(), control.audit().hook());
    let write = async move {
        let mut batch = Vec::new();
        while refused.recv_many(&mut batch, REFUSALS_MAX).await > 0 {
            log.record(std::mem::take(&mut batch)).await;
        }
    };
    let hook: AuditHook = Arc::new(move |audited| {
        if audited.principal.is_some() {
            return written(audited);
        }
        if let Err(error) = refusals.try_send(audited) {
            let (TrySendError::Full(audited) | TrySendError::Closed(audited)) = error;
            tracing::warn!(path = audited.object, why = audited.outcome, "refusal stands here alone");
        }
        Box::pin(std::future::ready(()))
    });
    (hook, write)
}

fn bind(address: SocketAddr, name: &str) -> anyhow::Result<tokio::net::TcpListener> {
    let listener = listen::bind_one(address).and_then(listen::attach);
    listener.with_context(|| {
        format!("listen on {address}: choose another address with --{name}-listen, or stop what listens there")
    })
}

/// What a person who started the server wants to know.
fn announce(http: Option<SocketAddr>, grpc: Option<SocketAddr>, data_dir: Option<&Path>) {
    let kept = data_dir.map_or_else(|| "in memory".to_owned(), |directory| directory.display().to_string());
    let shown = |address: Option<SocketAddr>| address.map_or_else(|| "off".to_owned(), |address| address.to_string());
    tracing::info!(http = shown(http), grpc = shown(grpc), data = kept, "server ready");
}
