//! Limits on requests for the report to the server.

use std::time::Duration;

use leno_telemetry::report::PolicyState;

use super::show::{all, standing};
use crate::table::Table;

/// Adds those that were ever asked.
pub(crate) fn report(table: &Table, now: Duration, states: &mut Vec<PolicyState>) {
    for ((service, name, side), limit) in all(table) {
        let fill = limit.limiter.fill(now);
        if fill.passed == 0 && fill.refused == 0 {
            continue;
        }
        let state = PolicyState {
            name: name.to_owned(),
            used: fill.used.into(),
            max: fill.most.into(),
            state: fill.part.as_ref().map(standing).unwrap_or_default().to_owned(),
            at_service: side == "service",
            ..PolicyState::new(service, "rate_limit")
        };
        let counts = [("passed", fill.passed), ("waited", fill.waited), ("refused", fill.refused)];
        states.push(state.counting(counts));
    }
}
