//! What stands in for the answers of a service, as a policy says it, with defaults.

use std::time::Duration;

use leno_model::name::ServiceName;
use leno_model::resource::degradation::{Collapse, Fallback, FallbackService};
use leno_model::resource::number::{Count, Mebibytes, Port, RetryCode};
use leno_model::resource::traffic_policy::TrafficPolicySpec;
use leno_model::snapshot::{self, Answers, DirectReply, FallbackOn, Name, RetryOn, StandIn};

use super::name::ClusterName;
use super::{View, reply};

/// What a call of gRPC says that failed on the way, and any answer that says it of itself.
const FAILURES: [RetryOn; 4] =
    [RetryOn::ServerError, RetryOn::DeadlineExceeded, RetryOn::Internal, RetryOn::Unavailable];

const MIB: u32 = 32;
const BODY_KIB: u64 = 1024;
const ENTRIES: u32 = 10_000;
const WAITING: u32 = 1000;
const WAIT: Duration = Duration::from_secs(5);

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
        last_good: written.last_good.as_ref().map(|last| last.max_age.0),
        reply,
    }
}

/// Which answers of a service are kept or shared.
pub(super) fn answers(spec: &TrafficPolicySpec) -> Option<Answers> {
    let last_good = spec.fallback.as_ref().and_then(|fallback| fallback.last_good.as_ref());
    if spec.cache.is_none() && spec.collapse.is_none() && last_good.is_none() {
        return None;
    }
    let cache = spec.cache.clone().unwrap_or_default();
    let mib = u64::from(cache.max_mib.map_or(MIB, Mebibytes::get));
    let kib = cache.max_body_kib.map_or_else(|| BODY_KIB.min(mib * 1024 / 8), |kib| kib.get().into());
    let collapse = |written: &Collapse| snapshot::Collapse {
        waiting_max: written.max_waiting.map_or(WAITING, Count::get),
        wait_max: written.max_wait.map_or(WAIT, |wait| wait.0),
    };
    Some(Answers {
        cache: spec.cache.is_some(),
        last_good: last_good.map(|last| last.max_age.0),
        bytes_max: mib * 1024 * 1024,
        body_max: kib * 1024,
        entries_max: cache.max_entries.map_or(ENTRIES, Count::get),
        collapse: spec.collapse.as_ref().map(collapse),
    })
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
