//! How policies stand here, for the report to the server: those of clusters in use, and all that are not at rest.
//!
//! Made on the control thread once a second from what the admin listener shows; the request path is not asked for anything
//! more. What nobody used within the window of its retry budget, and what is closed, empty and in nobody's way, is left out:
//! a proxy that does nothing reports nothing.

use std::time::Duration;

use leno_telemetry::report::PolicyState;

use crate::cluster::by_name;
use crate::table::Table;
use crate::{injection, overload, rate_limit, resilience};

/// Every policy of the table that is in use or not at rest.
pub fn policies(table: &Table, now: Duration) -> Vec<PolicyState> {
    let mut states = Vec::new();
    by_name(table).into_values().for_each(|cluster| resilience::report(cluster, now, &mut states));
    rate_limit::report(table, now, &mut states);
    overload::report(table, &mut states);
    injection::report(table, &mut states);
    states
}
