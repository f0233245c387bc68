//! Numbers that know their range: a value outside it is refused where it is read, with the range as the fix, and the
//! schema says the same.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

macro_rules! ranged {
    ($(#[$doc:meta])* $name:ident($int:ty) $min:literal ..= $max:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name($int);

        impl $name {
            /// The least value.
            pub const MIN: $int = $min;
            /// The greatest value.
            pub const MAX: $int = $max;

            /// The value if it lies in the range.
            pub fn new(value: $int) -> Option<Self> {
                (Self::MIN..=Self::MAX).contains(&value).then_some(Self(value))
            }

            /// The number.
            pub fn get(self) -> $int {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                ranged(deserializer, $what, $min, $max).map(|value| Self(value as $int))
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "integer", "minimum": $min, "maximum": $max })
            }
        }
    };
}

ranged! {
    /// A TCP or UDP port, 1 to 65535.
    Port(u16) 1..=65535, "port"
}
ranged! {
    /// A share relative to the sum of its neighbours' shares, 0 to 1,000,000.
    Weight(u32) 0..=1_000_000, "weight"
}
ranged! {
    /// Tries after the first, 0 to 10.
    Attempts(u32) 0..=10, "number of attempts"
}
ranged! {
    /// A percentage, 0 to 100.
    Percent(u32) 0..=100, "percentage"
}
ranged! {
    /// How many of something at once, 1 to 1,000,000.
    Count(u32) 1..=1_000_000, "count"
}
ranged! {
    /// How many in a row, 1 to 1,000.
    Run(u32) 1..=1000, "number in a row"
}
ranged! {
    /// How many in a window, 1 to 10,000.
    Volume(u32) 1..=10_000, "number of requests"
}
ranged! {
    /// A share that can be reached, in percent, 1 to 100.
    Share(u32) 1..=100, "percentage"
}
ranged! {
    /// How many in a sliding window, 1 to 100,000.
    WindowCount(u32) 1..=100_000, "number of requests"
}
ranged! {
    /// How many in a day or a month, 1 to 1,000,000,000.
    QuotaCount(u32) 1..=1_000_000_000, "number of requests"
}
ranged! {
    /// How many keys are told apart, 64 to 1,048,576.
    Keys(u32) 64..=1_048_576, "number of keys"
}
ranged! {
    /// How many times less, 2 to 100.
    ColdFactor(u32) 2..=100, "cold factor"
}
ranged! {
    /// How many times as many, in percent, 100 to 1,000.
    Times(u32) 100..=1000, "percentage"
}
ranged! {
    /// MiB, 1 to 4,096.
    Mebibytes(u32) 1..=4096, "number of MiB"
}
ranged! {
    /// KiB, 1 to 65,536.
    Kibibytes(u32) 1..=65_536, "number of KiB"
}
ranged! {
    /// How many probes decide, 1 to 1,000.
    Probes(u32) 1..=1000, "number of probes"
}
ranged! {
    /// How many may wait, 1 to 10,000.
    QueueSize(u32) 1..=10_000, "size of a queue"
}
ranged! {
    /// Tries beside the first, 1 to 4.
    Hedges(u32) 1..=4, "number of attempts"
}
ranged! {
    /// How many may wait, none too, 0 to 10,000.
    Pending(u32) 0..=10_000, "number of requests"
}
ranged! {
    /// How many in a second, 0 to 10,000.
    PerSecond(u32) 0..=10_000, "number per second"
}
ranged! {
    /// How many places a table has, 101 to 655,357.
    TableSize(u32) 101..=655_357, "size of a table"
}
ranged! {
    /// An HTTP status that may be tried again, 400 to 599.
    RetryCode(u16) 400..=599, "status to retry"
}
ranged! {
    /// The status of an answer, 200 to 599.
    HttpStatus(u16) 200..=599, "status"
}
ranged! {
    /// Seconds, 1 to 2,147,483,647.
    Seconds(u32) 1..=2_147_483_647, "number of seconds"
}
ranged! {
    /// An endpoint's share of traffic relative to the others, 0 to 10,000.
    EndpointWeight(u32) 0..=10_000, "weight"
}

impl HttpStatus {
    /// Whether an answer of this status can have a body (RFC 9110, section 6.4.1).
    pub fn has_body(self) -> bool {
        ![204, 304].contains(&self.0)
    }
}

ranged! {
    /// A status that says that a request failed, 400 to 599.
    AbortStatus(u16) 400..=599, "status of a failure"
}
ranged! {
    /// KiB in a second, 1 to 1,048,576.
    KibPerSecond(u32) 1..=1_048_576, "number of KiB in a second"
}

macro_rules! decimal {
    ($(#[$doc:meta])* $name:ident($times:literal, $parts:ident) $min:literal ..= $max:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            const MIN: f64 = $min;
            const MAX: f64 = $max;

            /// The number in its smallest parts.
            pub fn $parts(self) -> u32 {
                self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if self.0.is_multiple_of($times) {
                    return serializer.serialize_u32(self.0 / $times);
                }
                serializer.serialize_f64(f64::from(self.0) / f64::from($times))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = decimal(deserializer, $what, Self::MIN, Self::MAX)?;
                Ok(Self((number * f64::from($times)).round() as u32))
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "number", "minimum": $min, "maximum": $max })
            }
        }
    };
}

decimal! {
    /// How fast a share grows, 0.1 to 10; kept in hundredths.
    Aggression(100, hundredths) 0.1..=10.0, "an aggression"
}
decimal! {
    /// How much a share of errors counts, 0 to 100; kept in hundredths.
    Penalty(100, hundredths) 0.0..=100.0, "a penalty"
}
decimal! {
    /// A percentage, 0.0001 to 100; kept in millionths of the whole.
    Portion(10_000, of_million) 0.0001..=100.0, "a percentage"
}

/// Whether a number has no divisor but 1 and itself.
pub fn is_prime(number: u32) -> bool {
    number > 1 && (2..).take_while(|n| *n <= number / n).all(|n| !number.is_multiple_of(n))
}

fn ranged<'de, D: Deserializer<'de>>(deserializer: D, what: &'static str, min: i64, max: i64) -> Result<i64, D::Error> {
    struct Visitor(&'static str, i64, i64);
    impl Visitor {
        fn check<E: de::Error>(&self, value: impl fmt::Display + TryInto<i64> + Copy) -> Result<i64, E> {
            match value.try_into() {
                Ok(number) if (self.1..=self.2).contains(&number) => Ok(number),
                _ => Err(E::custom(format_args!("out of range: {value} (a {} is {} to {})", self.0, self.1, self.2))),
            }
        }
    }
    impl de::Visitor<'_> for Visitor {
        type Value = i64;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a whole number from {} to {}", self.1, self.2)
        }
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<i64, E> {
            self.check(value)
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<i64, E> {
            self.check(value)
        }
    }
    deserializer.deserialize_i64(Visitor(what, min, max))
}

fn decimal<'de, D: Deserializer<'de>>(
    deserializer: D,
    what: &'static str,
    min: f64,
    max: f64,
) -> Result<f64, D::Error> {
    struct Visitor(&'static str, f64, f64);
    impl de::Visitor<'_> for Visitor {
        type Value = f64;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a number from {} to {}", self.1, self.2)
        }
        fn visit_f64<E: de::Error>(self, value: f64) -> Result<f64, E> {
            if (self.1..=self.2).contains(&value) {
                return Ok(value);
            }
            Err(E::custom(format_args!("out of range: {value} ({} is {} to {})", self.0, self.1, self.2)))
        }
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<f64, E> {
            self.visit_f64(value as f64)
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<f64, E> {
            self.visit_f64(value as f64)
        }
    }
    deserializer.deserialize_f64(Visitor(what, min, max))
}
