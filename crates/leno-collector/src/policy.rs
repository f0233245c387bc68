//! How policies stand at proxies, as their last reports say, together by service.
//!
//! A report holds all of its proxy's that are in use or not at rest, so that what it leaves out is forgotten, and so is what
//! a proxy said that has been silent for some of its reports. Rates come from counts that are between five and ten seconds
//! apart. What a proxy says is taken as its word: names and words that are none are refused one by one, and what it says
//! beyond [`POLICIES_MAX`] and beyond [`Limits::policies`](crate::Limits) of all proxies is left out and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use leno_model::name::ServiceName;
use leno_telemetry::report::{POLICIES_MAX, PolicyState, Report};
use serde::Serialize;

use crate::ingest::{Collector, Proxy};

/// Rows of one service.
pub const ROWS_MAX: usize = 200;
/// Proxies that are named in one row, those first where it matters most.
pub const HOLDERS_MAX: usize = 20;
/// Bytes of the name of a cluster, a limit or an instance.
const NAME_MAX: usize = 256;
/// Bytes of a word: a kind, a state, what is counted.
const WORD_MAX: usize = 32;
/// Counts of one state.
const COUNTS_MAX: usize = 8;
/// The least time between the counts that a rate comes from, in milliseconds of the proxy.
const RATE_OVER_MS: u64 = 5_000;

/// What is known of a proxy's policies.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    /// Sorted by [`key`].
    kept: Vec<Kept>,
    pub(crate) left_out: u64,
}

/// One state, with counts of before.
#[derive(Debug)]
struct Kept {
    service: ServiceName,
    state: PolicyState,
    /// At which time of the proxy, and the counts in the order of the state's.
    base: (u64, Vec<u64>),
    /// What becomes the base.
    next: (u64, Vec<u64>),
    now_ms: u64,
}

/// How the policies of a service stand.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ServicePolicies {
    /// What matters most first, then by kind and name; at most [`ROWS_MAX`].
    pub rows: Vec<PolicyView>,
    /// States that proxies left out of reports, of all services: their reports, or the server, hold no more.
    pub left_out: u64,
}

/// One policy over all proxies that hold it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicyView {
    /// `breaker`, `ejection`, `limit`, `rate_limit`, `retry_budget`, `admission`, `overload`, `pressure`, `fault`, or what a
    /// newer proxy says.
    pub kind: String,
    /// The cluster; empty for the service as a whole.
    pub cluster: String,
    /// Which limit, instance or fault.
    pub name: String,
    /// `caller`, or `service` for what is held in front of its instances.
    pub at: &'static str,
    /// How many proxies hold it.
    pub proxies: usize,
    /// How many of them are in which state.
    pub states: BTreeMap<String, usize>,
    /// What they did a second, all together.
    pub rates: BTreeMap<String, f64>,
    /// What they did since they started.
    pub totals: BTreeMap<String, u64>,
    /// Each of them, at most [`HOLDERS_MAX`]: those where it matters most, the fullest, the longest.
    pub holders: Vec<Holder>,
}

/// How a policy stands at one proxy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Holder {
    /// The proxy's id.
    pub proxy: String,
    /// The service beside it.
    pub service: String,
    /// The state.
    pub state: String,
    /// Seconds for which it has stood so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<f64>,
    /// Seconds for which it will.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<f64>,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How much of it is used.
    pub used: u64,
    /// Of how much; 0 where that is not known.
    pub max: u64,
    /// Requests that wait for it.
    pub waiting: u64,
    /// What it did a second.
    pub rates: BTreeMap<String, f64>,
    #[serde(skip)]
    urgency: u8,
}

/// What of a service's policies is not at rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PolicyCounts {
    /// Clusters of which a breaker is open or half open, at any proxy.
    pub open: usize,
    /// Instances that are out or being tried, at any proxy.
    pub ejected: usize,
    /// Limits that refuse requests.
    pub limiting: usize,
    /// Whether requests are shed or held back, or an instance's proxy is short of memory.
    pub shedding: bool,
    /// Faults that are injected.
    pub faults: usize,
}

// === impl Policies ===

impl Policies {
    /// Takes what a report says, at most `room`; answers how many are kept, and how many were refused.
    pub(crate) fn take(&mut self, report: &Report, room: usize) -> (usize, u64) {
        let now_ms = report.wall_ms;
        let said = report.policies.len();
        let mut refused = 0;
        let mut kept: Vec<Kept> = Vec::new();
        for state in report.policies.iter().take(POLICIES_MAX.min(room)) {
            match service_of(state) {
                Some(service) => kept.push(self.keep(service, state, now_ms)),
                None => refused += 1,
            }
        }
        kept.sort_by(|a, b| key(&a.state).cmp(&key(&b.state)));
        // Of what is said twice, the first counts.
        kept.dedup_by(|a, b| key(&a.state) == key(&b.state));
        let beyond = said.saturating_sub(POLICIES_MAX.min(room)) as u64;
        self.left_out = report.policies_left_out.min(u64::from(u32::MAX)) + beyond;
        self.kept = kept;
        (self.kept.len(), refused)
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    fn keep(&self, service: ServiceName, state: &PolicyState, now_ms: u64) -> Kept {
        let counts: Vec<u64> = state.counts.iter().map(|count| count.count).collect();
        let before = self.kept.binary_search_by(|known| key(&known.state).cmp(&key(state))).ok();
        let before = before.map(|at| &self.kept[at]).filter(|known| {
            known.next.0 <= now_ms
                && known.state.counts.iter().map(|of| &of.what).eq(state.counts.iter().map(|of| &of.what))
        });
        let now = (now_ms, counts);
        let (base, next) = match before {
            Some(known) if now_ms - known.next.0 >= RATE_OVER_MS => (known.next.clone(), now),
            Some(known) => (known.base.clone(), known.next.clone()),
            None => (now.clone(), now),
        };
        Kept { service, state: state.clone(), base, next, now_ms }
    }
}

/// The service of a state that says nothing but names and words.
fn service_of(state: &PolicyState) -> Option<ServiceName> {
    let is_word = |text: &str| {
        text.len() <= WORD_MAX
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    };
    let is_name = |text: &str| text.len() <= NAME_MAX && !text.contains(char::is_control);
    let fits = !state.kind.is_empty()
        && [&state.kind, &state.state, &state.reason].into_iter().all(|word| is_word(word))
        && [&state.cluster, &state.name].into_iter().all(|name| is_name(name))
        && state.counts.len() <= COUNTS_MAX
        && state.counts.iter().all(|count| is_word(&count.what));
    state.service.parse().ok().filter(|_| fits)
}

fn key(state: &PolicyState) -> (&str, &str, &str, &str, bool) {
    (&state.service, &state.kind, &state.cluster, &state.name, state.at_service)
}

// === impl Kept ===

impl Kept {
    fn rates(&self) -> impl Iterator<Item = (&str, f64)> {
        let seconds = self.now_ms.saturating_sub(self.base.0) as f64 / 1000.0;
        self.state.counts.iter().zip(&self.base.1).map(move |(count, before)| {
            let more = count.count.saturating_sub(*before) as f64;
            (count.what.as_str(), if seconds > 0.0 { more / seconds } else { 0.0 })
        })
    }

    fn holder(&self, id: &str, proxy: &Proxy, age: Duration) -> Holder {
        let state = &self.state;
        let seconds = |ms: u64| ms as f64 / 1000.0;
        Holder {
            proxy: id.to_owned(),
            service: proxy.service.clone(),
            state: state.state.clone(),
            since: state.since_ms.map(|ms| seconds(ms) + age.as_secs_f64()),
            left: state.left_ms.map(|ms| (seconds(ms) - age.as_secs_f64()).max(0.0)),
            reason: state.reason.clone(),
            used: state.used,
            max: state.max,
            waiting: state.waiting,
            rates: self.rates().filter(|(_, rate)| *rate > 0.0).map(|(what, rate)| (what.to_owned(), rate)).collect(),
            urgency: state.urgency(),
        }
    }
}

// === impl Collector: policies ===

impl Collector {
    /// How the policies of a service stand at proxies.
    pub fn policies_of(&self, now: Duration, service: &ServiceName) -> ServicePolicies {
        let mut found: BTreeMap<(&str, &str, &str, bool), PolicyView> = BTreeMap::new();
        let mut left_out = 0;
        for (id, proxy, age) in self.speaking(now) {
            left_out += proxy.policies.left_out;
            for kept in proxy.policies.kept.iter().filter(|kept| kept.service == *service) {
                let (_, kind, cluster, name, at_service) = key(&kept.state);
                let view =
                    found.entry((kind, cluster, name, at_service)).or_insert_with(|| PolicyView::of(&kept.state));
                view.add(kept, kept.holder(id, proxy, age));
            }
        }
        let mut rows: Vec<PolicyView> = found.into_values().collect();
        rows.iter_mut().for_each(PolicyView::finish);
        rows.sort_by_key(|row| std::cmp::Reverse(row.holders.first().map(|holder| holder.urgency)));
        left_out += rows.len().saturating_sub(ROWS_MAX) as u64;
        rows.truncate(ROWS_MAX);
        ServicePolicies { rows, left_out }
    }

    /// What is not at rest, by service.
    pub fn policy_counts(&self, now: Duration) -> BTreeMap<ServiceName, PolicyCounts> {
        let mut seen: BTreeSet<(&ServiceName, &str, &str, &str)> = BTreeSet::new();
        let mut counts: BTreeMap<ServiceName, PolicyCounts> = BTreeMap::new();
        let speaking = self.speaking(now).flat_map(|(_, proxy, _)| &proxy.policies.kept);
        for kept in speaking.filter(|kept| kept.is_at_work()) {
            let (_, kind, cluster, name, _) = key(&kept.state);
            // An instance that is out of two clusters of a service is one.
            let cluster = if kind == "ejection" { "" } else { cluster };
            if seen.insert((&kept.service, kind, cluster, name)) {
                counts.entry(kept.service.clone()).or_default().add(kind);
            }
        }
        counts
    }

    /// Proxies that have reported within the time of a few reports, and how long ago.
    fn speaking(&self, now: Duration) -> impl Iterator<Item = (&String, &Proxy, Duration)> {
        let silent_after = self.report_every() * 5 + Duration::from_secs(5);
        let aged = self.proxies().map(move |(id, proxy)| (id, proxy, now.saturating_sub(proxy.seen)));
        aged.filter(move |(.., age)| *age <= silent_after)
    }
}

impl Kept {
    /// Whether somebody should hear of it.
    fn is_at_work(&self) -> bool {
        let does = |what: &str| self.rates().any(|(done, rate)| done == what && rate > 0.0);
        match self.state.kind.as_str() {
            "breaker" | "ejection" | "pressure" => self.state.urgency() >= 2,
            "limit" | "rate_limit" => does("refused") || does("late"),
            "overload" | "admission" => self.rates().any(|(_, rate)| rate > 0.0),
            "fault" => true,
            _ => false,
        }
    }
}

// === impl PolicyCounts ===

impl PolicyCounts {
    fn add(&mut self, kind: &str) {
        match kind {
            "breaker" => self.open += 1,
            "ejection" => self.ejected += 1,
            "limit" | "rate_limit" => self.limiting += 1,
            "fault" => self.faults += 1,
            _ => self.shedding = true,
        }
    }
}

// === impl PolicyView ===

impl PolicyView {
    fn of(state: &PolicyState) -> Self {
        Self {
            kind: state.kind.clone(),
            cluster: state.cluster.clone(),
            name: state.name.clone(),
            at: if state.at_service { "service" } else { "caller" },
            proxies: 0,
            states: BTreeMap::new(),
            rates: BTreeMap::new(),
            totals: BTreeMap::new(),
            holders: Vec::new(),
        }
    }

    fn add(&mut self, kept: &Kept, holder: Holder) {
        self.proxies += 1;
        if !holder.state.is_empty() {
            *self.states.entry(holder.state.clone()).or_default() += 1;
        }
        for (what, rate) in kept.rates() {
            *self.rates.entry(what.to_owned()).or_default() += rate;
        }
        for count in &kept.state.counts {
            let total = self.totals.entry(count.what.clone()).or_default();
            *total = total.saturating_add(count.count);
        }
        self.holders.push(holder);
        // Many proxies hold the same: those that are not shown are let go on the way.
        if self.holders.len() >= HOLDERS_MAX * 8 {
            self.finish();
        }
    }

    /// Leaves the holders where it matters most.
    fn finish(&mut self) {
        let fill = |holder: &Holder| (u128::from(holder.used) * 1000).checked_div(holder.max.into()).unwrap_or(0);
        self.holders.sort_by(|a, b| {
            let of = |holder: &Holder| (holder.urgency, holder.waiting > 0, fill(holder));
            of(b)
                .cmp(&of(a))
                .then(b.since.unwrap_or(0.0).total_cmp(&a.since.unwrap_or(0.0)))
                .then(a.proxy.cmp(&b.proxy))
        });
        self.holders.truncate(HOLDERS_MAX);
    }
}

#[cfg(test)]
mod tests;
