//! How policies stand at a proxy, as its reports tell it.
//!
//! One form for all of them, in words: a breaker, an instance that is out, a limit and its fill differ in `kind` and in which
//! numbers they have, so that a kind that comes later needs no other message, and a server that does not know it can still
//! show it. A report holds all that are in use or not at rest; what is missing from the next one is at rest. At most
//! [`POLICIES_MAX`] are in a report, those that are not at rest first; how many were left out is said beside them.

/// States of policies in one report.
pub const POLICIES_MAX: usize = 128;

/// How one policy stands.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PolicyState {
    /// The service that it is for: `cart.shop`.
    #[prost(string, tag = "1")]
    pub service: String,
    /// What it is: `breaker`, `ejection`, `limit`, `rate_limit`, `retry_budget`, `admission`, `overload`, `pressure` or
    /// `fault`.
    #[prost(string, tag = "2")]
    pub kind: String,
    /// The cluster; empty where it is for the service as a whole.
    #[prost(string, tag = "3")]
    pub cluster: String,
    /// Which of its kind: a limit, an instance, a fault; empty where there is one.
    #[prost(string, tag = "4")]
    pub name: String,
    /// Where it stands, in a word: `open`, `half_open`, `ejected`; of a limit that is shared `allotted` or, while no server
    /// answers, `away`; empty where there is but one way.
    #[prost(string, tag = "5")]
    pub state: String,
    /// For how long it has.
    #[prost(uint64, optional, tag = "6")]
    pub since_ms: Option<u64>,
    /// For how long it will.
    #[prost(uint64, optional, tag = "7")]
    pub left_ms: Option<u64>,
    /// Why, in a word.
    #[prost(string, tag = "8")]
    pub reason: String,
    /// How much of it is used.
    #[prost(uint64, tag = "9")]
    pub used: u64,
    /// Of how much; 0 where that is not known.
    #[prost(uint64, tag = "10")]
    pub max: u64,
    /// Requests that wait for it.
    #[prost(uint64, tag = "11")]
    pub waiting: u64,
    /// Whether it is held in front of the service's own instance, not of a caller.
    #[prost(bool, tag = "12")]
    pub at_service: bool,
    /// What it did since the proxy's start, by word: `refused`, `opened`.
    #[prost(message, repeated, tag = "13")]
    pub counts: Vec<PolicyCount>,
}

/// How often a policy did one thing.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PolicyCount {
    /// What: `refused`.
    #[prost(string, tag = "1")]
    pub what: String,
    /// How often.
    #[prost(uint64, tag = "2")]
    pub count: u64,
}

/// Where a proxy's report finds how its policies stand.
pub(super) struct Source(pub(super) Box<dyn Fn() -> Vec<PolicyState>>);

// === impl PolicyState ===

impl PolicyState {
    /// One of these words, with nothing else said of it.
    pub fn new(service: impl ToString, kind: &str) -> Self {
        Self { service: service.to_string(), kind: kind.to_owned(), ..Self::default() }
    }

    /// With counts.
    #[must_use]
    pub fn counting<'a>(mut self, counts: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        self.counts.extend(counts.into_iter().map(|(what, count)| PolicyCount { what: what.to_owned(), count }));
        self
    }

    /// How much it matters that somebody sees it: 3 for what keeps requests away, 2 for what is being tried, 1 for what
    /// somebody holds so or does on purpose, 0 at rest. A word of a newer leno is at rest.
    pub fn urgency(&self) -> u8 {
        match (self.state.as_str(), self.kind.as_str()) {
            ("open" | "held_open" | "ejected", _) => 3,
            ("half_open" | "probing" | "short", _) => 2,
            ("held_closed" | "away", _) | (_, "fault") => 1,
            _ => 0,
        }
    }
}

// === impl Source ===

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

/// As many as a report holds, those that matter most first, and how many were left out.
pub(super) fn cut(mut states: Vec<PolicyState>) -> (Vec<PolicyState>, u64) {
    // Full limits come before others.
    let key = |state: &PolicyState| {
        let fill = (state.used * 100).checked_div(state.max).unwrap_or_default().min(100);
        std::cmp::Reverse((state.urgency(), state.waiting > 0, fill))
    };
    if states.len() <= POLICIES_MAX {
        return (states, 0);
    }
    states.sort_by_key(key);
    let left_out = (states.len() - POLICIES_MAX) as u64;
    states.truncate(POLICIES_MAX);
    (states, left_out)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn what_keeps_requests_away_is_never_left_out_for_what_is_at_rest() {
        let quiet = |n: usize| PolicyState { name: n.to_string(), ..PolicyState::new("cart.shop", "limit") };
        let mut states: Vec<PolicyState> = (0..POLICIES_MAX + 10).map(quiet).collect();
        states.push(PolicyState { state: "open".into(), ..PolicyState::new("pay.shop", "breaker") });
        states.push(PolicyState { used: 9, max: 10, ..PolicyState::new("pay.shop", "limit") });
        let (kept, left_out) = cut(states);
        assert_eq!((kept.len(), left_out), (POLICIES_MAX, 12));
        assert_eq!((kept[0].kind.as_str(), kept[1].used), ("breaker", 9));
    }

    #[test]
    fn a_state_reads_as_it_was_written() {
        let state = PolicyState { since_ms: Some(0), ..PolicyState::new("cart.shop", "breaker") };
        let state = state.counting([("refused", 7)]);
        assert_eq!(PolicyState::decode(state.encode_to_vec().as_slice()).unwrap(), state);
    }
}
