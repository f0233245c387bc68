//! How policies stand here, for the report to the server: those of clusters in use, and all that are not at rest.
//!
//! Made on the control thread once a second from what the admin listener shows; the request path is not asked for anything
//! more. What nobody used within the window of its retry budget, and what is closed, empty and in nobody's way, is left out:
//! a proxy that does nothing reports nothing.

use leno_model::name::ServiceName;
use leno_telemetry::report::PolicyState;

use crate::cluster::by_name;
use crate::worker::Shared;
use crate::{injection, overload, pressure, rate_limit, resilience};

/// Every policy of the table that is in use or not at rest, and the pressure on a proxy beside an instance of this service.
pub fn policies(shared: &Shared, beside: Option<&ServiceName>) -> Vec<PolicyState> {
    let (table, now) = (&*shared.lookup.table(), shared.clock.monotonic());
    let mut states = Vec::new();
    by_name(table).into_values().for_each(|cluster| resilience::report(cluster, now, &mut states));
    rate_limit::report(table, now, &mut states);
    overload::report(table, &mut states);
    injection::report(table, &mut states);
    states.extend(beside.and_then(|service| pressure::report(&shared.strain, service)));
    states
}
