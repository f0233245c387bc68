//! The seams through which time and randomness come in, so that whatever is pure can be simulated with a seed.
//!
//! Pure cores take `now` and random numbers as arguments. Drivers hold an `Arc<dyn Clock>`; `leno-runtime` has the
//! real one and `leno-test` one that a test turns by hand.

use std::time::Duration;

/// Milliseconds since the Unix epoch, for what people read and files keep. Never for measuring how long something took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// Time since some fixed moment of this process; never goes back.
    fn monotonic(&self) -> Duration;
    /// The time of day.
    fn wall(&self) -> Timestamp;
}

/// Where randomness comes from.
pub trait Random {
    /// The next 64 random bits.
    fn next_u64(&mut self) -> u64;

    /// A number from 0 up to but not including `end`; 0 when `end` is 0.
    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(end)) >> 64) as u64
    }
}

// === impl Timestamp ===

impl Timestamp {
    /// Year, month and day in UTC.
    pub fn date(self) -> (i64, i64, i64) {
        civil_from_days((self.0 / 86_400_000) as i64)
    }

    /// As RFC 3339 in UTC with milliseconds: `2026-11-21T01:40:11.000Z`.
    pub fn rfc3339(self) -> String {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil_from_days(days as i64);
        let (h, m, s, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
        format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
    }
}

/// Days since 1970-01-01 as year, month, day, by counting in 400-year eras that start on 1 March, so that the leap
/// day is the last of its year (after Howard Hinnant's `civil_from_days`).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_as_rfc_3339() {
        assert_eq!(Timestamp(0).rfc3339(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(951_782_400_123).rfc3339(), "2000-02-29T00:00:00.123Z");
        assert_eq!(Timestamp(1_795_225_211_000).rfc3339(), "2026-11-21T01:40:11.000Z");
    }
}
