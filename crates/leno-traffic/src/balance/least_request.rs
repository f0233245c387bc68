//! Least request over two choices: of two members drawn by weight, the one with fewer open requests for its weight.

use super::{Ask, Balance, Set};

/// Looks at open requests only.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeastRequest;

impl Balance for LeastRequest {
    fn pick(&self, set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
        set.better_of_two(ask, 0.0, |set, slot, now| set.occupancy(slot, now))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use leno_model::snapshot::BalancePolicy;

    use super::super::suite::{Server, simulate};

    #[test]
    fn a_slow_endpoint_gets_what_it_can_do() {
        let mut servers: Vec<Server> = (0..5).map(|_| Server::new(1, Duration::from_millis(10))).collect();
        servers[0] = Server::new(1, Duration::from_millis(40));
        let counts = simulate(BalancePolicy::LeastRequest, &servers, 40, 20_000, 3).counts;
        let share = f64::from(counts[0]) / 20_000.0;
        assert!((share - 0.25 / 4.25).abs() < 0.02, "{counts:?}");
    }
}
