//! Moments as people write them (RFC 3339): `2026-11-27T00:00:00Z`, `2026-11-27T01:00:00+01:00`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::seam::Timestamp;

/// A moment, from 1970 to 9999, to the millisecond: `2026-11-27T00:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub Timestamp);

/// Text that is not a moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a moment (write date, time and zone, for example 2026-11-27T00:00:00Z)")]
pub struct MomentError(pub String);

// === impl Moment ===

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        let read = OffsetDateTime::parse(text, &Rfc3339).ok();
        let since_epoch = read.and_then(|read| u64::try_from(read.unix_timestamp_nanos() / 1_000_000).ok());
        since_epoch.map(|ms| Self(Timestamp(ms))).ok_or_else(|| MomentError(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.rfc3339())
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Moment;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a moment such as 2026-11-27T00:00:00Z")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Moment, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl JsonSchema for Moment {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_in_any_zone_and_written_in_utc() {
        for (text, utc) in [
            ("2026-11-27T00:00:00Z", "2026-11-27T00:00:00.000Z"),
            ("2026-11-27T01:30:00.25+01:30", "2026-11-27T00:00:00.250Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(text.parse::<Moment>().unwrap().to_string(), utc, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_moment_is_refused() {
        for text in
            ["", "2026-11-27", "2026-11-27T00:00:00", "2026-13-27T00:00:00Z", "1969-12-31T23:59:59Z", "tomorrow"]
        {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }
}
