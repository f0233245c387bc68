//! Flags: what went wrong with a request or connection, in a word that logs, metrics and answers share.
//!
//! The short codes are Envoy's where Envoy has one, so that what people know and what their boards filter by stays
//! true; several causes may share a code. The reason is finer and unique: it stands in the field `x-leno-reason` of
//! every answer that the proxy makes itself and in the access log as `response_code_details`.

/// The field of an answer that holds [`Flag::reason`].
pub const REASON_FIELD: &str = "x-leno-reason";

macro_rules! flags {
    ($(#[doc = $doc:literal] $name:ident = $code:literal, $reason:literal;)+) => {
        /// What went wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Flag {
            $(#[doc = $doc] $name,)+
        }

        impl Flag {
            /// Every flag, in the order of their numbers.
            pub const ALL: &'static [Flag] = &[$(Flag::$name,)+];

            /// The code in logs and metrics, `UF`.
            pub const fn code(self) -> &'static str {
                match self { $(Flag::$name => $code,)+ }
            }

            /// The reason in answers and logs, `connect_failure`. Unique.
            pub const fn reason(self) -> &'static str {
                match self { $(Flag::$name => $reason,)+ }
            }

            /// What it says, as a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Flag::$name => $doc.trim_ascii(),)+ }
            }
        }
    };
}

flags! {
    /// No route matches the request.
    NoRoute = "NR", "no_route";
    /// The destination is not known to the mesh and the policy is to deny what is not.
    DestinationDenied = "NR", "destination_denied";
    /// The route's reference leads nowhere: its backend does not exist.
    UnresolvedReference = "NR", "unresolved_reference";
    /// The cluster of the route is not known.
    NoCluster = "NC", "no_cluster";
    /// The destination's configuration did not arrive in time.
    NotSynced = "NC", "not_synced";
    /// The cluster has no endpoint that takes requests.
    NoHealthyEndpoint = "UH", "no_healthy_endpoint";
    /// The destination's name was not found.
    DnsFailure = "DF", "dns_failure";
    /// No name server answered for the destination's name in time.
    DnsTimeout = "DF", "dns_timeout";
    /// The destination's name was not looked up, because too many look-ups are under way.
    DnsOverflow = "UO", "dns_overflow";
    /// The connection to the endpoint was refused or broke while it was made.
    ConnectFailure = "UF", "connect_failure";
    /// The connection to the endpoint was not made in time.
    ConnectTimeout = "UF", "connect_timeout";
    /// The endpoint closed the connection before the answer was complete.
    UpstreamClosed = "UC", "upstream_closed";
    /// The endpoint reset the stream.
    UpstreamReset = "UR", "upstream_reset";
    /// The endpoint broke the rules of its protocol.
    UpstreamProtocolError = "UPE", "upstream_protocol_error";
    /// The time for the whole request is over.
    RequestTimeout = "UT", "request_timeout";
    /// The time for the last try is over.
    TryTimeout = "UT", "try_timeout";
    /// The client went away before the answer was complete.
    DownstreamClosed = "DC", "downstream_closed";
    /// The client broke the rules of its protocol.
    BadRequest = "DPE", "bad_request";
    /// The request came back to a proxy that it had passed already.
    Loop = "DPE", "loop_detected";
    /// Nothing moved for too long.
    IdleTimeout = "SI", "idle_timeout";
    /// The host is served on other terms of TLS than the connection was made on.
    Misdirected = "DPE", "misdirected_request";
    /// As many requests to the destination are open as may be.
    RequestOverflow = "UO", "request_overflow";
    /// The request waited too long for others to the destination to end.
    QueueTimeout = "UO", "queue_timeout";
    /// The destination failed too often to be asked now.
    BreakerOpen = "UO", "breaker_open";
    /// The route says what is answered: a switch is on.
    DirectReply = "DR", "direct_reply";
    /// The destination's answer was a failure, for which its policy has something else stand in.
    Unwanted = "FB", "answer_unwanted";
    /// A limit on requests is used up.
    RateLimited = "RL", "rate_limited";
    /// The destination would not have done the request.
    HeldBack = "UO", "held_back";
    /// The instance has more to do than it can, or a proxy has, or is short of memory, and the request mattered less than others.
    Overloaded = "OM", "overloaded";
    /// The request was answered on purpose as if it had failed.
    FaultAbort = "FI", "fault_abort";
    /// The request was delayed on purpose.
    FaultDelay = "DI", "fault_delay";
    /// The answer was slowed down on purpose.
    FaultBandwidth = "DI", "fault_bandwidth";
}

// === impl Flag ===

impl Flag {
    /// The flag's number, for packing.
    pub(crate) const fn number(self) -> u8 {
        self as u8
    }

    /// The flag of a number.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The flag with this reason.
    pub fn from_reason(reason: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|flag| flag.reason() == reason)
    }
}

impl std::fmt::Display for Flag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_is_unique_and_fits_into_a_field() {
        let reasons: HashSet<_> = Flag::ALL.iter().map(|flag| flag.reason()).collect();
        assert_eq!(reasons.len(), Flag::ALL.len());
        assert!(reasons.iter().all(|r| r.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }

    #[test]
    fn a_flag_survives_being_a_number() {
        assert!(Flag::ALL.len() < 63, "the number has six bits, all ones for none");
        for flag in Flag::ALL {
            assert_eq!(Flag::from_number(flag.number()), Some(*flag));
        }
    }
}
