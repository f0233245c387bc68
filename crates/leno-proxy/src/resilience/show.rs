//! The state of limits, ejections and breakers for people: in metrics, and as the admin listener shows it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use leno_model::seam::Clock;
use leno_model::snapshot::{ForcedState, Priority};
use leno_runtime::SystemClock;
use leno_telemetry::Registry;
use leno_telemetry::metric::{Exposition, Kind};
use leno_traffic::breaker::{Seen, State};
use leno_traffic::bulkhead::Fill;
use leno_traffic::ejection::Cause;
use leno_traffic::load::Standing;
use serde_json::{Map, Value, json};

use super::{CAUSES, StoodIn};
use crate::answers;
use crate::cluster::{Cluster, by_name};
use crate::lookup::Lookup;
use crate::table::Table;

/// Shows the state of every cluster of the table that has a policy.
pub fn measure(metrics: &Registry, lookup: Lookup) {
    metrics.collector(move |out| write(out, &lookup.table()));
}

/// A cluster as the admin listener shows it.
pub(crate) fn describe(cluster: &Cluster, now: Duration) -> Value {
    let limit = |fill: Fill| {
        json!({
            "open": fill.open, "max": fill.max, "waiting": fill.waiting, "waitingMax": fill.waiting_max,
            "refused": fill.refused, "late": fill.late,
        })
    };
    let resilience = &cluster.resilience;
    let limits: Map<String, Value> = resilience.fills().map(|(name, fill)| (name.to_owned(), limit(fill))).collect();
    let mut described = Map::from_iter([("limits".to_owned(), Value::Object(limits))]);
    if let Some(watch) = &resilience.ejection {
        let ejections: Map<String, Value> =
            ejections(cluster).map(|(cause, count)| (cause.to_owned(), count.into())).collect();
        let crowd = cluster.crowd();
        let ejection = json!({
            "out": crowd.out, "of": crowd.members, "maxShare": watch.terms.share_max, "ejections": ejections,
        });
        described.insert("ejection".to_owned(), ejection);
    }
    let (terms, spent) = (cluster.budget.terms(), cluster.budget.spent(now));
    let budget = json!({
        "percent": terms.percent, "minPerSecond": terms.min_per_second, "windowSeconds": terms.window_seconds,
        "requests": spent.requests, "retries": spent.retries, "left": spent.left, "refused": spent.refused,
    });
    described.insert("retryBudget".to_owned(), budget);
    let (sent, answered) = resilience.hedges();
    described.insert("hedges".to_owned(), json!({ "sent": sent, "answered": answered }));
    if let Some(breaker) = &resilience.breaker {
        let Seen { state, since, opened, refused, counts } = breaker.seen(now);
        let since = now.saturating_sub(since).as_millis() as u64;
        let breaker = json!({
            "state": state_text(state), "forced": resilience.breaker_forced, "sinceMs": since, "opened": opened, "refused": refused,
            "requests": counts.total, "failed": counts.failed, "slow": counts.slow,
        });
        described.insert("breaker".to_owned(), breaker);
    }
    if let Some(admission) = &resilience.admission {
        let held_back = admission.held_back();
        let held_back: BTreeMap<&str, u64> =
            Priority::ALL.iter().map(|priority| priority.text()).zip(held_back).collect();
        let share = Priority::ALL.iter().map(|priority| admission.share(*priority, now)).fold(0.0, f64::max);
        let admission = json!({ "sharePercent": (share * 100.0) as u64, "heldBack": held_back });
        described.insert("admission".to_owned(), admission);
    }
    if cluster.spec.resilience.stand_in.is_some() {
        let answers: BTreeMap<&str, u64> = stood_in(cluster).collect();
        described.insert("fallback".to_owned(), json!(answers));
    }
    if let Some(kept) = resilience.answers() {
        described.insert("cache".to_owned(), answers::describe(kept));
    }
    Value::Object(described)
}

fn stood_in(cluster: &Cluster) -> impl Iterator<Item = (&'static str, u64)> {
    let counts = cluster.resilience.state.stood_in.iter().map(|count| count.load(Relaxed));
    StoodIn::ALL.into_iter().map(StoodIn::text).zip(counts)
}

/// How an endpoint of a cluster stands, where that is watched.
pub(crate) fn describe_endpoint(cluster: &Cluster, at: usize, now: Duration) -> Option<Value> {
    let watch = cluster.resilience.ejection.as_ref()?;
    let conduct = watch.conducts.get(at)?;
    let ((since, times), why) = (conduct.ejected(), conduct.cause().map(cause));
    let ms = |time: Duration| time.as_millis() as u64;
    let since = ms(now.saturating_sub(since));
    Some(match cluster.endpoints.get(at)?.state.load.standing() {
        Standing::In => json!({ "state": "in", "times": times }),
        Standing::Out(until) => {
            let left = ms(until.saturating_sub(now));
            json!({ "state": "ejected", "cause": why, "times": times, "sinceMs": since, "leftMs": left })
        }
        Standing::Probing => json!({ "state": "probing", "cause": why, "times": times, "sinceMs": since }),
    })
}

/// A cause in a word.
pub(super) fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Consecutive => "consecutive",
        Cause::FailureRatio => "failure_ratio",
        Cause::SlowRatio => "slow_ratio",
        Cause::Probe => "probe",
    }
}

pub(super) fn state_text(state: State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::Open => "open",
        State::HalfOpen => "half_open",
    }
}

fn ejections(cluster: &Cluster) -> impl Iterator<Item = (&'static str, u64)> {
    let counts = cluster.resilience.state.ejections.iter().map(|count| count.load(Relaxed));
    CAUSES.into_iter().map(cause).zip(counts)
}

fn write(out: &mut Exposition, table: &Table) {
    let clusters = by_name(table);
    write_limits(out, &clusters);
    write_breakers(out, &clusters);
    write_budgets(out, &clusters);
    write_hedges(out, &clusters);
    write_admission(out, &clusters);
    write_fallbacks(out, &clusters);
    let watched: Vec<(&str, &Cluster)> =
        clusters.into_iter().filter(|(_, cluster)| cluster.resilience.ejection.is_some()).collect();
    let name = "leno_endpoints_ejected";
    out.family(name, "Endpoints of a cluster that were ejected and are not back.", Kind::Gauge);
    for (cluster, of) in &watched {
        out.sample(name, &[("cluster", cluster)], of.crowd().out as f64);
    }
    let name = "leno_ejections_total";
    out.family(name, "Ejections of endpoints of a cluster, by cause.", Kind::Counter);
    for (cluster, of) in &watched {
        ejections(of).for_each(|(cause, count)| {
            out.sample(name, &[("cluster", cluster), ("cause", cause)], count as f64);
        });
    }
}

fn write_breakers(out: &mut Exposition, clusters: &BTreeMap<&str, &Cluster>) {
    let seen = |(name, cluster): (&&str, &&Cluster)| {
        let breaker = cluster.resilience.breaker.as_ref()?;
        // Of counts nothing is shown here, so that no time is needed.
        let mut seen = breaker.seen(Duration::ZERO);
        seen.state = match cluster.resilience.breaker_forced {
            Some(ForcedState::Open) => State::Open,
            Some(ForcedState::Closed) => State::Closed,
            None => seen.state,
        };
        Some((name.to_string(), seen))
    };
    let breakers: Vec<(String, Seen)> = clusters.iter().filter_map(seen).collect();
    let name = "leno_breaker_state";
    out.family(
        name,
        "The state in which the breaker of a cluster is (1) and those in which it is not (0).",
        Kind::Gauge,
    );
    for (cluster, seen) in &breakers {
        for state in [State::Closed, State::Open, State::HalfOpen] {
            let is = f64::from(u8::from(seen.state == state));
            out.sample(name, &[("cluster", cluster), ("state", state_text(state))], is);
        }
    }
    for (name, help, value) in [
        (
            "leno_breaker_opened_total",
            "Times that the breaker of a cluster opened.",
            (|seen| seen.opened) as fn(&Seen) -> u64,
        ),
        ("leno_breaker_refused_total", "Requests that the breaker of a cluster refused.", |seen| seen.refused),
    ] {
        out.family(name, help, Kind::Counter);
        for (cluster, seen) in &breakers {
            out.sample(name, &[("cluster", cluster)], value(seen) as f64);
        }
    }
}

fn write_budgets(out: &mut Exposition, clusters: &BTreeMap<&str, &Cluster>) {
    let now = SystemClock.monotonic();
    let name = "leno_retry_budget_left";
    out.family(name, "Retries that the budget of a cluster has left now.", Kind::Gauge);
    for (cluster, of) in clusters {
        out.sample(name, &[("cluster", cluster)], of.budget.spent(now).left as f64);
    }
    let name = "leno_retry_budget_refused_total";
    out.family(name, "Retries that the budget of a cluster had nothing left for.", Kind::Counter);
    for (cluster, of) in clusters {
        out.sample(name, &[("cluster", cluster)], of.budget.refused() as f64);
    }
}

fn write_hedges(out: &mut Exposition, clusters: &BTreeMap<&str, &Cluster>) {
    let name = "leno_hedges_total";
    out.family(name, "Tries that were sent to a cluster beside others that were waited for.", Kind::Counter);
    for (cluster, of) in clusters {
        out.sample(name, &[("cluster", cluster)], of.resilience.hedges().0 as f64);
    }
    let name = "leno_hedges_answered_total";
    out.family(name, "Those of them that were answered before the others.", Kind::Counter);
    for (cluster, of) in clusters {
        out.sample(name, &[("cluster", cluster)], of.resilience.hedges().1 as f64);
    }
}

fn write_admission(out: &mut Exposition, clusters: &BTreeMap<&str, &Cluster>) {
    let name = "leno_admission_held_back_total";
    out.family(name, "Requests to a cluster that were held back because it does few, by priority.", Kind::Counter);
    for (cluster, of) in clusters {
        let held_back =
            of.resilience.admission.iter().flat_map(|admission| Priority::ALL.into_iter().zip(admission.held_back()));
        for (priority, count) in held_back {
            out.sample(name, &[("cluster", cluster), ("priority", priority.text())], count as f64);
        }
    }
}

fn write_fallbacks(out: &mut Exposition, clusters: &BTreeMap<&str, &Cluster>) {
    let name = "leno_fallback_answers_total";
    out.family(
        name,
        "Requests to a cluster that came to no good answer and had a fallback, by what answered.",
        Kind::Counter,
    );
    for (cluster, of) in clusters.iter().filter(|(_, of)| of.spec.resilience.stand_in.is_some()) {
        for (by, count) in stood_in(of) {
            out.sample(name, &[("cluster", cluster), ("by", by)], count as f64);
        }
    }
}

fn write_limits(out: &mut Exposition, clusters: &BTreeMap<&str, &Cluster>) {
    let of = |(name, cluster): (&&str, &&Cluster)| {
        let name = name.to_string();
        cluster.resilience.fills().map(move |(limit, fill)| (name.clone(), limit, fill)).collect::<Vec<_>>()
    };
    let fills: Vec<(String, &str, Fill)> = clusters.iter().flat_map(of).collect();
    let mut family = |name: &str, help: &str, kind: Kind, value: &dyn Fn(&Fill) -> f64| {
        out.family(name, help, kind);
        for (cluster, limit, fill) in &fills {
            out.sample(name, &[("cluster", cluster), ("limit", limit)], value(fill));
        }
    };
    family("leno_limit_open", "What is open under a limit: requests, retries or connections.", Kind::Gauge, &|f| {
        f.open.into()
    });
    family("leno_limit_max", "What may be open under a limit.", Kind::Gauge, &|f| f.max.into());
    family("leno_limit_waiting", "Requests that wait because all that a limit allows is open.", Kind::Gauge, &|f| {
        f.waiting.into()
    });
    let help = "What a limit refused because all was taken.";
    family("leno_limit_refused_total", help, Kind::Counter, &|f| f.refused as f64);
    let help = "Requests that waited for what a limit allows until their time was over.";
    family("leno_limit_late_total", help, Kind::Counter, &|f| f.late as f64);
}
