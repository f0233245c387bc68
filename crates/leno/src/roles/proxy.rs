//! `leno proxy`: the data plane beside one workload, or at the edge.
//!
//! ```text
//! start: log ─► table from disk ─► workers ─► listeners ─► subscription ─► registration ─► ready
//! stop:  draining in the registry ─► listeners closed ─► open requests ─► deregistered
//! hand-over (SIGUSR2, --take-over): listeners given to a new process ─► open requests; it stays registered
//! ```

use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use leno_model::instance::{Instance, InstancePort, InstanceStatus, Visibility};
use leno_model::seam::{Clock, Random};
use leno_net::Address;
use leno_net::dial::{Dial, HostDial, NamespaceDial};
use leno_net::places::Places;
use leno_proxy::held::Held;
use leno_proxy::listener;
use leno_proxy::subscribe::{self, Subscriber};
use leno_proxy::table::Builder;
use leno_proxy::udp::Udp;
use leno_proxy::{Commands, InFront, OutboundDefault, Shared, Worker, lookup, pressure, snapshot_file};
use leno_runtime::memory::{HostFiles, Memory};
use leno_runtime::processors::Processors;
use leno_runtime::serve::NamedTasks;
use leno_runtime::signal::{Shutdown, Signals, Told};
use leno_runtime::threads::WORKER_PREFIX;
use leno_runtime::{Drain, Ready, SystemClock, SystemRandom, Workers, task, watchdog};
use leno_telemetry::access::{AccessLog, Format};
use leno_telemetry::edge::Peer;
use leno_telemetry::lines::{LineQueue, Target};
use leno_telemetry::log::LogLevel;
use leno_telemetry::metric::shard;
use leno_telemetry::report::{Origin, Reporter};
use leno_telemetry::{EdgeKey, Registry};
use leno_tls::Holder;
use leno_xds::client::{ClientOptions, Event, Subscriptions, client};
use leno_xds::node::NodeInfo;
use leno_xds::transport::GrpcServers;
use tokio::sync::mpsc;

use super::control_plane;
use crate::args::{AccessLogFormat, AllowDeny, ProxyArgs, ProxyRole};
use crate::settings::Setting;

mod admin;
mod allotments;
mod handover;
mod listeners;
mod node;
mod supervision;

use admin::{Control, Shown};
use handover::{HandOver, Successor, Taking};
use listeners::{listener_name, open_listeners, watch_bound};
pub(crate) use node::own_id;
use node::{limits_of, node_of, source_name, workers_of};
use supervision::{Supervised, Supervision};

/// How long the last access lines may take to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the files of certificates are looked at.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(1);
/// How long sockets that were taken over wait for a listener that a gateway may still be told of.
const REST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an edge is shown after its last request.
const EDGE_IDLE: Duration = Duration::from_secs(3600);
/// How long connections may take to close after a hand-over, once nothing is asked on them any more.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a proxy until it is told to stop or another process has taken over.
pub async fn run(mut args: ProxyArgs, settings: Vec<Setting>, log_level: LogLevel) -> anyhow::Result<()> {
    let mut signals = Signals::catch()?;
    let supervision = if args.supervised { Some(Supervision::begin().await?) } else { None };
    let taking = Taking::begin(&args).await?;
    if let Some(taking) = &taking {
        // The same instance, unless it was given another name.
        args.enrol.instance.get_or_insert_with(|| taking.instance.clone());
    }
    let mut started = start(args, settings, log_level, supervision, taking).await?;
    let end = live(&mut started, &mut signals).await?;
    let enrolment = match &mut started.supervised {
        Some(supervised) => supervised.enrolment.take(),
        None => started.enrolment.take(),
    };
    let enrolment = match &end {
        End::BeforeItBegan => return Ok(()),
        // Whoever took over keeps it registered.
        End::HandedOver(successor) if successor.is_same => None,
        End::HandedOver(_) | End::Stopped => enrolment,
    };
    if let Some(enrolled) = &enrolment {
        enrolled.drain().await;
    }
    started.commands.let_go();
    let drain_timeout = match end {
        End::HandedOver(_) => {
            leave(&started, &mut signals).await;
            LEAVE_TIMEOUT
        }
        _ => started.drain_timeout,
    };
    started.drain.start();
    tokio::select! {
        left = started.drain.finish(drain_timeout) => {
            if left > 0 {
                tracing::warn!(left, "time is over: open requests are cut off");
            }
        }
        // A second signal: at once.
        () = async { while signals.next().await.shutdown != Shutdown::Now {} } => {}
    }
    started.drain.stop();
    if let Some(supervised) = &started.supervised {
        supervised.say_drained().await;
    }
    if let Some(enrolled) = enrolment {
        enrolled.leave().await;
    }
    started.workers.all_ended().await;
    // Lines are gathered before they are written; the last ones are still in the queue.
    if started.access.is_some_and(|access| !access.queue().flush(FLUSH_TIMEOUT)) {
        tracing::warn!("the last access lines were not written in time");
    }
    Ok(())
}

/// Why a proxy ends.
enum End {
    /// It was told to.
    Stopped,
    /// It was told to while another process still has everything.
    BeforeItBegan,
    /// Another process has everything.
    HandedOver(Successor),
}

/// Serves, and hands over to whoever asks, until it ends.
async fn live(started: &mut Started, signals: &mut Signals) -> anyhow::Result<End> {
    let Started { node, workers, ready, commands, supervised, hand_over, taking, .. } = started;
    let mut begins = taking.is_none();
    let mut ready = Box::pin(begin(node, ready, commands, taking.take()));
    let (mut is_ready, is_supervised) = (supervised.is_some(), supervised.is_some());
    type Giving<'a> = std::pin::Pin<Box<dyn Future<Output = anyhow::Result<Successor>> + 'a>>;
    let mut giving: Option<Giving<'_>> = None;
    loop {
        tokio::select! {
            told = signals.told() => match told {
                Told::End(asked) => {
                    tracing::info!(signal = asked.signal, "stopping");
                    return Ok(if begins { End::Stopped } else { End::BeforeItBegan });
                }
                Told::HandOver if giving.is_some() || !begins => {
                    tracing::warn!("SIGUSR2 ignored: a hand-over is on its way");
                }
                Told::HandOver => giving = Some(Box::pin(hand_over.to_new())),
            },
            Some(worker) = workers.ended() => {
                anyhow::bail!("worker {} ended: {}", worker.worker.0, worker.panic.unwrap_or_default())
            }
            () = supervision::follow(supervised), if is_supervised => return Ok(End::Stopped),
            begun = &mut ready, if !is_ready => {
                begun?;
                (is_ready, begins) = (true, true);
            }
            line = hand_over.asked(), if giving.is_none() && begins => giving = Some(Box::pin(hand_over.to(line))),
            given = async { giving.as_mut().expect("there is one").await }, if giving.is_some() => {
                giving = None;
                match given {
                    Ok(successor) => return Ok(End::HandedOver(successor)),
                    Err(error) => tracing::error!(error = %format!("{error:#}"), "no hand-over: this process goes on"),
                }
            }
        }
    }
}

/// Waits until everything is ready, and takes the place of the process before, if there is one.
async fn begin(node: &NodeInfo, ready: &Ready, commands: &Commands, taking: Option<Taking>) -> anyhow::Result<()> {
    ready.wait().await;
    if let Some(taking) = taking {
        taking.finish(&node.id, commands).await.context("taking over")?;
        let commands = commands.clone();
        drop(task::spawn("take-over-rest", async move {
            tokio::time::sleep(REST_TIMEOUT).await;
            commands.close_rest();
        }));
    }
    tracing::info!(proxy = %node.id, "ready");
    leno_runtime::manager::tell_ready();
    if let Err(error) = leno_net::text::release() {
        tracing::debug!(error = %error, "the code of the start stays resident");
    }
    Ok(())
}

/// After a hand-over: ends what is open, each connection with an answer that says so.
async fn leave(started: &Started, signals: &mut Signals) {
    tracing::info!(open = started.drain.open(), "handed over, leaving");
    started.control_drain.start();
    tokio::select! {
        left = started.drain.leave(started.drain_timeout) => if left > 0 {
            tracing::info!(left, "connections that are still open are closed");
        },
        _ = signals.next() => {}
    }
}

/// A proxy that has started.
struct Started {
    node: NodeInfo,
    workers: Workers,
    drain: Drain,
    drain_timeout: Duration,
    ready: Ready,
    enrolment: Option<control_plane::Enrolment>,
    supervised: Option<Supervised>,
    access: Option<AccessLog>,
    commands: Commands,
    hand_over: HandOver,
    taking: Option<Taking>,
    /// Of the listeners that the control thread serves, which go on while the proxy drains.
    control_drain: Drain,
}

async fn start(
    args: ProxyArgs,
    settings: Vec<Setting>,
    log_level: LogLevel,
    supervision: Option<Supervision>,
    mut taking: Option<Taking>,
) -> anyhow::Result<Started> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let node = node_of(&args);
    let count = workers_of(&args);
    let metrics = Arc::new(Registry::new(count + 1, Default::default()));
    leno_telemetry::process::register(&metrics, env!("CARGO_PKG_VERSION"), clock.wall());
    let places = Places::new(args.connections.max(args.role == ProxyRole::Gateway));
    super::measure_places(&metrics, &places);
    let strikes = Arc::default();
    super::measure_strikes(&metrics, &strikes);
    let drain = Drain::new();
    let ready = Ready::new();

    if let Some(directory) = &args.data_dir {
        std::fs::create_dir_all(directory).with_context(|| format!("data directory {}", directory.display()))?;
    }
    // Files that are there say what holds now; what held before is for when no server answers.
    let kept_in = args.data_dir.as_ref().filter(|_| args.resources.is_none());
    let file = kept_in.map(|directory| directory.join("proxy-snapshot.json"));
    let held = match taking.as_mut().and_then(|taking| taking.held.take()) {
        Some(held) if args.resources.is_none() => held,
        _ => read_held(file.as_deref()),
    };
    supervision.iter().for_each(|supervision| supervision.remember(&held));
    let (lookup, tables) = lookup::tables();
    leno_proxy::measure(&metrics, &lookup, &clock);
    let source = Peer::from(args.service.clone());
    let access = access_log(&args)?;
    access.iter().for_each(|access| access.register(&metrics));
    let shared = Arc::new(Shared {
        lookup,
        inbound: Arc::default(),
        namespace: node.namespace.as_str().into(),
        source_name: source_name(&args),
        node: node.id.clone(),
        outbound_default: match args.outbound_default {
            AllowDeny::Allow => OutboundDefault::Allow,
            AllowDeny::Deny => OutboundDefault::Deny,
        },
        gateway: args.role == ProxyRole::Gateway,
        limits: limits_of(&args),
        strikes,
        places: places.clone(),
        strain: Arc::default(),
        in_front: in_front(&args, &metrics),
        clock: clock.clone(),
        access: access.clone(),
        metrics: metrics.clone(),
        unrouted: metrics.edge(&EdgeKey { source: source.clone(), ..EdgeKey::default() }),
        passthrough: metrics.edge(&EdgeKey {
            source: source.clone(),
            destination: Peer::Passthrough,
            ..EdgeKey::default()
        }),
        virtual_names: supervision.as_ref().map(Supervision::virtual_names),
        drain: drain.watch(),
    });

    let channels = supervision.as_ref().map(|supervision| supervision.channels(count)).transpose()?;
    let (commands, workers) = start_workers(&shared, count, channels)?;
    commands.measure(&metrics);
    taking.iter_mut().for_each(|taking| taking.share(&commands));
    let edge = EdgeKey { source, source_version: args.enrol.version.as_deref().map(Into::into), ..EdgeKey::default() };
    pressure::measure(&metrics, shared.strain.clone());
    let memory = Memory::new(HostFiles, args.pressure.memory_max);
    let watched = pressure::watch(shared.strain.clone(), memory, args.pressure.thresholds(), drain.handle());
    drop(task::spawn("memory", watched));
    let bounds = args.pressure.bounds();
    if !bounds.is_none() {
        let lateness = || watchdog::lateness(WORKER_PREFIX);
        let watched = pressure::watch_busy(shared.strain.clone(), Processors::new(HostFiles), lateness, bounds);
        drop(task::spawn("busy", watched));
    }
    let certificates = Holder::new(args.certificates.clone());
    certificates.measure(&metrics);
    drop(task::spawn("certificates", refresh(certificates.clone(), clock.clone())));
    let builder = Builder::new(edge, SystemRandom.next_u64(), metrics.clone()).with_caller(node::facts_of(&args));
    let builder = builder.with_certificates(certificates.clone(), clock.clone());
    allotments::keep(&args, &node, builder.shared_limits(), clock.clone());
    let sync_gate = ready.gate("configuration", "no server has answered and nothing is on disk");
    let (subscriptions, events) = subscription(&args, &node, &held).await?;
    let options = subscribe::Options {
        pinned: args.to.iter().map(|to| listener_name(&to.destination, &node.namespace)).collect::<Result<_, _>>()?,
        inbound: args.service.clone().map(|service| (service, shared.inbound.clone())),
        gateway: args.role == ProxyRole::Gateway,
        file,
        clock: clock.clone(),
    };
    let subscriber = Subscriber::new(options, subscriptions, tables, builder, held);
    let copies = subscriber.copies();
    watch_sync(subscriber.sync(), sync_gate);
    if args.role == ProxyRole::Gateway {
        watch_bound(
            subscriber.bound(),
            commands.clone(),
            shared.clone(),
            Udp::new(args.udp_sessions_max, &metrics),
            ready.gate("gateway", "no listener is open yet"),
        );
    }
    drop(task::spawn("subscriber", subscriber.run(events)));
    drop(task::spawn("metrics-sweep", sweep(metrics.clone(), clock.clone())));

    let ports = open_listeners(&args, &node, &commands, &metrics).await?;
    let enrolment = enrol(&args, &node, ports, &ready).await;
    report(&args, &node, &shared);
    let supervised = match supervision {
        Some(supervision) => Some(supervision.serve(&args, &node, &commands, &shared).await?),
        None => None,
    };
    let control_drain = Drain::new();
    let control = Control { commands: &commands, drain: &control_drain };
    admin::open(&args, control, &shared, &metrics, &ready, Shown { settings, log_level, certificates })?;
    let hand_over = HandOver {
        socket: if args.supervised { None } else { handover::listen(&args, &commands)? },
        commands: commands.clone(),
        copies,
        node: node.id.clone(),
        refused: args.supervised.then_some("the supervisor of `leno run` replaces this proxy when it ends"),
    };
    Ok(Started {
        node,
        workers,
        drain,
        drain_timeout: args.drain_timeout,
        ready,
        enrolment,
        supervised,
        access,
        commands,
        hand_over,
        taking,
        control_drain,
    })
}

// === what it starts with ===

fn access_log(args: &ProxyArgs) -> anyhow::Result<Option<AccessLog>> {
    let format = match args.access_log {
        AccessLogFormat::Off => return Ok(None),
        AccessLogFormat::Text => Format::Text,
        AccessLogFormat::Json => Format::Json,
    };
    let target = match &args.access_log_file {
        Some(file) => Target::File(file.clone()),
        None => Target::Stdout,
    };
    Ok(Some(AccessLog::new(format, LineQueue::start("access", &target)?)))
}

/// The proxies in front that say for whom they come.
fn in_front(args: &ProxyArgs, metrics: &Registry) -> Option<InFront> {
    let networks = &args.proxy_protocol_from;
    (!networks.is_empty()).then(|| InFront::new(networks.clone(), metrics))
}

fn read_held(file: Option<&std::path::Path>) -> Held {
    let Some(file) = file else { return Held::default() };
    snapshot_file::read(file).unwrap_or_else(|error| {
        tracing::warn!(file = %file.display(), %error, "last good state put aside; starting without it");
        Held::default()
    })
}

// === what runs ===

/// Starts the workers; with `channels`, the application is dialled through them.
fn start_workers(
    shared: &Arc<Shared>,
    count: usize,
    channels: Option<Vec<StdUnixStream>>,
) -> anyhow::Result<(Commands, Workers)> {
    let (commands, commanded) = Commands::new(count);
    let mut commanded = commanded.into_iter();
    let mut channels = channels.into_iter().flatten();
    let workers = Workers::start(count, |index| {
        let commanded = commanded.next().expect("as many ends as workers");
        let (shared, channel) = (shared.clone(), channels.next());
        move || async move {
            shard::enter(index.0 + 1);
            let application: Rc<dyn Dial> = match channel.map(NamespaceDial::new) {
                None => Rc::new(HostDial),
                Some(Ok(dial)) => Rc::new(dial),
                Some(Err(error)) => return tracing::error!(%error, "worker without a way to the program"),
            };
            listener::run(Worker::new(shared, Rc::new(HostDial), application), commanded).await;
        }
    })?;
    Ok((commands, workers))
}

async fn subscription(
    args: &ProxyArgs,
    node: &NodeInfo,
    held: &Held,
) -> anyhow::Result<(Subscriptions, mpsc::Receiver<Event>)> {
    let (servers, dial): (Vec<Address>, Rc<dyn Dial>) = match &args.resources {
        Some(resources) => {
            (vec![control_plane::embedded_address()], Rc::new(control_plane::embedded(resources).await?))
        }
        None => (
            args.enrol.servers.iter().map(|server| server_address(server)).collect::<anyhow::Result<_>>()?,
            Rc::new(HostDial),
        ),
    };
    let options = ClientOptions { held: held.versions(), ..ClientOptions::new(node.clone()) };
    let connect = GrpcServers::new(servers, dial, Rc::new(NamedTasks));
    let (subscriptions, events, driver) = client(options, connect, SystemRandom);
    drop(task::spawn("xds-client", driver));
    Ok((subscriptions, events))
}

/// `10.0.0.1:7071`, `unix:PATH`; host names are resolved once, at the start.
pub(super) fn server_address(text: &str) -> anyhow::Result<Address> {
    use std::net::ToSocketAddrs;
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let mut addresses = text.to_socket_addrs().with_context(|| format!("--server {text}: write ADDRESS:PORT"))?;
    addresses.next().map(Address::Tcp).with_context(|| format!("--server {text}: the name does not resolve"))
}

fn watch_sync(mut sync: tokio::sync::watch::Receiver<subscribe::Sync>, gate: leno_runtime::ready::Gate) {
    drop(task::spawn("sync-gate", async move {
        loop {
            let (usable, words) = {
                let sync = sync.borrow_and_update();
                (sync.connected || sync.from_disk, sync.words.clone())
            };
            if usable {
                return gate.open();
            }
            if !words.is_empty() {
                gate.close(format!("no server has answered and nothing is on disk: {words}"));
            }
            if sync.changed().await.is_err() {
                return;
            }
        }
    }));
}

/// Registers the instance, if there is one, and keeps it registered.
async fn enrol(
    args: &ProxyArgs,
    node: &NodeInfo,
    ports: Vec<(crate::settings::ApplicationPort, SocketAddr)>,
    ready: &Ready,
) -> Option<control_plane::Enrolment> {
    if ports.is_empty() || args.service.is_none() || args.resources.is_some() {
        return None;
    }
    let gate = ready.gate("registration", "the instance is not registered yet");
    enrol_at(args, node, &ports, gate)
}

/// Registers the instance behind these inbound ports, if it is one of a service.
fn enrol_at(
    args: &ProxyArgs,
    node: &NodeInfo,
    ports: &[(crate::settings::ApplicationPort, SocketAddr)],
    gate: leno_runtime::ready::Gate,
) -> Option<control_plane::Enrolment> {
    let service = args.service.clone()?;
    let inbound = ports[0].1.ip();
    let advertised =
        args.advertise.unwrap_or(if inbound.is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { inbound });
    let id = node.id.rsplit_once('/').map_or(node.id.as_str(), |(_, id)| id);
    let instance = Instance {
        id: id.into(),
        service,
        address: advertised,
        ports: ports
            .iter()
            .map(|(port, bound)| InstancePort {
                number: port.port,
                name: None,
                protocol: port.protocol,
                proxy_port: Some(bound.port()),
            })
            .collect(),
        proxy_address: Some(advertised),
        weight: args.enrol.weight,
        version: args.enrol.version.as_deref().map(Into::into),
        zone: args.enrol.zone.as_deref().map(Into::into),
        region: args.enrol.region.as_deref().map(Into::into),
        status: InstanceStatus::Up,
        visibility: Visibility::All,
        metadata: args.enrol.labels.iter().cloned().collect(),
        health_check: None,
        lease: Some(args.lease),
        source: "run".into(),
    };
    let servers = args.enrol.servers.iter().filter_map(|server| server_address(server).ok()).collect();
    Some(control_plane::Enrolment::start(servers, instance, gate))
}

/// Takes in certificates that have changed.
async fn refresh(certificates: Arc<Holder>, clock: Arc<dyn Clock>) {
    let mut tick = tokio::time::interval(CERTIFICATES_EVERY);
    loop {
        tick.tick().await;
        certificates.refresh(clock.wall());
    }
}

/// Forgets edges that nothing has run on for long.
async fn sweep(metrics: Arc<Registry>, clock: Arc<dyn Clock>) {
    let mut tick = tokio::time::interval(Duration::from_secs(10));
    loop {
        tick.tick().await;
        metrics.sweep(clock.monotonic(), EDGE_IDLE);
    }
}

/// Tells the server what is counted, so that it can show numbers.
fn report(args: &ProxyArgs, node: &NodeInfo, shared: &Arc<Shared>) {
    if args.resources.is_some() {
        return;
    }
    let (metrics, clock) = (shared.metrics.clone(), shared.clock.clone());
    let origin = Origin {
        proxy: node.id.clone(),
        incarnation: clock.wall().0,
        service: args.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        instance: node.id.rsplit_once('/').map_or(node.id.clone(), |(_, id)| id.to_owned()),
        version: node.version.clone(),
        role: if args.role == ProxyRole::Gateway { "gateway".to_owned() } else { "sidecar".to_owned() },
    };
    let servers: Vec<Address> = args.enrol.servers.iter().filter_map(|server| server_address(server).ok()).collect();
    let (shared, beside) = (shared.clone(), args.service.clone());
    let policies = move || leno_proxy::report::policies(&shared, beside.as_ref());
    drop(task::spawn("report", async move {
        let mut reporter = Reporter::new(origin).with_policies(policies);
        let mut attempt = 0;
        loop {
            if let Some(client) = control_plane::connect(&servers, attempt).await {
                let status = leno_collector::wire::report_until_lost(&client, &mut reporter, &metrics, &*clock).await;
                tracing::debug!(error = %status, "reports interrupted");
            }
            attempt += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }));
}
