//! What goes wrong on purpose with requests to a service, as a policy says it, with defaults.

use leno_model::name::ServiceName;
use leno_model::resource::fault_policy::{FaultAbort, FaultPolicySpec, InjectedFault};
use leno_model::resource::number::{Count, Portion};
use leno_model::snapshot::{Abort, AbortWith, Bandwidth, Delay, Injection, Injections};

use super::route;

const ACTIVE_MAX: u32 = 1000;
const ALL: u32 = 1_000_000;

/// Of a service that the policy is for.
pub(super) fn of(spec: Option<&FaultPolicySpec>, service: &ServiceName) -> Injections {
    let Some(spec) = spec else { return Injections::default() };
    Injections {
        service: service.to_string(),
        faults: spec.faults.iter().map(injection).collect(),
        active_max: spec.max_active.map_or(ACTIVE_MAX, Count::get),
    }
}

fn injection(written: &InjectedFault) -> Injection {
    let share = |written: Option<Portion>| written.map_or(ALL, Portion::of_million);
    let abort = |abort: &FaultAbort| Some(Abort { with: with(abort)?, of_million: share(abort.percent) });
    Injection {
        name: written.name.as_str().into(),
        when: written.matches.iter().map(route::http_match).collect(),
        delay: written.delay.as_ref().map(|delay| Delay { time: delay.time.0, of_million: share(delay.percent) }),
        abort: written.abort.as_ref().and_then(abort),
        bandwidth: written.bandwidth.as_ref().map(|bandwidth| Bandwidth {
            kib_per_second: bandwidth.kib_per_second.get(),
            of_million: share(bandwidth.percent),
        }),
    }
}

/// None where validation refuses it.
fn with(abort: &FaultAbort) -> Option<AbortWith> {
    let http = abort.status.map(|status| AbortWith::Http(status.get()));
    http.or(abort.grpc_status.map(|status| AbortWith::Grpc(status as u8)))
}
