//! Gates for people: in metrics, and as the admin listener shows them.

use std::collections::BTreeMap;

use leno_model::snapshot::Priority;
use leno_telemetry::Registry;
use leno_telemetry::metric::{Exposition, Kind};
use leno_traffic::overload::Seen;
use serde_json::{Value, json};

use super::Overload;
use crate::lookup::Lookup;
use crate::table::Table;

/// Shows every gate of the table.
pub fn measure(metrics: &Registry, lookup: Lookup) {
    metrics.collector(move |out| write(out, &lookup.table()));
}

/// Every gate of the table, as the admin listener shows it.
pub fn describe(table: &Table) -> Value {
    let described = all(table).into_values().map(|overload| {
        let Seen { fill, base, shed } = overload.gate.seen();
        let shed: BTreeMap<&str, u64> = Priority::ALL.iter().map(|priority| priority.text()).zip(shed).collect();
        json!({
            "service": overload.service, "max": fill.max, "open": fill.open, "waiting": fill.waiting,
            "baseMs": base.map(|base| base.as_secs_f64() * 1000.0), "shed": shed,
        })
    });
    Value::Array(described.collect())
}

pub(super) fn all(table: &Table) -> BTreeMap<&str, &Overload> {
    let overloads = table.destinations().filter_map(|destination| destination.overload.as_deref());
    overloads.map(|overload| (&*overload.service, overload)).collect()
}

/// A family of metrics: its name, what it says, and the value of a gate.
type Family = (&'static str, &'static str, fn(&Seen) -> f64);

const FAMILIES: [Family; 4] = [
    ("leno_overload_requests_max", "Requests that may be open at the application at once, as found out.", |seen| {
        seen.fill.max.into()
    }),
    ("leno_overload_requests_open", "Requests that are.", |seen| seen.fill.open.into()),
    ("leno_overload_requests_waiting", "Requests that wait for room.", |seen| seen.fill.waiting.into()),
    (
        "leno_overload_base_seconds",
        "The time that an answer takes when nobody waits, as found out; 0 while it is not known.",
        |seen| seen.base.map_or(0.0, |base| base.as_secs_f64()),
    ),
];

fn write(out: &mut Exposition, table: &Table) {
    let seen: Vec<(&str, Seen)> =
        all(table).into_iter().map(|(service, overload)| (service, overload.gate.seen())).collect();
    for (name, help, value) in FAMILIES {
        out.family(name, help, Kind::Gauge);
        for (service, seen) in &seen {
            out.sample(name, &[("service", service)], value(seen));
        }
    }
    let name = "leno_overload_shed_total";
    out.family(name, "Requests that were shed, by priority.", Kind::Counter);
    for (service, seen) in &seen {
        for (priority, shed) in Priority::ALL.into_iter().zip(seen.shed) {
            out.sample(name, &[("service", service), ("priority", priority.text())], shed as f64);
        }
    }
}
