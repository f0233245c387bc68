//! A tally in bytes: variable-length numbers (LEB128), most of them one or two bytes.

use leno_telemetry::edge::Outcome;

use super::Tally;

/// A packed tally.
#[derive(Debug)]
pub(super) struct Packed(Box<[u8]>);

// === impl Packed ===

impl Packed {
    pub(super) fn pack(tally: &Tally) -> Self {
        let mut out = Vec::with_capacity(96);
        for number in scalars(tally) {
            put(number, &mut out);
        }
        put(tally.outcomes.len() as u64, &mut out);
        for (outcome, count) in &tally.outcomes {
            put(u64::from(outcome.pack()), &mut out);
            put(*count, &mut out);
        }
        let mut before = 0;
        for (bucket, count) in tally.latency.sparse() {
            put(u64::from(bucket - before), &mut out);
            put(count, &mut out);
            before = bucket;
        }
        Self(out.into_boxed_slice())
    }

    pub(super) fn unpack(&self) -> Tally {
        let mut tally = Tally::default();
        self.add_to(&mut tally);
        tally
    }

    /// Adds what is packed to `sum`, without a tally between.
    pub(super) fn add_to(&self, sum: &mut Tally) {
        let mut rest = &*self.0;
        let mut next = || get(&mut rest);
        let fields = [
            &mut sum.latency.sum_us,
            &mut sum.received,
            &mut sum.sent,
            &mut sum.retries,
            &mut sum.connections_opened,
            &mut sum.connections_closed,
            &mut sum.tcp_received,
            &mut sum.tcp_sent,
        ];
        fields.into_iter().for_each(|field| *field = field.saturating_add(next()));
        for _ in 0..next() {
            let outcome = Outcome::unpack(next() as u32);
            sum.count(outcome, next());
        }
        let mut bucket = 0;
        while !rest.is_empty() {
            bucket += get(&mut rest) as u32;
            sum.latency.add_bucket(bucket, get(&mut rest));
        }
    }
}

fn scalars(tally: &Tally) -> [u64; 8] {
    [
        tally.latency.sum_us,
        tally.received,
        tally.sent,
        tally.retries,
        tally.connections_opened,
        tally.connections_closed,
        tally.tcp_received,
        tally.tcp_sent,
    ]
}

fn put(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The next number; 0 at the end, which only bytes of another origin could reach.
fn get(rest: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    while let Some((byte, behind)) = rest.split_first() {
        *rest = behind;
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 || shift > 63 {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use leno_telemetry::Flag;
    use leno_telemetry::metric::HistogramSnapshot;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tally_survives_packing(
            numbers: [u64; 8],
            statuses in prop::collection::btree_map(100_u16..600, 1_u64..1 << 40, 0..9),
            buckets in prop::collection::btree_map(0_u32..224, 1_u64..1 << 40, 0..30),
        ) {
            let outcome = |status| Outcome { status, grpc_status: Some(14), flag: Some(Flag::TryTimeout) };
            let tally = Tally {
                outcomes: statuses.into_iter().map(|(status, count)| (outcome(status), count)).collect(),
                latency: HistogramSnapshot::from_sparse(buckets, numbers[0]),
                received: numbers[1],
                sent: numbers[2],
                retries: numbers[3],
                connections_opened: numbers[4],
                connections_closed: numbers[5],
                tcp_received: numbers[6],
                tcp_sent: numbers[7],
            };
            prop_assert_eq!(Packed::pack(&tally).unpack(), tally);
        }
    }

    #[test]
    fn a_busy_slot_is_small() {
        let outcome = Outcome { status: 200, grpc_status: None, flag: None };
        let tally = Tally {
            outcomes: vec![(outcome, 2_500)],
            latency: HistogramSnapshot::from_sparse((40..60).map(|bucket| (bucket, 125)), 5_000_000),
            sent: 1 << 20,
            ..Tally::default()
        };
        assert!(Packed::pack(&tally).0.len() <= 80, "{}", Packed::pack(&tally).0.len());
    }
}
