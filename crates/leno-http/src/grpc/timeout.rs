//! The field `grpc-timeout`: at most eight digits and a unit.

use std::time::Duration;

/// The value of `grpc-timeout`; `None` when it is not well-formed.
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// As a value of `grpc-timeout`, in the finest unit that has room, rounded up.
pub fn format_timeout(timeout: Duration) -> String {
    const MOST: u128 = 99_999_999;
    for (unit, nanoseconds) in [('n', 1), ('u', 1_000), ('m', 1_000_000), ('S', 1_000_000_000)] {
        let number = timeout.as_nanos().div_ceil(nanoseconds);
        if number <= MOST {
            return format!("{number}{unit}");
        }
    }
    format!("{}H", u128::from(timeout.as_secs()).div_ceil(3600).min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_and_written() {
        assert_eq!(parse_timeout(b"100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse_timeout(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in [&b""[..], b"1", b"m", b"-1m", b"123456789m", b"1 m", b"1x", b"+1S"] {
            assert_eq!(parse_timeout(bad), None);
        }
        assert_eq!(format_timeout(Duration::from_millis(20)), "20000000n");
        assert_eq!(format_timeout(Duration::from_secs(2)), "2000000u");
        assert_eq!(format_timeout(Duration::from_secs(1_000_000_000)), "277778H");
    }

    #[test]
    fn a_written_timeout_is_never_shorter() {
        for timeout in [1, 99_999_999, 100_000_001, 1_234_567_891_234].map(Duration::from_nanos) {
            assert!(parse_timeout(format_timeout(timeout).as_bytes()).unwrap() >= timeout);
        }
    }
}
