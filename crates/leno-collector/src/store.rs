//! Tallies: what an edge counted in each slot of five seconds, for an hour.
//!
//! The slot that is open is kept ready for adding; a closed one is packed into bytes (a busy slot takes about 80), since
//! an hour of slots is 720 for each edge. A slot in which nothing happened takes none.

mod packed;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use leno_telemetry::edge::{EdgeKey, EdgeProtocol, EdgeSnapshot, Outcome, Peer, Reporter, Security};
use leno_telemetry::metric::HistogramSnapshot;

use packed::Packed;

/// The length of a slot.
pub const SLOT: Duration = Duration::from_secs(5);

/// Different outcomes that a tally tells apart; more are counted by class of status.
const OUTCOMES_MAX: usize = 64;

/// An edge over all proxies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SeriesKey {
    /// The side that counted.
    pub reporter: Reporter,
    /// Who calls.
    pub source: Peer,
    /// Who is called.
    pub destination: Peer,
    /// The version that is called.
    pub version: Option<std::sync::Arc<str>>,
    /// What is spoken.
    pub protocol: EdgeProtocol,
}

/// What happened in some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests by outcome.
    pub outcomes: Vec<(Outcome, u64)>,
    /// Their durations.
    pub latency: HistogramSnapshot,
    /// Bytes of request bodies.
    pub received: u64,
    /// Bytes of answer bodies.
    pub sent: u64,
    /// Tries after the first.
    pub retries: u64,
    /// TCP connections opened.
    pub connections_opened: u64,
    /// TCP connections closed.
    pub connections_closed: u64,
    /// Bytes from clients of TCP connections.
    pub tcp_received: u64,
    /// Bytes to clients of TCP connections.
    pub tcp_sent: u64,
}

/// The tallies of one edge.
#[derive(Debug, Default)]
pub struct Series {
    open_slot: u64,
    open: Tally,
    closed: VecDeque<(u64, Packed)>,
    /// Requests that are open now, over all proxies.
    pub requests_open: i64,
    /// TCP connections that are open now, over all proxies.
    pub connections_open: i64,
    /// How the last reported connections were secured.
    pub security: Security,
}

/// All series.
#[derive(Debug, Default)]
pub struct Series5s {
    map: HashMap<SeriesKey, Series>,
}

/// The number of the slot that holds a moment.
pub fn slot_of(now: Duration) -> u64 {
    now.as_secs() / SLOT.as_secs()
}

// === impl SeriesKey ===

impl From<&EdgeKey> for SeriesKey {
    fn from(key: &EdgeKey) -> Self {
        Self {
            reporter: key.reporter,
            source: key.source.clone(),
            destination: key.destination.clone(),
            version: key.destination_version.clone(),
            protocol: key.protocol,
        }
    }
}

impl SeriesKey {
    fn overflow(&self) -> Self {
        Self { source: Peer::Overflow, destination: Peer::Overflow, version: None, ..self.clone() }
    }
}

// === impl Series5s ===

impl Series5s {
    /// The series of a key, made now if there is room; beyond `max` the one called `overflow`.
    pub fn entry(&mut self, key: SeriesKey, max: usize) -> &mut Series {
        let full = self.map.len() >= max && !self.map.contains_key(&key);
        let key = if full { key.overflow() } else { key };
        self.map.entry(key).or_default()
    }

    /// The series of a key, if there is one; else `overflow`, where its counts went.
    pub fn existing(&mut self, key: &SeriesKey) -> Option<&mut Series> {
        if self.map.contains_key(key) { self.map.get_mut(key) } else { self.map.get_mut(&key.overflow()) }
    }

    /// Every series.
    pub fn iter(&self) -> impl Iterator<Item = (&SeriesKey, &Series)> {
        self.map.iter()
    }

    /// Forgets tallies from before slot `oldest`, and series that have none and nothing open.
    pub fn forget_before(&mut self, oldest: u64) {
        self.map.retain(|_, series| {
            series.forget_before(oldest);
            !series.closed.is_empty()
                || series.open_slot >= oldest
                || series.requests_open > 0
                || series.connections_open > 0
        });
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}

// === impl Series ===

impl Series {
    /// Adds what happened in `slot`. Slots come in order; an older one is added to the newest.
    pub fn add(&mut self, slot: u64, tally: &Tally) {
        if slot > self.open_slot {
            self.close();
            self.open_slot = slot;
        }
        self.open.add(tally);
    }

    /// Adds the tallies of slots `from..=to` to `sum`.
    pub fn add_to(&self, from: u64, to: u64, sum: &mut Tally) {
        for (slot, packed) in self.closed.range(self.closed.partition_point(|(slot, _)| *slot < from)..) {
            if *slot <= to {
                packed.add_to(sum);
            }
        }
        if (from..=to).contains(&self.open_slot) {
            sum.add(&self.open);
        }
    }

    /// The tallies of slots `from..=to` with their slots, oldest first.
    pub fn between(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, Tally)> + '_ {
        let first = self.closed.partition_point(|(slot, _)| *slot < from);
        let closed = self.closed.range(first..).take_while(move |(slot, _)| *slot <= to);
        let closed = closed.map(|(slot, packed)| (*slot, packed.unpack()));
        let open = (from..=to).contains(&self.open_slot).then(|| (self.open_slot, self.open.clone()));
        closed.chain(open)
    }

    fn close(&mut self) {
        let tally = std::mem::take(&mut self.open);
        if !tally.is_empty() {
            self.closed.push_back((self.open_slot, Packed::pack(&tally)));
        }
    }

    fn forget_before(&mut self, oldest: u64) {
        while self.closed.front().is_some_and(|(slot, _)| *slot < oldest) {
            self.closed.pop_front();
        }
        self.closed.shrink_to(self.closed.len() * 2);
    }
}

// === impl Tally ===

impl Tally {
    /// What was counted between two readings of one edge; everything when the later one does not continue the earlier.
    pub fn between(earlier: &EdgeSnapshot, later: &EdgeSnapshot) -> Self {
        Self::difference(earlier, later)
            .or_else(|| Self::difference(&EdgeSnapshot::default(), later))
            .unwrap_or_default()
    }

    fn difference(earlier: &EdgeSnapshot, later: &EdgeSnapshot) -> Option<Self> {
        // A handful: a search in a row is faster than a map.
        let before = |outcome| earlier.outcomes.iter().find(|(known, _)| *known == outcome).map_or(0, |(_, n)| *n);
        let mut outcomes = Vec::new();
        for (outcome, count) in &later.outcomes {
            let more = count.checked_sub(before(*outcome))?;
            if more > 0 {
                outcomes.push((*outcome, more));
            }
        }
        if later.outcomes.len() < earlier.outcomes.len() {
            return None;
        }
        Some(Self {
            outcomes,
            latency: later.latency.since(&earlier.latency)?,
            received: later.received.checked_sub(earlier.received)?,
            sent: later.sent.checked_sub(earlier.sent)?,
            retries: later.retries.checked_sub(earlier.retries)?,
            connections_opened: later.connections_opened.checked_sub(earlier.connections_opened)?,
            connections_closed: later.connections_closed.checked_sub(earlier.connections_closed)?,
            tcp_received: later.tcp_received.checked_sub(earlier.tcp_received)?,
            tcp_sent: later.tcp_sent.checked_sub(earlier.tcp_sent)?,
        })
    }

    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        for (outcome, count) in &other.outcomes {
            self.count(*outcome, *count);
        }
        self.latency.merge(&other.latency);
        self.received = self.received.saturating_add(other.received);
        self.sent = self.sent.saturating_add(other.sent);
        self.retries = self.retries.saturating_add(other.retries);
        self.connections_opened = self.connections_opened.saturating_add(other.connections_opened);
        self.connections_closed = self.connections_closed.saturating_add(other.connections_closed);
        self.tcp_received = self.tcp_received.saturating_add(other.tcp_received);
        self.tcp_sent = self.tcp_sent.saturating_add(other.tcp_sent);
    }

    fn count(&mut self, outcome: Outcome, count: u64) {
        if let Some((_, sum)) = self.outcomes.iter_mut().find(|(known, _)| *known == outcome) {
            *sum = sum.saturating_add(count);
            return;
        }
        let outcome = if self.outcomes.len() < OUTCOMES_MAX {
            outcome
        } else {
            Outcome {
                status: if outcome.status < 10 { outcome.status } else { outcome.status / 100 },
                grpc_status: None,
                flag: None,
            }
        };
        match self.outcomes.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None => self.outcomes.push((outcome, count)),
        }
    }

    /// Requests.
    pub fn requests(&self) -> u64 {
        self.outcomes.iter().map(|(_, count)| count).sum()
    }

    /// Requests that failed by the fault of the service or the way to it.
    pub fn errors(&self) -> u64 {
        self.outcomes.iter().filter(|(outcome, _)| outcome.is_error()).map(|(_, count)| count).sum()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(requests: u64) -> Tally {
        let outcome = Outcome { status: 200, grpc_status: None, flag: None };
        Tally { outcomes: vec![(outcome, requests)], sent: 10, ..Tally::default() }
    }

    fn key(name: &str) -> SeriesKey {
        SeriesKey {
            reporter: Reporter::Source,
            source: name.parse().unwrap(),
            destination: "cart.shop".parse().unwrap(),
            version: None,
            protocol: EdgeProtocol::Http,
        }
    }

    #[test]
    fn tallies_are_found_by_slot() {
        let mut series = Series::default();
        for slot in [10, 10, 11, 14] {
            series.add(slot, &tally(slot));
        }
        let seen = |from, to| series.between(from, to).map(|(slot, t)| (slot, t.requests())).collect::<Vec<_>>();
        assert_eq!(seen(0, 99), [(10, 20), (11, 11), (14, 14)]);
        assert_eq!(seen(11, 13), [(11, 11)]);
        assert_eq!(seen(12, 13), []);
    }

    #[test]
    fn old_tallies_and_empty_series_are_forgotten() {
        let mut all = Series5s::default();
        all.entry(key("a.x"), 9).add(10, &tally(1));
        all.entry(key("a.x"), 9).add(20, &tally(1));
        all.entry(key("b.x"), 9).add(10, &tally(1));
        all.forget_before(15);
        assert_eq!(all.len(), 1);
        assert_eq!(all.existing(&key("a.x")).unwrap().between(0, 99).count(), 1);
        all.forget_before(21);
        assert!(all.is_empty());
    }

    #[test]
    fn an_open_connection_keeps_its_series() {
        let mut all = Series5s::default();
        all.entry(key("a.x"), 9).connections_open = 1;
        all.forget_before(100);
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn series_beyond_the_limit_share_one() {
        let mut all = Series5s::default();
        for name in ["a.x", "b.x", "c.x", "d.x"] {
            all.entry(key(name), 2).add(1, &tally(1));
        }
        assert_eq!(all.len(), 3);
        assert_eq!(all.existing(&key("d.x")).unwrap().between(0, 9).next().unwrap().1.requests(), 2);
    }

    #[test]
    fn outcomes_beyond_the_limit_are_counted_by_class() {
        let mut sum = Tally::default();
        for status in 500..600 {
            sum.add(&Tally {
                outcomes: vec![(Outcome { status, grpc_status: None, flag: None }, 1)],
                ..Tally::default()
            });
        }
        assert_eq!((sum.requests(), sum.errors(), sum.outcomes.len()), (100, 100, OUTCOMES_MAX + 1));
    }
}
