//! The listeners of a proxy: those of the command line, and those that a gateway is told of.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use leno_model::name::ServiceName;
use leno_model::snapshot::Name;
use leno_net::Address;
use leno_proxy::listener::{Key, Purpose};
use leno_proxy::udp::Udp;
use leno_proxy::{Application, Commands, Shared};
use leno_runtime::task;
use leno_telemetry::Registry;
use leno_xds::node::NodeInfo;

use crate::args::ProxyArgs;

/// How long until a gateway's listener that could not be opened is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// The listener's name for a destination as people write it.
pub(super) fn listener_name(destination: &str, namespace: &str) -> anyhow::Result<Name> {
    let (service, port) = match destination.split_once(':') {
        Some((service, port)) => (service, Some(port)),
        None => (destination, None),
    };
    let service =
        ServiceName::from_host(service, namespace).with_context(|| format!("--to {destination}: no service name"))?;
    Ok(match port {
        Some(port) => format!("{}:{port}", service.host()).into(),
        None => service.host().into(),
    })
}

/// Opens and closes a gateway's listeners as they come and go.
pub(super) fn watch_bound(
    mut bound: tokio::sync::watch::Receiver<Vec<Arc<leno_model::snapshot::Listener>>>,
    commands: Commands,
    shared: Arc<Shared>,
    udp: Udp,
    gate: leno_runtime::ready::Gate,
) {
    drop(task::spawn("gateway-listeners", async move {
        let mut open: std::collections::BTreeMap<Name, u16> = Default::default();
        let (mut swaps, mut drain) = (shared.lookup.swaps(), shared.drain.clone());
        loop {
            let mut failed = false;
            let wanted: Vec<_> = bound.borrow_and_update().clone();
            let gone: Vec<Name> = open
                .iter()
                .filter(|(name, port)| {
                    !wanted.iter().any(|listener| listener.name == **name && listener.port == **port)
                })
                .map(|(name, _)| name.clone())
                .collect();
            for name in gone {
                commands.close(&Key::Gateway(name.clone())).await;
                open.remove(&name);
            }
            for listener in &wanted {
                let table = shared.lookup.table();
                let Some(destination) = table.destination(&listener.name) else { continue };
                if open.contains_key(&listener.name) {
                    continue;
                }
                let (key, address) =
                    (Key::Gateway(listener.name.clone()), SocketAddr::from(([0, 0, 0, 0], listener.port)));
                let opened = match listener.udp {
                    false => commands.listen(key, Purpose::Gateway(destination.clone()), address).await,
                    true => commands.listen_udp(key, listener.name.clone(), udp.clone(), address).await,
                };
                match opened {
                    Ok(address) => {
                        tracing::info!(%address, listener = %listener.name, "gateway listener open");
                        open.insert(listener.name.clone(), listener.port);
                        gate.open();
                    }
                    Err(error) => {
                        failed = true;
                        tracing::error!(%error, listener = %listener.name, "gateway listener not open");
                    }
                }
            }
            tokio::select! {
                changed = bound.changed() => if changed.is_err() { return },
                // A listener whose clusters had not arrived may be complete now.
                changed = swaps.changed() => if changed.is_err() { return },
                // Whoever has the port may let it go.
                () = tokio::time::sleep(LISTEN_AGAIN), if failed => {}
                () = drain.leaving() => return,
            }
        }
    }));
}

/// Opens every listener of the command line; the application's ports with the inbound ports in front of them.
pub(super) async fn open_listeners(
    args: &ProxyArgs,
    node: &NodeInfo,
    commands: &Commands,
    metrics: &Registry,
) -> anyhow::Result<Vec<(crate::settings::ApplicationPort, SocketAddr)>> {
    if let Some(address) = args.outbound_listen.address() {
        let address =
            commands.listen(Key::Outbound, Purpose::Outbound, address).await.with_context(|| port_hint("outbound"))?;
        tracing::info!(%address, "outbound");
    }
    for to in &args.to {
        let name = listener_name(&to.destination, &node.namespace)?;
        let (key, purpose) = (Key::To(to.destination.clone()), Purpose::To(name));
        match &to.listen {
            Address::Tcp(address) => {
                let address = commands.listen(key, purpose, *address).await.with_context(|| port_hint("to"))?;
                tracing::info!(%address, destination = %to.destination, "way to one destination");
            }
            Address::Unix(path) => {
                commands.listen_unix(key, purpose, path.clone()).await?;
                tracing::info!(path = %path.display(), destination = %to.destination, "way to one destination");
            }
        }
    }
    let mut ports = Vec::new();
    let Some(first) = args.inbound_listen.address() else { return Ok(ports) };
    for port in &args.ports {
        let bound = open_inbound(commands, metrics, args, port, first, ports.is_empty()).await?;
        tracing::info!(address = %bound, port = port.port, application = %port.application(), "inbound");
        ports.push((port.clone(), bound));
    }
    Ok(ports)
}

/// The inbound port of an application port: the first as it was asked for, the others on the next free ones.
async fn open_inbound(
    commands: &Commands,
    metrics: &Registry,
    args: &ProxyArgs,
    port: &crate::settings::ApplicationPort,
    first: SocketAddr,
    is_first: bool,
) -> anyhow::Result<SocketAddr> {
    let application = Application {
        service: args.service.clone(),
        port: port.port,
        address: port.application(),
        protocol: port.protocol,
    };
    let purpose = Purpose::Inbound(Arc::new(application.destination(metrics)));
    let key = Key::Inbound(port.port);
    if is_first || first.port() == 0 {
        return commands.listen(key, purpose, first).await.with_context(|| port_hint("inbound"));
    }
    if let Some(before) = commands.given_address(&key).filter(|before| before.ip() == first.ip()) {
        return commands.listen(key, purpose, before).await.with_context(|| port_hint("inbound"));
    }
    for number in first.port() + 1..first.port().saturating_add(1000) {
        let address = SocketAddr::new(first.ip(), number);
        if let Ok(bound) = commands.listen(key.clone(), purpose.clone(), address).await {
            return Ok(bound);
        }
    }
    anyhow::bail!("no free inbound port from {} on", first.port())
}

/// What to do about an address that is taken.
pub(super) fn port_hint(name: &str) -> String {
    format!("choose another with --{name}-listen, or stop what listens there")
}
