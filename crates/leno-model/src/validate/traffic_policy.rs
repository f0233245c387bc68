//! Traffic policies: targets and the ranges of their times.

use std::time::Duration;

use super::{Check, degradation, load_balancer, overload, rate_limit, reference, resilience, retry};
use crate::fault::FaultClass;
use crate::resource::duration::GatewayDuration;
use crate::resource::traffic_policy::TrafficPolicySpec;

pub(super) fn check(check: &mut Check<'_, '_>, spec: &TrafficPolicySpec) {
    reference::targets(check, &spec.target_refs);
    let ms = Duration::from_millis;
    range(check, "spec.connectTimeout", spec.connect_timeout, ms(1), ms(600_000));
    range(check, "spec.idleTimeout", spec.idle_timeout, ms(1000), ms(86_400_000));
    if let Some(balancer) = &spec.load_balancer {
        load_balancer::check(check, "spec.loadBalancer", balancer);
    }
    retry::check(check, spec);
    resilience::check(check, spec);
    rate_limit::check(check, &spec.rate_limits);
    overload::check(check, spec);
    degradation::check(check, spec);
}

pub(super) fn range(
    check: &mut Check<'_, '_>,
    path: &str,
    value: Option<GatewayDuration>,
    min: Duration,
    max: Duration,
) {
    if let Some(value) = value.filter(|value| value.0 < min || value.0 > max) {
        let fix = format!("write a duration from {} to {}", GatewayDuration(min), GatewayDuration(max));
        check.error(FaultClass::OutOfRange, path, format!("{value} is out of range"), fix);
    }
}
