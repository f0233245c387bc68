//! Random: drawn by weight.

use super::{Ask, Balance, Set};

/// Looks at nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Random;

impl Balance for Random {
    fn pick(&self, set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
        set.draw(ask, None)
    }
}
