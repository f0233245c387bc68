//! Limits on requests for people: in metrics, and as the admin listener shows them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use leno_model::seam::Clock;
use leno_telemetry::Registry;
use leno_telemetry::metric::{Exposition, Kind};
use leno_traffic::rate::{Fill, Gate, Part, Standing};
use serde_json::{Value, json};

use super::{Limit, RateLimits};
use crate::lookup::Lookup;
use crate::table::{Destination, Table};

/// Shows every limit of the table.
pub fn measure(metrics: &Registry, lookup: Lookup, clock: Arc<dyn Clock>) {
    metrics.collector(move |out| write(out, &lookup.table(), clock.monotonic()));
}

/// Every limit of the table, as the admin listener shows it.
pub fn describe(table: &Table, now: Duration) -> Value {
    let described = all(table).into_iter().map(|((service, name, side), limit)| {
        let fill = limit.limiter.fill(now);
        let terms = &limit.terms;
        json!({
            "service": service, "limit": name, "at": side, "form": terms.form, "when": terms.when, "key": terms.key,
            "max": fill.most, "used": fill.used, "passed": fill.passed, "waited": fill.waited, "refused": fill.refused,
            "keys": fill.keys.map(|(used, of)| json!({"used": used, "max": of, "crowded": fill.crowded})),
            "bytes": fill.bytes, "shared": fill.part.map(|part| shared(&part, now)),
        })
    });
    Value::Array(described.collect())
}

/// What this proxy has of a limit that all count together.
fn shared(part: &Part, now: Duration) -> Value {
    json!({
        "standing": standing(part),
        "rate": match part.gate {
            Gate::Open => Value::Null,
            Gate::Counted | Gate::Closed => json!(part.rate_at(now)),
        },
        "proxies": part.proxies,
    })
}

/// Where it stands with the server, in a word.
pub(super) fn standing(part: &Part) -> &'static str {
    match part.standing {
        Standing::Begun => "begun",
        Standing::Allotted => "allotted",
        Standing::Away => "away",
    }
}

pub(super) type Limits<'t> = BTreeMap<(&'t str, &'t str, &'static str), &'t Limit>;

/// Each limit once, by its service, its name and where it is held.
pub(super) fn all(table: &Table) -> Limits<'_> {
    let mut all = Limits::new();
    for (side, limits) in table.destinations().flat_map(|destination| held(destination)) {
        all.extend(limits.limits.iter().map(|limit| ((&*limits.service, &*limit.terms.name, side), limit)));
    }
    all
}

fn held(destination: &Destination) -> impl Iterator<Item = (&'static str, &RateLimits)> {
    let at_service = destination.rate_limits.iter().map(|limits| ("service", &**limits));
    let at_caller = destination.targets().filter_map(|target| target.rate_limits.as_deref());
    at_service.chain(at_caller.map(|limits| ("caller", limits)))
}

/// A family of metrics: its name, what it says, its kind, and the value of a limit.
type Family = (&'static str, &'static str, Kind, fn(&Fill) -> f64);

const FAMILIES: [Family; 6] = [
    (
        "leno_rate_limit_max",
        "Requests that a limit lets through at once when nothing of it is used.",
        Kind::Gauge,
        |fill| fill.most.into(),
    ),
    (
        "leno_rate_limit_used",
        "How many of those are used up; by key, of the one that uses most.",
        Kind::Gauge,
        |fill| fill.used.into(),
    ),
    ("leno_rate_limit_passed_total", "Requests that a limit let through, at once or later.", Kind::Counter, |fill| {
        fill.passed as f64
    }),
    ("leno_rate_limit_waited_total", "Requests that waited for their turn.", Kind::Counter, |fill| fill.waited as f64),
    ("leno_rate_limit_refused_total", "Requests that a limit refused.", Kind::Counter, |fill| fill.refused as f64),
    ("leno_rate_limit_bytes", "Bytes that the state of a limit takes, whatever comes.", Kind::Gauge, |fill| {
        fill.bytes as f64
    }),
];

/// The same of a limit that is shared, at a moment.
type SharedFamily = (&'static str, &'static str, fn(&Part, Duration) -> f64);

const SHARED: [SharedFamily; 3] = [
    (
        "leno_rate_limit_allotted",
        "Requests a second that this proxy may let through of a limit that all count together.",
        |part, now| part.rate_at(now),
    ),
    ("leno_rate_limit_proxies", "Proxies that count a limit together, as the server last said.", |part, _| {
        part.proxies.into()
    }),
    (
        "leno_rate_limit_away",
        "1 while no server allots a limit that all count together, and its fallback holds.",
        |part, _| f64::from(u8::from(part.standing == Standing::Away)),
    ),
];

fn write(out: &mut Exposition, table: &Table, now: Duration) {
    let fills: Vec<_> = all(table).into_iter().map(|(names, limit)| (names, limit.limiter.fill(now))).collect();
    for (name, help, kind, value) in FAMILIES {
        out.family(name, help, kind);
        for ((service, limit, side), fill) in &fills {
            out.sample(name, &[("service", service), ("limit", limit), ("at", side)], value(fill));
        }
    }
    for (name, help, value) in SHARED {
        out.family(name, help, Kind::Gauge);
        for ((service, limit, side), fill) in &fills {
            if let Some(part) = &fill.part {
                out.sample(name, &[("service", service), ("limit", limit), ("at", side)], value(part, now));
            }
        }
    }
    let keyed = || fills.iter().filter_map(|(names, fill)| Some((names, fill, fill.keys?)));
    let name = "leno_rate_limit_keys";
    out.family(
        name,
        "Keys of a limit that have used some of it: how many do, and how many can be told apart.",
        Kind::Gauge,
    );
    for ((service, limit, side), _, (used, of)) in keyed() {
        for (what, count) in [("used", used), ("max", of)] {
            out.sample(name, &[("service", service), ("limit", limit), ("at", side), ("what", what)], count.into());
        }
    }
    let name = "leno_rate_limit_crowded_total";
    out.family(name, "Keys that took over the count of another, because none was idle.", Kind::Counter);
    for ((service, limit, side), fill, _) in keyed() {
        out.sample(name, &[("service", service), ("limit", limit), ("at", side)], fill.crowded as f64);
    }
}
