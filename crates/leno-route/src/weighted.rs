//! A choice by weight among a few: the clusters of a rule. Endpoints, which are many, have `leno-traffic`.

/// The index that `random` (64 uniform bits) falls on when each index has its share of the sum; none when all weights
/// are 0. An index of weight 0 is never taken.
pub fn pick(weights: &[u32], random: u64) -> Option<usize> {
    pick_by(weights, |weight| *weight, random)
}

/// As [`pick`], for anything that has a weight.
pub fn pick_by<T>(items: &[T], weight: impl Fn(&T) -> u32, random: u64) -> Option<usize> {
    let sum: u64 = items.iter().map(|item| u64::from(weight(item))).sum();
    let mut left = ((u128::from(random) * u128::from(sum)) >> 64) as u64;
    for (index, item) in items.iter().enumerate() {
        let weight = u64::from(weight(item));
        if left < weight {
            return Some(index);
        }
        left -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_index_gets_its_share() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut taken = [0_u32; 4];
        for _ in 0..100_000 {
            taken[pick(&[1, 0, 2, 7], rng.u64(..)).unwrap()] += 1;
        }
        assert_eq!(taken[1], 0);
        for (index, share) in [(0, 0.1), (2, 0.2), (3, 0.7)] {
            assert!((f64::from(taken[index]) / 100_000.0 - share).abs() < 0.01, "{taken:?}");
        }
    }

    #[test]
    fn nothing_is_taken_when_all_weights_are_zero() {
        assert_eq!(pick(&[0, 0], u64::MAX), None);
        assert_eq!(pick(&[], 0), None);
    }

    #[test]
    fn the_ends_of_the_random_range_stay_inside() {
        assert_eq!(pick(&[0, 1, 1, 0], 0), Some(1));
        assert_eq!(pick(&[0, 1, 1, 0], u64::MAX), Some(2));
        assert_eq!(pick(&[u32::MAX; 3], u64::MAX), Some(2));
    }
}
