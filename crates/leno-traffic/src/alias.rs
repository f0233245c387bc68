//! Drawing by weight in constant time: Walker's alias table, built as Vose does (1991).
//!
//! Every column holds the same share of the whole; it belongs to its own index up to a threshold and to one other index
//! above it. A draw takes a column with the high half of 64 random bits and compares the low half. Integers throughout,
//! so that shares are exact to 2^-32. Equal weights need no table.

/// A table for drawing indexes by weight.
#[derive(Debug)]
pub(crate) struct Alias {
    count: u64,
    /// Empty when all weights are equal.
    columns: Box<[Column]>,
}

#[derive(Debug, Clone, Copy)]
struct Column {
    /// Of 2^32: below it the column's own index is drawn.
    own: u64,
    other: u32,
}

// === impl Alias ===

impl Alias {
    /// For weights that are all above 0.
    pub(crate) fn new(weights: &[u32]) -> Self {
        let count = weights.len() as u64;
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self { count, columns: Box::default() };
        }
        // Scaled so that a column holds `sum`: an index is small while it does not fill its column.
        let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
        let mut left: Vec<u128> = weights.iter().map(|weight| u128::from(*weight) * u128::from(count)).collect();
        let mut columns = vec![Column { own: 1 << 32, other: 0 }; weights.len()];
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..weights.len()).partition(|index| left[*index] < sum);
        while let (Some(lesser), Some(greater)) = (small.pop(), large.pop()) {
            columns[lesser] = Column { own: ((left[lesser] << 32) / sum) as u64, other: greater as u32 };
            left[greater] -= sum - left[lesser];
            if left[greater] < sum { small.push(greater) } else { large.push(greater) }
        }
        Self { count, columns: columns.into() }
    }

    /// The index that 64 random bits fall on.
    pub(crate) fn draw(&self, random: u64) -> usize {
        let index = (((random >> 32) * self.count) >> 32) as usize;
        match self.columns.get(index) {
            Some(column) if random & 0xffff_ffff >= column.own => column.other as usize,
            _ => index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_drawn_in_proportion_to_their_weights() {
        let mut rng = fastrand::Rng::with_seed(1);
        for weights in [vec![1, 1, 1], vec![1, 2, 3, 4], vec![1_000_000, 1, 999_999], vec![5]] {
            let alias = Alias::new(&weights);
            let mut drawn = vec![0_u32; weights.len()];
            (0..200_000).for_each(|_| drawn[alias.draw(rng.u64(..))] += 1);
            let sum: u32 = weights.iter().sum();
            for (weight, drawn) in weights.iter().zip(&drawn) {
                let (wanted, got) = (f64::from(*weight) / f64::from(sum), f64::from(*drawn) / 200_000.0);
                assert!((wanted - got).abs() < 0.006, "{weights:?}: {wanted} {got}");
            }
        }
    }
}
