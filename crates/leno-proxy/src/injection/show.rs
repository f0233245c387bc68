//! What goes wrong on purpose for people: in metrics, and as the admin listener shows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use leno_telemetry::Registry;
use leno_telemetry::metric::{Exposition, Kind};
use serde_json::{Value, json};

use super::{Counts, Injections};
use crate::lookup::Lookup;
use crate::table::Table;

/// Shows what goes wrong of the table.
pub fn measure(metrics: &Registry, lookup: Lookup) {
    metrics.collector(move |out| write(out, &lookup.table()));
}

/// What goes wrong of the table, as the admin listener shows it.
pub fn describe(table: &Table) -> Value {
    let all = all(table);
    let described = all.values().flat_map(|injections| {
        injections.faults.iter().map(|fault| {
            let [delayed, aborted, slowed] = fault.counts.injected().map(|(_, count)| count);
            json!({
                "service": injections.service, "fault": fault.terms.name, "when": fault.terms.when,
                "delay": fault.terms.delay, "abort": fault.terms.abort, "bandwidth": fault.terms.bandwidth,
                "delayed": delayed, "aborted": aborted, "slowed": slowed,
                "skipped": fault.counts.skipped.load(Relaxed),
                "active": injections.active.load(Relaxed), "max_active": injections.active_max,
            })
        })
    });
    Value::Array(described.collect())
}

/// Those of each service once.
pub(super) fn all(table: &Table) -> BTreeMap<Box<str>, Arc<Injections>> {
    let targets = table.destinations().flat_map(|destination| destination.targets());
    let injections = targets.filter_map(|target| target.injections.as_ref());
    injections.map(|injections| (injections.service.clone(), injections.clone())).collect()
}

impl Counts {
    pub(super) fn injected(&self) -> [(&'static str, u64); 3] {
        [("delay", &self.delayed), ("abort", &self.aborted), ("bandwidth", &self.slowed)]
            .map(|(kind, count)| (kind, count.load(Relaxed)))
    }
}

fn write(out: &mut Exposition, table: &Table) {
    let all = all(table);
    let faults = || all.values().flat_map(|of| of.faults.iter().map(|fault| (&*of.service, &*fault.terms.name, fault)));
    let name = "leno_fault_injected_total";
    out.family(name, "Requests with which something went wrong on purpose.", Kind::Counter);
    for (service, fault, injection) in faults() {
        for (kind, count) in injection.counts.injected() {
            out.sample(name, &[("service", service), ("fault", fault), ("kind", kind)], count as f64);
        }
    }
    let name = "leno_fault_skipped_total";
    out.family(name, "Requests that were left alone because enough were delayed or slowed down.", Kind::Counter);
    for (service, fault, injection) in faults() {
        let skipped = injection.counts.skipped.load(Relaxed);
        out.sample(name, &[("service", service), ("fault", fault)], skipped as f64);
    }
    let name = "leno_fault_active";
    out.family(name, "Requests that are delayed and answers that are slowed down on purpose now.", Kind::Gauge);
    for injections in all.values() {
        out.sample(name, &[("service", &injections.service)], injections.active.load(Relaxed).into());
    }
}
