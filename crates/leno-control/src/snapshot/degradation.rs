//! What stands in for the answers of a service, as a policy says it, with defaults.

use leno_model::name::ServiceName;
use leno_model::resource::degradation::{Fallback, FallbackService};
use leno_model::resource::number::{Port, RetryCode};
use leno_model::snapshot::{DirectReply, FallbackOn, Name, RetryOn, StandIn};

use super::name::ClusterName;
use super::{View, reply};

/// What a call of gRPC says that failed on the way, and any answer that says it of itself.
const FAILURES: [RetryOn; 4] =
    [RetryOn::ServerError, RetryOn::DeadlineExceeded, RetryOn::Internal, RetryOn::Unavailable];

/// What stands in for `service`.
pub(super) fn stand_in(view: &View<'_>, service: &ServiceName, written: &Fallback) -> StandIn {
    let reply = written.reply.as_ref().map(|reply| {
        let reply = reply::of(Some(reply), &format!("{} does not answer at the moment\n", service.name));
        DirectReply { grpc_status: written.grpc_status.map_or(reply.grpc_status, |status| status as u8), ..reply }
    });
    StandIn {
        on: written.on.clone().unwrap_or_else(|| FallbackOn::ALL.to_vec()),
        failures: written.failures.clone().unwrap_or_else(|| FAILURES.to_vec()),
        codes: written.codes.iter().copied().map(RetryCode::get).collect(),
        cluster: written.service.as_ref().and_then(|other| cluster(view, service, other)),
        reply,
    }
}

/// The cluster of a service, if there is one with such a port.
fn cluster(view: &View<'_>, of: &ServiceName, written: &FallbackService) -> Option<Name> {
    let service = ServiceName::new(&of.namespace, &written.name).ok()?;
    let found = view.service(&service);
    let port = match written.port {
        Some(number) => found.port(Some(Port::get(number))),
        None => found.only_port().or_else(|| found.port(None)),
    }?;
    Some(ClusterName { service, port: port.number, version: None }.render())
}
