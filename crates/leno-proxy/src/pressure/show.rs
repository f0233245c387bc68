//! Pressure for people: in metrics, and as the admin listener shows it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use leno_model::snapshot::Priority;
use leno_runtime::memory::Seen;
use leno_telemetry::Registry;
use leno_telemetry::metric::{Exposition, Kind};
use leno_traffic::Reaction;
use leno_traffic::busy::Busy;
use serde_json::{Value, json};

use super::Strain;

/// Shows it in metrics.
pub fn measure(metrics: &Registry, strain: Arc<Strain>) {
    metrics.collector(move |out| write(out, &strain));
}

/// As the admin listener shows it.
pub fn describe(strain: &Strain) -> Value {
    let reactions: Vec<&str> = strain.now().reactions().map(Reaction::text).collect();
    let refused: BTreeMap<&str, u64> = refused(strain).collect();
    let memory = strain.seen().map(|seen| {
        json!({
            "heldBytes": seen.held, "mostBytes": seen.most, "percent": f64::from(seen.fill()) / 10.0,
            "bound": seen.bound.to_string(),
        })
    });
    let (cut, busy) = (strain.cut(), strain.busy());
    let left_out: BTreeMap<&str, Value> = left_out(strain)
        .map(|(priority, count)| {
            (priority.text(), json!({ "percent": f64::from(cut.of(priority)) / 10.0, "count": count }))
        })
        .collect();
    json!({
        "busy": {
            "lateMs": busy.late.as_secs_f64() * 1000.0, "cpuPercent": busy.cpu.map(|cpu| f64::from(cpu) / 10.0),
            "leftOut": left_out,
        },
        "memory": memory, "reactions": reactions, "refused": refused,
        "reset": strain.reset.load(Relaxed), "acceptPauses": strain.pauses.load(Relaxed),
    })
}

pub(super) fn refused(strain: &Strain) -> impl Iterator<Item = (&'static str, u64)> {
    let counts = strain.refused.iter().map(|count| count.load(Relaxed));
    Priority::ALL.into_iter().map(Priority::text).zip(counts)
}

fn left_out(strain: &Strain) -> impl Iterator<Item = (Priority, u64)> {
    let counts = strain.left_out.iter().map(|count| count.load(Relaxed));
    Priority::ALL.into_iter().zip(counts)
}

fn write_busy(out: &mut Exposition, strain: &Strain) {
    let (busy, cut) = (strain.busy(), strain.cut());
    let name = "leno_busy_late_seconds";
    out.family(name, "How late the latest worker is, where --late-max bounds it.", Kind::Gauge);
    out.sample(name, &[], busy.late.as_secs_f64());
    let name = "leno_busy_processor_ratio";
    out.family(name, "How much of the processors that it may use is used, where --cpu-max bounds it.", Kind::Gauge);
    out.sample(name, &[], f64::from(busy.cpu.unwrap_or(0)) / 1000.0);
    let name = "leno_busy_left_out_ratio";
    out.family(
        name,
        "Which part of the requests of a priority is refused because there is too much to do.",
        Kind::Gauge,
    );
    for priority in Priority::ALL {
        out.sample(name, &[("priority", priority.text())], f64::from(cut.of(priority)) / 1000.0);
    }
    let name = "leno_busy_refused_total";
    out.family(name, "Requests that were refused because there was too much to do, by priority.", Kind::Counter);
    for (priority, count) in left_out(strain) {
        out.sample(name, &[("priority", priority.text())], count as f64);
    }
}

fn write(out: &mut Exposition, strain: &Strain) {
    write_busy(out, strain);
    let (held, most) = strain.seen().map_or((0, 0), |seen| (seen.held, seen.most));
    for (name, help, value) in [
        ("leno_memory_held_bytes", "What the process holds of memory, without files that can be dropped.", held),
        (
            "leno_memory_most_bytes",
            "What it may hold as things are: by control groups, the machine, or --memory-max.",
            most,
        ),
    ] {
        out.family(name, help, Kind::Gauge);
        out.sample(name, &[], value as f64);
    }
    let name = "leno_pressure_reaction";
    out.family(name, "Whether a reaction to being short of memory is taken: 1, else 0.", Kind::Gauge);
    for reaction in Reaction::ALL {
        out.sample(name, &[("reaction", reaction.text())], f64::from(u8::from(strain.now().is(reaction))));
    }
    let name = "leno_pressure_refused_total";
    out.family(name, "Requests that were refused because memory was short, by priority.", Kind::Counter);
    for (priority, count) in refused(strain) {
        out.sample(name, &[("priority", priority)], count as f64);
    }
    for (name, help, count) in [
        ("leno_pressure_reset_total", "Answers that were given up because their readers were slow.", &strain.reset),
        ("leno_pressure_accept_pauses_total", "How often accepting paused because memory was short.", &strain.pauses),
    ] {
        out.family(name, help, Kind::Counter);
        out.sample(name, &[], count.load(Relaxed) as f64);
    }
}

impl Strain {
    fn busy(&self) -> Busy {
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn seen(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
