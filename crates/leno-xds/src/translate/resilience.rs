//! What keeps trouble with a cluster from spreading: `circuit_breakers` and `outlier_detection`.
//!
//! Envoy has limits where nobody set any (1024 of each, 3 retries), gRPC one of 1024 requests, and leno has none, so that to
//! them the absence of one is said; retries it may keep where no budget is written, because it does not have the one that bounds them here in any
//! case. Nothing waits in Envoy while `max_requests` are open: the queue stands in leno's note. So does the share of slow
//! answers, which Envoy does not look at, and the breaker of a destination, of which it has none; one that is held open is a
//! limit of no request. What Envoy looks at by
//! itself (success rates) is switched off.

use std::time::Duration;

use leno_model::snapshot::{Ejection, ForcedState, Limits, Resilience, RetryBudget};

use super::{Dialect, TranslateError, duration_of};
use crate::messages::cluster::{self, CircuitBreakers, Cluster, OutlierDetection, Thresholds};
use crate::messages::core::Percent;

/// A limit that is none.
const UNLIMITED: u32 = u32::MAX;
/// The same to gRPC: in Java it reads the number as one with a sign, and would refuse every call.
const UNLIMITED_TO_GRPC: u32 = i32::MAX as u32;
/// The time of which a share of retries is taken where nothing says it.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);
/// How many of a hundred hosts that are to be ejected are: all of them, or none.
const ON: Option<u32> = Some(100);
const OFF: Option<u32> = Some(0);

/// Says it in a message.
pub(super) fn write(resilience: &Resilience, dialect: Dialect, message: &mut Cluster) {
    let Limits { requests, retries, connections, pending, .. } = resilience.limits;
    let mut thresholds = Thresholds {
        max_connections: connections,
        max_pending_requests: pending,
        max_requests: requests,
        max_retries: retries,
        ..Thresholds::default()
    };
    // Where it has a budget, Envoy does not look at the number of retries, which is the harder bound.
    thresholds.retry_budget = resilience.retry_budget.filter(|_| retries.is_none()).map(budget_to);
    if resilience.breaker_forced == Some(ForcedState::Open) && dialect != Dialect::Leno {
        thresholds.max_requests = Some(0);
    }
    match dialect {
        Dialect::Envoy { .. } => {
            thresholds.max_connections.get_or_insert(UNLIMITED);
            thresholds.max_pending_requests.get_or_insert(UNLIMITED);
            thresholds.max_requests.get_or_insert(UNLIMITED);
        }
        Dialect::Grpc => _ = thresholds.max_requests.get_or_insert(UNLIMITED_TO_GRPC),
        Dialect::Leno => {}
    }
    if thresholds != Thresholds::default() {
        message.circuit_breakers = Some(CircuitBreakers { thresholds: vec![thresholds] });
    }
    message.outlier_detection = resilience.ejection.as_ref().map(ejection_to);
}

/// What a message says to whoever does not read notes. What is not said is no limit: Envoy's defaults are its own.
pub(super) fn read(message: &Cluster) -> Result<Resilience, TranslateError> {
    let thresholds = message.circuit_breakers.iter().flat_map(|breakers| &breakers.thresholds);
    let thresholds = thresholds.filter(|thresholds| thresholds.priority == 0).copied().next().unwrap_or_default();
    let limit = |written: Option<u32>| written.filter(|limit| *limit != UNLIMITED);
    let connections = limit(thresholds.max_connections);
    let limits = Limits {
        requests: limit(thresholds.max_requests),
        queue: None,
        retries: limit(thresholds.max_retries),
        connections,
        pending: connections.and(thresholds.max_pending_requests),
    };
    let ejection = message.outlier_detection.as_ref().map(ejection_from).transpose()?;
    let retry_budget = thresholds.retry_budget.map(budget_from).transpose()?;
    Ok(Resilience { limits, ejection, retry_budget, ..Resilience::default() })
}

fn budget_to(budget: RetryBudget) -> cluster::RetryBudget {
    cluster::RetryBudget {
        budget_percent: Some(Percent { value: budget.percent.into() }),
        min_retry_concurrency: Some(budget.min_per_second),
        budget_interval: Some(budget.window.into()),
    }
}

/// Without an interval Envoy's share is one of the requests that are open; leno's is of a window in any case.
fn budget_from(message: cluster::RetryBudget) -> Result<RetryBudget, TranslateError> {
    let window = message.budget_interval.map(|interval| duration_of("retry_budget.budget_interval", interval));
    let window = window.transpose()?.filter(|window| !window.is_zero());
    Ok(RetryBudget {
        percent: message.budget_percent.map_or(20, |percent| percent.value.round() as u32),
        min_per_second: message.min_retry_concurrency.unwrap_or(3),
        window: window.unwrap_or(BUDGET_WINDOW),
    })
}

fn ejection_to(ejection: &Ejection) -> OutlierDetection {
    let enforcing = |when: Option<u32>| if when.is_some() { ON } else { OFF };
    OutlierDetection {
        consecutive_5xx: ejection.consecutive_errors,
        enforcing_consecutive_5xx: enforcing(ejection.consecutive_errors),
        consecutive_gateway_failure: ejection.consecutive_gateway_errors,
        enforcing_consecutive_gateway_failure: enforcing(ejection.consecutive_gateway_errors),
        split_external_local_origin_errors: ejection.consecutive_local_errors.is_some(),
        consecutive_local_origin_failure: ejection.consecutive_local_errors,
        enforcing_consecutive_local_origin_failure: enforcing(ejection.consecutive_local_errors),
        failure_percentage_threshold: ejection.failure_ratio,
        enforcing_failure_percentage: enforcing(ejection.failure_ratio),
        enforcing_failure_percentage_local_origin: enforcing(ejection.failure_ratio),
        failure_percentage_minimum_hosts: Some(1),
        failure_percentage_request_volume: Some(ejection.requests_min),
        enforcing_success_rate: OFF,
        enforcing_local_origin_success_rate: OFF,
        interval: Some(ejection.window.into()),
        base_ejection_time: Some(ejection.base_time.into()),
        max_ejection_time: Some(ejection.time_max.into()),
        max_ejection_percent: Some(ejection.share_max),
        always_eject_one_host: Some(true),
    }
}

/// Absent fields are what they are to Envoy.
fn ejection_from(message: &OutlierDetection) -> Result<Ejection, TranslateError> {
    // A share of those that are to be ejected is none or all here; 0 in a row is never.
    let when = |value: Option<u32>, default: u32, enforcing: Option<u32>, on: bool| {
        let value = Some(value.unwrap_or(default)).filter(|value| *value > 0);
        value.filter(|_| enforcing.map_or(on, |percent| percent > 0))
    };
    let time = |path: &str, value: Option<crate::messages::wkt::Duration>, default: u64| match value {
        Some(value) => duration_of(&format!("outlier_detection.{path}"), value),
        None => Ok(Duration::from_secs(default)),
    };
    let m = message;
    let local = when(m.consecutive_local_origin_failure, 5, m.enforcing_consecutive_local_origin_failure, true);
    let base_time = time("base_ejection_time", m.base_ejection_time, 30)?;
    let time_max = time("max_ejection_time", m.max_ejection_time, 300)?;
    Ok(Ejection {
        consecutive_errors: when(m.consecutive_5xx, 5, m.enforcing_consecutive_5xx, true),
        consecutive_gateway_errors: when(
            m.consecutive_gateway_failure,
            5,
            m.enforcing_consecutive_gateway_failure,
            false,
        ),
        consecutive_local_errors: local.filter(|_| m.split_external_local_origin_errors),
        failure_ratio: when(m.failure_percentage_threshold, 85, m.enforcing_failure_percentage, false),
        slow_ratio: None,
        slow_after: Duration::from_secs(1),
        window: time("interval", m.interval, 10)?,
        requests_min: m.failure_percentage_request_volume.unwrap_or(50),
        base_time,
        time_max: time_max.max(base_time),
        share_max: m.max_ejection_percent.unwrap_or(10).min(100),
    })
}
