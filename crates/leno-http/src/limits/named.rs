//! The limits by name, for who changes or shows them: `head-bytes=128KiB`.
//!
//! A value is a number, of bytes with `KiB` or `MiB` if one likes, of time with `ms`, `s` (the default), `m` or `h`. What
//! is outside a limit's range is refused: no limit can be switched off but where 0 is in its range.

use std::time::Duration;

use super::Limits;

/// A limit that may be changed.
pub struct Named {
    /// What it is called.
    pub name: &'static str,
    /// What it bounds.
    pub what: &'static str,
    unit: Unit,
    least: u64,
    most: u64,
    get: fn(&Limits) -> u64,
    set: fn(&mut Limits, u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Count,
    Bytes,
    Milliseconds,
}

/// Why a limit was not changed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LimitError {
    /// The name.
    #[error("no limit is called {name:?}; there are {}", names())]
    Unknown {
        /// As it was written.
        name: String,
    },
    /// The value.
    #[error("{value:?} is no value of {name}: write {hint}")]
    Value {
        /// Of the limit.
        name: &'static str,
        /// As it was written.
        value: String,
        /// What may be written.
        hint: &'static str,
    },
    /// Beyond the range.
    #[error("{name} is {range}, and not {value}")]
    Range {
        /// Of the limit.
        name: &'static str,
        /// As it was written.
        value: String,
        /// From what to what.
        range: String,
    },
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

macro_rules! count {
    ($unit:ident, $name:literal, $field:ident, $least:expr, $most:expr, $what:literal) => {
        Named {
            name: $name,
            what: $what,
            unit: Unit::$unit,
            least: $least,
            most: $most,
            get: |limits| limits.$field as u64,
            // In range, and so in the type.
            set: |limits, value| limits.$field = value as _,
        }
    };
}

macro_rules! time {
    ($name:literal, $field:ident, $least:expr, $most:expr, $what:literal) => {
        Named {
            name: $name,
            what: $what,
            unit: Unit::Milliseconds,
            least: $least,
            most: $most,
            get: |limits| limits.$field.as_millis() as u64,
            set: |limits, value| limits.$field = Duration::from_millis(value),
        }
    };
}

/// Every limit that may be changed.
pub const NAMED: &[Named] = &[
    count!(Bytes, "head-bytes", head_bytes, KIB, MIB, "a head, start line included"),
    count!(Count, "head-fields", head_fields, 10, 1000, "fields of a head"),
    count!(Bytes, "start-line-bytes", start_line_bytes, 256, 64 * KIB, "the start line"),
    time!("handshake-timeout", handshake_timeout, SECOND, 5 * MINUTE, "a TLS handshake"),
    time!(
        "head-timeout",
        head_timeout,
        SECOND,
        5 * MINUTE,
        "a head, or a PROXY header, from its first byte to its last"
    ),
    time!("idle-timeout", idle_timeout, SECOND, 24 * HOUR, "a connection without a request"),
    time!("stream-idle-timeout", stream_idle_timeout, SECOND, 24 * HOUR, "a message of which nothing moves"),
    count!(Bytes, "body-rate-min", body_rate_min, 0, MIB, "a second at least of a request body; 0 is any"),
    time!("body-grace", body_grace, SECOND, 5 * MINUTE, "before `body-rate-min` counts"),
    count!(Bytes, "response-rate-min", response_rate_min, 0, MIB, "a second at least that a client takes; 0 is any"),
    time!("response-grace", response_grace, SECOND, 5 * MINUTE, "more than `response-rate-min` allows"),
    count!(Bytes, "drain-bytes", drain_bytes, 0, MIB, "of a body that nobody wants, read to keep the connection"),
    count!(Bytes, "chunk-extension-bytes", chunk_extension_bytes, 0, 8 * KIB, "extensions of one chunk"),
    count!(Bytes, "chunk-extensions-bytes", chunk_extensions_bytes, 0, 64 * KIB, "extensions of all chunks of a body"),
    count!(Bytes, "trailer-bytes", trailer_bytes, 256, 64 * KIB, "trailers"),
    count!(Bytes, "buffer-bytes", buffer_bytes, 4 * KIB, MIB, "held of a body, a direction"),
    count!(Count, "informationals", informationals, 0, 100, "responses 1xx before the final one"),
    count!(Count, "h2-streams", h2_streams, 1, 10_000, "streams open at a time on a connection of HTTP/2"),
    count!(Bytes, "h2-stream-window", h2_stream_window, 16 * KIB, 16 * MIB, "window of a stream"),
    count!(Bytes, "h2-connection-window", h2_connection_window, 64 * KIB, 64 * MIB, "window of a connection of HTTP/2"),
    count!(
        Bytes,
        "h2-field-list-bytes",
        h2_field_list_bytes,
        KIB,
        MIB,
        "a decoded field list, 32 bytes a field included"
    ),
    count!(Count, "h2-pending-resets", h2_pending_resets, 1, 1000, "streams reset before they were looked at"),
    count!(Count, "h2-error-resets", h2_error_resets, 1, 1000, "streams reset because the peer broke the protocol"),
    count!(Count, "h2-control-frames", h2_control_frames, 100, 1_000_000, "frames without request or body, per 10 s"),
    count!(Count, "h2-resets", h2_resets, 10, 100_000, "resets by the peer per 10 s, beyond a fifth of its streams"),
];

fn names() -> String {
    NAMED.iter().map(|limit| limit.name).collect::<Vec<_>>().join(", ")
}

// === impl Named ===

impl Named {
    /// Its value, as it may be written.
    pub fn value(&self, limits: &Limits) -> String {
        self.spelt((self.get)(limits))
    }

    /// From what to what it may be.
    pub fn range(&self) -> String {
        format!("{} to {}", self.spelt(self.least), self.spelt(self.most))
    }

    fn spelt(&self, value: u64) -> String {
        let units: &[(u64, &str)] = match self.unit {
            Unit::Count => &[],
            Unit::Bytes => &[(MIB, "MiB"), (KIB, "KiB")],
            Unit::Milliseconds => &[(HOUR, "h"), (MINUTE, "m"), (SECOND, "s"), (1, "ms")],
        };
        match units.iter().find(|(unit, _)| value > 0 && value.is_multiple_of(*unit)) {
            Some((unit, name)) => format!("{}{name}", value / unit),
            None => value.to_string(),
        }
    }

    fn parse(&self, text: &str) -> Option<u64> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match (self.unit, &text[digits.len()..]) {
            (Unit::Count | Unit::Bytes, "") | (Unit::Milliseconds, "ms") => 1,
            (Unit::Bytes, "KiB") => KIB,
            (Unit::Bytes, "MiB") => MIB,
            (Unit::Milliseconds, "" | "s") => SECOND,
            (Unit::Milliseconds, "m") => MINUTE,
            (Unit::Milliseconds, "h") => HOUR,
            _ => return None,
        };
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        digits.parse::<u64>().ok()?.checked_mul(unit)
    }

    fn hint(&self) -> &'static str {
        match self.unit {
            Unit::Count => "a number",
            Unit::Bytes => "bytes, as 65536, 64KiB or 1MiB",
            Unit::Milliseconds => "a time, as 500ms, 30s, 5m or 1h",
        }
    }
}

// === impl Limits ===

impl Limits {
    /// Changes the limit of this name. When it refuses, nothing has changed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), LimitError> {
        let Some(limit) = NAMED.iter().find(|limit| limit.name == name) else {
            return Err(LimitError::Unknown { name: name.to_owned() });
        };
        let (name, text) = (limit.name, value.to_owned());
        let Some(value) = limit.parse(value) else {
            return Err(LimitError::Value { name, value: text, hint: limit.hint() });
        };
        if !(limit.least..=limit.most).contains(&value) {
            return Err(LimitError::Range { name, value: text, range: limit.range() });
        }
        (limit.set)(self, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_takes_its_range_and_what_it_shows_and_nothing_beyond() {
        for limit in NAMED {
            for defaults in [Limits::default(), Limits::mesh()] {
                let mut limits = defaults.clone();
                limits.set(limit.name, &limit.value(&defaults)).unwrap();
                assert_eq!(limit.value(&limits), limit.value(&defaults));
            }
            let mut limits = Limits::default();
            for value in [limit.least, limit.most] {
                limits.set(limit.name, &limit.spelt(value)).unwrap();
                assert_eq!((limit.get)(&limits), value, "{}", limit.name);
            }
            for value in [limit.least.checked_sub(1), Some(limit.most + 1)].into_iter().flatten() {
                let refused = limits.set(limit.name, &limit.spelt(value));
                assert!(matches!(refused, Err(LimitError::Range { .. })), "{} {value}", limit.name);
                assert_eq!((limit.get)(&limits), limit.most);
            }
        }
    }

    #[test]
    fn a_value_has_the_unit_of_its_limit() {
        let mut limits = Limits::default();
        limits.set("head-bytes", "128KiB").unwrap();
        limits.set("idle-timeout", "90").unwrap();
        assert_eq!((limits.head_bytes, limits.idle_timeout), (128 * 1024, Duration::from_secs(90)));
        for (name, wrong) in [
            ("head-bytes", "128s"),
            ("head-bytes", "KiB"),
            ("head-bytes", ""),
            ("head-bytes", "-1"),
            ("head-bytes", "99999999999999999999MiB"),
            ("head-bytes", "99999999999999999MiB"),
            ("idle-timeout", "1.5s"),
            ("idle-timeout", "1KiB"),
            ("h2-streams", "1m"),
            ("h2-streams", "ä"),
        ] {
            assert!(matches!(limits.set(name, wrong), Err(LimitError::Value { .. })), "{name}={wrong}");
        }
        let unknown = limits.set("head_bytes", "1").unwrap_err().to_string();
        assert!(unknown.contains("head-bytes, head-fields"), "{unknown}");
    }
}
