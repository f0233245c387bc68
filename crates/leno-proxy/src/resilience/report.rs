//! Limits, ejections, breakers and budgets of a cluster for the report to the server.

use std::time::Duration;

use leno_model::snapshot::{ForcedState, Priority};
use leno_telemetry::report::PolicyState;
use leno_traffic::breaker::State;
use leno_traffic::load::Standing;

use super::show::{cause, state_text};
use crate::cluster::Cluster;

/// Adds those of a cluster that are in use or not at rest.
pub(crate) fn report(cluster: &Cluster, now: Duration, states: &mut Vec<PolicyState>) {
    let spent = cluster.budget.spent(now);
    let is_used = spent.requests > 0;
    states.extend(breaker(cluster, now, is_used));
    states.extend(ejected(cluster, now));
    let of = |kind: &str| state(cluster, kind);
    for (limit, fill) in cluster.resilience.fills() {
        if is_used || fill.open > 0 || fill.waiting > 0 {
            let (used, max, waiting) = (fill.open.into(), fill.max.into(), fill.waiting.into());
            let state = PolicyState { name: limit.to_owned(), used, max, waiting, ..of("limit") };
            states.push(state.counting([("refused", fill.refused), ("late", fill.late)]));
        }
    }
    if spent.retries > 0 || is_used && spent.refused > 0 {
        let state =
            PolicyState { used: spent.retries, max: spent.retries.saturating_add(spent.left), ..of("retry_budget") };
        states.push(state.counting([("refused", spent.refused)]));
    }
    if let Some(admission) = cluster.resilience.admission.as_ref().filter(|_| is_used) {
        let share = Priority::ALL.iter().map(|priority| admission.share(*priority, now)).fold(0.0, f64::max);
        let state = PolicyState { used: (share * 100.0) as u64, max: 100, ..of("admission") };
        let held_back = Priority::ALL.iter().map(|priority| priority.text()).zip(admission.held_back());
        states.push(state.counting(held_back));
    }
}

fn state(cluster: &Cluster, kind: &str) -> PolicyState {
    PolicyState { cluster: cluster.spec.name.to_string(), ..PolicyState::new(&cluster.spec.service, kind) }
}

fn breaker(cluster: &Cluster, now: Duration, is_used: bool) -> Option<PolicyState> {
    let resilience = &cluster.resilience;
    let seen = resilience.breaker.as_ref()?.seen(now);
    let (word, since) = match resilience.breaker_forced {
        Some(ForcedState::Open) => ("held_open", None),
        Some(ForcedState::Closed) => ("held_closed", None),
        // It was never open.
        None if seen.since.is_zero() => (state_text(seen.state), None),
        None => (state_text(seen.state), Some(ms(now.saturating_sub(seen.since)))),
    };
    if !is_used && word == state_text(State::Closed) {
        return None;
    }
    let bad = seen.counts.failed.saturating_add(seen.counts.slow);
    let state = PolicyState {
        state: word.to_owned(),
        since_ms: since,
        used: bad.into(),
        max: seen.counts.total.into(),
        ..state(cluster, "breaker")
    };
    Some(state.counting([("opened", seen.opened), ("refused", seen.refused)]))
}

/// Instances that are out, or being tried.
fn ejected(cluster: &Cluster, now: Duration) -> impl Iterator<Item = PolicyState> {
    let watched = cluster.resilience.ejection.iter().flat_map(|watch| watch.conducts.iter().zip(&cluster.endpoints));
    watched.filter_map(move |(conduct, endpoint)| {
        let (word, left) = match endpoint.state.load.standing() {
            Standing::In => return None,
            Standing::Out(until) => ("ejected", Some(ms(until.saturating_sub(now)))),
            Standing::Probing => ("probing", None),
        };
        let (since, times) = conduct.ejected();
        let state = PolicyState {
            name: endpoint.spec.id.to_string(),
            state: word.to_owned(),
            since_ms: Some(ms(now.saturating_sub(since))),
            left_ms: left,
            reason: conduct.cause().map(cause).unwrap_or_default().to_owned(),
            ..state(cluster, "ejection")
        };
        Some(state.counting([("ejected", times.into())]))
    })
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
