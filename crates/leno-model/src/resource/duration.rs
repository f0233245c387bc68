//! Durations as the Gateway API writes them (GEP-2257): `1h30m`, `500ms`, `0s`.
//!
//! One to four parts, each up to five digits with the unit `h`, `m`, `s` or `ms`; no fractions, no signs, so that
//! every program in every language reads the same number.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// A length of time: `1h30m`, `2s`, `500ms`. Zero (`0s`) means without limit where a field says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayDuration(pub Duration);

/// Text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration (write up to four of a whole number with h, m, s or ms, for example 1m30s or 500ms)")]
pub struct DurationError(pub String);

// === impl GatewayDuration ===

impl FromStr for GatewayDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let fault = || DurationError(text.chars().take(40).collect());
        let (mut total, mut rest, mut parts) = (0_u64, text, 0);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
            let unit = match &rest[digits..digits + letters] {
                "h" => 3_600_000,
                "m" => 60_000,
                "s" => 1000,
                "ms" => 1,
                _ => return Err(fault()),
            };
            parts += 1;
            if digits == 0 || digits > 5 || parts > 4 {
                return Err(fault());
            }
            total += rest[..digits].parse::<u64>().map_err(|_| fault())? * unit;
            rest = &rest[digits + letters..];
        }
        if parts == 0 { Err(fault()) } else { Ok(Self(Duration::from_millis(total))) }
    }
}

impl fmt::Display for GatewayDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ms = self.0.as_millis();
        if ms == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            if ms >= size {
                write!(f, "{}{unit}", ms / size)?;
                ms %= size;
            }
        }
        Ok(())
    }
}

impl Serialize for GatewayDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GatewayDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = GatewayDuration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit such as 500ms")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<GatewayDuration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl JsonSchema for GatewayDuration {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_and_written_as_the_gateway_api_does() {
        for (text, ms, canonical) in
            [("0s", 0, "0s"), ("1h30m", 5_400_000, "1h30m"), ("1500ms", 1500, "1s500ms"), ("1m1m", 120_000, "2m")]
        {
            let read: GatewayDuration = text.parse().unwrap();
            assert_eq!((read.0.as_millis(), read.to_string().as_str()), (ms, canonical), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in ["", "1", "s", "1.5s", "-1s", "100000s", "1h1m1s1ms1h", "1d", "1 s", "1µs", "1us"] {
            assert!(text.parse::<GatewayDuration>().is_err(), "{text}");
        }
    }
}
