//! Peak EWMA over two choices: of two members drawn by weight, the one with the lower latency × open requests.
//!
//! As Finagle and Linkerd, with one difference: the second of the two must be cheaper by a fifth. Without that margin
//! two equal endpoints that differ by noise split 100 to 0 while load is low.

use super::{Ask, Balance, Set};

/// Less than this part of a cost is noise.
const MARGIN: f32 = 0.2;

/// The default policy.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeakEwma;

impl Balance for PeakEwma {
    fn pick(&self, set: &Set, ask: &mut Ask<'_>) -> Option<usize> {
        set.better_of_two(ask, MARGIN, |set, slot, now_ms| {
            slot.load.expected_ns(now_ms, slot.load.open_requests()) * set.occupancy(slot)
        })
    }
}
