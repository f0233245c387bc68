//! Peak EWMA over two choices: of two members drawn by weight, the one with the lower latency × open requests.
//!
//! As Finagle and Linkerd, with one difference: the second of the two must be cheaper by a fifth. Without that margin
//! two equal endpoints that differ by noise split 100 to 0 while load is low.

use super::{Ask, Balance, Set};
use crate::load::stamp;

/// Less than this part of a cost is noise.
const MARGIN: f32 = 0.2;

/// The default policy.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeakEwma;

impl Balance for PeakEwma {
    fn pick(&self, set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
        set.better_of_two(ask, MARGIN, |set, slot, now| {
            slot.load.expected_ns(stamp(now), slot.load.open_requests()) * set.occupancy(slot, now)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use leno_model::snapshot::BalancePolicy;

    use super::super::suite::{Server, Simulated, simulate};

    const MS: Duration = Duration::from_millis(1);

    fn peak_ewma(servers: &[Server], open: usize, picks: usize) -> Simulated {
        simulate(BalancePolicy::PeakEwma, servers, open, picks, 23)
    }

    /// The share of `server` among the picks between two times.
    fn share(simulated: &Simulated, server: usize, from: Duration, to: Duration) -> f64 {
        let between: Vec<usize> =
            simulated.picks.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, picked)| *picked).collect();
        between.iter().filter(|picked| **picked == server).count() as f64 / between.len() as f64
    }

    #[test]
    fn a_slow_endpoint_gets_less_traffic() {
        let mut servers: Vec<Server> = (0..9).map(|_| Server::new(1, 5 * MS)).collect();
        servers.push(Server::new(1, 50 * MS));
        let simulated = peak_ewma(&servers, 8, 50_000);
        assert!(simulated.counts[9] < 50_000 / 100, "{:?}", simulated.counts);
        assert!(simulated.counts[9] > 0, "{:?}", simulated.counts);
        let others = &simulated.counts[..9];
        assert!(others.iter().all(|count| (4_000..7_500).contains(count)), "{others:?}");
    }

    #[test]
    fn an_endpoint_that_becomes_slow_loses_its_traffic_and_gets_it_back() {
        let minute = Duration::from_secs(60);
        let service = move |now: Duration| if (minute..2 * minute).contains(&now) { 200 * MS } else { 5 * MS };
        let servers =
            [Server::varying(1, service), Server::new(1, 5 * MS), Server::new(1, 5 * MS), Server::new(1, 5 * MS)];
        let simulated = peak_ewma(&servers, 4, 200_000);
        let share = |from, to| share(&simulated, 0, from, to);
        assert!(share(Duration::ZERO, minute) > 0.2);
        assert!(share(minute + 1000 * MS, 2 * minute) < 0.02);
        assert!(share(3 * minute, 4 * minute) > 0.2);
    }

    #[test]
    fn an_endpoint_that_fails_fast_draws_no_traffic() {
        let mut servers: Vec<Server> = (0..4).map(|_| Server::new(1, 10 * MS)).collect();
        servers[1] = Server { fails: true, ..Server::new(1, MS / 10) };
        let simulated = peak_ewma(&servers, 4, 20_000);
        assert!(simulated.counts[1] < 200, "{:?}", simulated.counts);
    }

    #[test]
    fn equal_endpoints_share_evenly_whatever_the_load() {
        for open in [1, 4, 16, 64] {
            let servers: Vec<Server> = (0..4).map(|_| Server::new(1, 5 * MS)).collect();
            let counts = peak_ewma(&servers, open, 40_000).counts;
            assert!(counts.iter().all(|count| (8_000..12_000).contains(count)), "{open}: {counts:?}");
        }
    }

    #[test]
    fn new_endpoints_are_not_flooded_before_they_have_answered() {
        let servers: Vec<Server> = (0..10).map(|_| Server::new(1, 5 * MS)).collect();
        let counts = peak_ewma(&servers, 100, 100).counts;
        assert!(counts.iter().all(|count| *count <= 20), "{counts:?}");
    }
}
