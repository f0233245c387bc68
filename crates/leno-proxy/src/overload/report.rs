//! Gates for the report to the server.

use leno_model::snapshot::Priority;
use leno_telemetry::report::PolicyState;

use super::show::all;
use crate::table::Table;

/// Adds those that something has come through.
pub(crate) fn report(table: &Table, states: &mut Vec<PolicyState>) {
    for (service, overload) in all(table) {
        let seen = overload.gate.seen();
        let is_at_rest = seen.fill.open == 0 && seen.base.is_none() && seen.shed.iter().all(|shed| *shed == 0);
        if is_at_rest {
            continue;
        }
        let state = PolicyState {
            used: seen.fill.open.into(),
            max: seen.fill.max.into(),
            waiting: seen.fill.waiting.into(),
            at_service: true,
            ..PolicyState::new(service, "overload")
        };
        states.push(state.counting(Priority::ALL.iter().map(|priority| priority.text()).zip(seen.shed)));
    }
}
