//! What a proxy is: its name among others, how many workers it has, and how it reads what comes.

use leno_http::Limits;
use leno_model::expression::Facts;
use leno_model::name::DEFAULT_NAMESPACE;
use leno_model::seam::Random;
use leno_runtime::SystemRandom;
use leno_xds::node::{NodeInfo, ProxyRole as NodeRole};

use crate::args::{BareLf, EscapedSlashes, ProxyArgs, ProxyRole, UnderscoredNames};

/// Its name and what it tells servers of itself.
pub(super) fn node_of(args: &ProxyArgs) -> NodeInfo {
    let name = match (&args.service, &args.gateway) {
        (Some(service), _) | (None, Some(service)) => service.to_string(),
        (None, None) => "proxy".to_owned(),
    };
    let instance = args.enrol.instance.clone().unwrap_or_else(own_id);
    let namespace = args.service.as_ref().or(args.gateway.as_ref()).map(|name| name.namespace.to_string());
    NodeInfo {
        role: match args.role {
            ProxyRole::Sidecar => NodeRole::Sidecar,
            ProxyRole::Gateway => NodeRole::Gateway,
        },
        namespace: namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        service: args.service.clone(),
        gateway: args.gateway.as_ref().map(|gateway| format!("{}/{}", gateway.namespace, gateway.name)),
        region: args.enrol.region.clone(),
        zone: args.enrol.zone.clone(),
        labels: args.enrol.labels.iter().cloned().collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..NodeInfo::new(format!("{name}/{instance}"))
    }
}

/// What expressions of policies know of it.
pub(super) fn facts_of(args: &ProxyArgs) -> Facts {
    Facts {
        zone: args.enrol.zone.clone(),
        region: args.enrol.region.clone(),
        version: args.enrol.version.clone(),
        labels: args.enrol.labels.iter().cloned().collect(),
    }
}

/// What the next proxy is told.
pub(super) fn source_name(args: &ProxyArgs) -> String {
    match (&args.service, &args.gateway) {
        (Some(service), _) | (None, Some(service)) => service.to_string(),
        (None, None) => "unknown".to_owned(),
    }
}

/// An instance's name where nobody gave it one: of this host, and of no other instance.
pub(crate) fn own_id() -> String {
    format!("{}-{:06x}", host_name(), SystemRandom.below(1 << 24))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

pub(super) fn workers_of(args: &ProxyArgs) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match (args.workers, args.role) {
        (Some(workers), _) => workers.into(),
        (None, ProxyRole::Sidecar) => cores.min(2),
        (None, ProxyRole::Gateway) => cores,
    }
}

/// Inside the mesh connections are kept long and nobody is hurried; everything else is as at an edge.
pub(super) fn limits_of(args: &ProxyArgs) -> Limits {
    let limits = match args.role {
        ProxyRole::Gateway => Limits::default(),
        ProxyRole::Sidecar => Limits::mesh(),
    };
    let mut limits = Limits {
        keep_escaped_slashes: args.reading.escaped_slashes == EscapedSlashes::Keep,
        underscored_names: match args.reading.underscored_names {
            UnderscoredNames::Drop => leno_http::UnderscoredNames::Drop,
            UnderscoredNames::Keep => leno_http::UnderscoredNames::Keep,
            UnderscoredNames::Refuse => leno_http::UnderscoredNames::Refuse,
        },
        lenient_lf: args.reading.bare_lf == BareLf::Take,
        trusted_hops: args.trusted_hops,
        ..limits
    };
    args.reading.limits.iter().for_each(|limit| limit.put(&mut limits));
    limits
}
