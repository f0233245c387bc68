//! Clusters: a port of a service, or of one version of it, and how its endpoints are used.

use leno_model::snapshot::{Cluster, Resilience};

use super::View;
use super::name::ClusterName;

pub(super) fn build(view: &View<'_>, name: &ClusterName) -> Option<Cluster> {
    let service = view.service(&name.service);
    let port = service.port(Some(name.port))?;
    let policy = view.policy_of(&name.service);
    Some(Cluster {
        name: name.render(),
        service: name.service.clone(),
        port: port.number,
        protocol: port.protocol,
        balance: policy.balance,
        connect_timeout: policy.connect_timeout,
        idle_timeout: policy.idle_timeout,
        tls: view.tls_of(&name.service, port.name.as_deref()),
        proxy_protocol: port.proxy_protocol,
        resilience: Resilience { stand_in: view.stand_in_of(&name.service).map(Box::new), ..policy.resilience.clone() },
        balancing: policy.balancing.clone(),
    })
}
