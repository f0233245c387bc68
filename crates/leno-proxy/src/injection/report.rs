//! What goes wrong on purpose for the report to the server.

use std::sync::atomic::Ordering::Relaxed;

use leno_telemetry::report::PolicyState;

use super::show::all;
use crate::table::Table;

/// Adds every fault: one that nobody has met yet is in force too.
pub(crate) fn report(table: &Table, states: &mut Vec<PolicyState>) {
    for injections in all(table).into_values() {
        for fault in &injections.faults {
            let state = PolicyState {
                name: fault.terms.name.to_string(),
                used: injections.active.load(Relaxed).into(),
                max: injections.active_max.into(),
                ..PolicyState::new(&injections.service, "fault")
            };
            let skipped = ("skipped", fault.counts.skipped.load(Relaxed));
            states.push(state.counting(fault.counts.injected().into_iter().chain([skipped])));
        }
    }
}
