//! Least request over two choices: of two members drawn by weight, the one with fewer open requests for its weight.

use super::{Ask, Balance, Set};

/// Looks at open requests only.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeastRequest;

impl Balance for LeastRequest {
    fn pick(&self, set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
        set.better_of_two(ask, 0.0, |set, slot, _| set.occupancy(slot))
    }
}
