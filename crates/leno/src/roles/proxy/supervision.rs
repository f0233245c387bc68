//! A proxy under `leno run`: its sockets come from the supervisor, its names from DNS answers that it gives itself.

use std::net::{IpAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context;
use leno_dns::address::{VirtualAddresses, is_virtual};
use leno_dns::resolver::{Answer, Names, Options, Resolver, Verdict};
use leno_dns::server;
use leno_dns::upstream::{ResolvConf, Upstream};
use leno_model::name::ServiceName;
use leno_model::seam::Clock;
use leno_net::Address;
use leno_net::dial::NamespaceDial;
use leno_proxy::lookup::Found;
use leno_proxy::{Application, Commands, Key, Lookup, Purpose, Shared, VirtualNames};
use leno_runtime::{Ready, SystemRandom, task};
use leno_xds::node::NodeInfo;

use super::{control_plane, enrol_at};
use crate::args::ProxyArgs;
use crate::line::Line;
use crate::settings::ApplicationPort;
use crate::supervised::{Handed, Message, ProgramPort};

/// Seconds for which a program may remember a virtual address.
const TTL: u32 = 60;

/// What the supervisor handed over, before the workers start.
pub(super) struct Supervision {
    line: Line<Message>,
    handed: Vec<(Handed, OwnedFd)>,
    addresses: Arc<VirtualAddresses>,
}

/// A supervised proxy that runs.
pub(super) struct Supervised {
    line: Line<Message>,
    args: ProxyArgs,
    node: NodeInfo,
    commands: Commands,
    shared: Arc<Shared>,
    ready: Ready,
    pub(super) enrolment: Option<control_plane::Enrolment>,
}

// === impl Supervision ===

impl Supervision {
    /// Takes the descriptors from standard input.
    pub(super) async fn begin() -> anyhow::Result<Self> {
        let mut line = Line::of_stdin().context("--supervised: standard input is no supervisor; use `leno run`")?;
        let Some((Message::Take(names), fds)) = line.next().await? else {
            anyhow::bail!("--supervised: the supervisor handed over nothing; use `leno run`");
        };
        let handed = names.into_iter().zip(fds).collect();
        Ok(Self { line, handed, addresses: Arc::new(VirtualAddresses::new()) })
    }

    /// Gives the services of a table that was kept on disk their addresses, which the program may remember.
    pub(super) fn remember(&self, held: &leno_proxy::held::Held) {
        for listener in held.listeners.values() {
            if let Some(service) = &listener.resource.service {
                self.addresses.address(service);
            }
        }
    }

    /// Turns virtual addresses back into names.
    pub(super) fn virtual_names(&self) -> Arc<dyn VirtualNames> {
        Arc::new(NamesOf(self.addresses.clone()))
    }

    /// A channel for each worker to dial the program by.
    pub(super) fn channels(&self, workers: usize) -> anyhow::Result<Vec<StdUnixStream>> {
        let sockets =
            self.handed.iter().find(|(name, _)| *name == Handed::Sockets).context("no way to dial the program")?;
        let sockets = StdUnixStream::from(sockets.1.try_clone()?);
        (0..workers).map(|_| Ok(NamespaceDial::open_channel(&sockets)?)).collect()
    }

    /// Accepts what the program sends and answers its DNS queries.
    pub(super) async fn serve(
        mut self,
        args: &ProxyArgs,
        node: &NodeInfo,
        commands: &Commands,
        shared: &Arc<Shared>,
    ) -> anyhow::Result<Supervised> {
        let resolver = Rc::new(self.resolver(node, shared));
        let mut captured = 0;
        for (name, fd) in self.handed.drain(..) {
            match name {
                Handed::Outbound => {
                    commands.adopt(Key::Captured(captured), Purpose::Outbound, TcpListener::from(fd)).await?;
                    captured += 1;
                }
                Handed::DnsUdp => {
                    let (socket, resolver) = (attach_udp(fd.into())?, resolver.clone());
                    drop(task::spawn("dns-udp", async move { server::serve_udp(socket, &resolver).await }));
                }
                Handed::DnsTcp => {
                    let (listener, resolver) = (leno_net::listen::attach(fd.into())?, resolver.clone());
                    drop(task::spawn("dns-tcp", async move { server::serve_tcp(listener, &resolver).await }));
                }
                Handed::Sockets => {}
            }
        }
        self.line.send(&Message::Started, &[]).await?;
        Ok(Supervised {
            line: self.line,
            args: args.clone(),
            node: node.clone(),
            commands: commands.clone(),
            shared: shared.clone(),
            ready: Ready::new(),
            enrolment: None,
        })
    }

    fn resolver(&self, node: &NodeInfo, shared: &Arc<Shared>) -> Resolver<MeshNames> {
        let conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let options = Options { namespace: node.namespace.clone(), ttl: TTL, ipv6: true };
        let names = MeshNames { lookup: shared.lookup.clone(), clock: shared.clock.clone() };
        let upstream = Upstream::new(ResolvConf::parse(&conf), Box::new(SystemRandom));
        Resolver::new(options, names, self.addresses.clone(), upstream, &shared.metrics)
    }
}

// === impl Supervised ===

impl Supervised {
    /// Says that everything is finished. A supervisor that is gone does not need to hear it.
    pub(super) async fn say_drained(&self) {
        let _ = self.line.send(&Message::Drained, &[]).await;
    }

    async fn take_ports(&mut self, ports: Vec<ProgramPort>, fds: Vec<OwnedFd>) -> anyhow::Result<()> {
        let mut opened = Vec::new();
        for (port, fd) in ports.into_iter().zip(fds) {
            let listener = TcpListener::from(fd);
            let bound = listener.local_addr()?;
            let application = Application {
                service: self.args.service.clone(),
                port: port.port,
                address: Address::Tcp(port.address),
                protocol: port.protocol,
            };
            let purpose = Purpose::Inbound(Arc::new(application.destination(&self.shared.metrics)));
            self.commands.adopt(Key::Inbound(port.port), purpose, listener).await?;
            tracing::info!(address = %bound, port = port.port, application = %port.address, "inbound");
            opened.push((ApplicationPort { port: port.port, protocol: port.protocol, address: None }, bound));
        }
        let gate = self.ready.gate("registration", "no server has answered");
        self.enrolment = enrol_at(&self.args, &self.node, &opened, gate);
        Ok(())
    }
}

/// Does what the supervisor says until it says that it is over, or is gone.
pub(super) async fn follow(supervised: &mut Option<Supervised>) {
    let Some(supervised) = supervised else { return };
    let mut told = false;
    let mut look = tokio::time::interval(std::time::Duration::from_secs(5));
    look.reset();
    loop {
        tokio::select! {
            message = supervised.line.next() => match message {
                Ok(Some((Message::Ports(ports), fds))) => {
                    if let Err(error) = supervised.take_ports(ports, fds).await {
                        tracing::error!(%error, "the program's ports are not served");
                    }
                }
                Ok(Some((Message::Drain, _))) | Ok(None) => return,
                Ok(Some(_)) => {}
                Err(error) => return tracing::error!(%error, "the supervisor is not understood"),
            },
            () = supervised.ready.wait(), if !told && supervised.enrolment.is_some() => {
                told = true;
                let _ = supervised.line.send(&Message::Ready, &[]).await;
            }
            _ = look.tick(), if !told && supervised.enrolment.is_some() => {
                let missing: Vec<String> = supervised.ready.missing().into_iter().map(|missing| missing.why).collect();
                let _ = supervised.line.send(&Message::Waiting(missing.join("; ")), &[]).await;
            }
        }
    }
}

fn attach_udp(socket: std::net::UdpSocket) -> std::io::Result<tokio::net::UdpSocket> {
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket)
}

// === names ===

/// What the table says about names, for DNS.
struct MeshNames {
    lookup: Lookup,
    clock: Arc<dyn Clock>,
}

impl Names for MeshNames {
    fn exists(&self, name: &ServiceName) -> Answer {
        answer(&self.lookup.get(&name.host(), || self.clock.monotonic()))
    }

    fn wait<'a>(&'a self, name: &'a ServiceName) -> Verdict<'a> {
        Box::pin(async move { answer(&self.lookup.find(&name.host().into(), || self.clock.monotonic()).await) })
    }
}

fn answer(found: &Found) -> Answer {
    match found {
        Found::Destination(_) => Answer::Mesh,
        Found::Absent => Answer::NotMesh,
        Found::Unknown => Answer::Unknown,
    }
}

/// Virtual addresses as the request path asks about them.
struct NamesOf(Arc<VirtualAddresses>);

impl VirtualNames for NamesOf {
    fn name_of(&self, address: IpAddr) -> Option<String> {
        self.0.name(address).map(|service| service.host())
    }

    fn is_virtual(&self, address: IpAddr) -> bool {
        is_virtual(address)
    }
}
