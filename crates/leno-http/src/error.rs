//! What can go wrong with a message or its connection, and the four questions asked of it: whose side, may it be tried
//! again, which flag in the access log, and why.

use std::io;

use crate::limits::Malformed;

/// An error of an exchange.
#[derive(Debug, thiserror::Error)]
#[error("{kind} ({})", self.side.as_str())]
pub struct Error {
    kind: ErrorKind,
    side: Side,
    processed: Processed,
    retry: Retry,
}

/// What happened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The peer broke the protocol.
    #[error("malformed message: {0}")]
    Malformed(#[from] Malformed),
    /// The connection ended in the middle of a message.
    #[error("connection closed before the end of the {0}")]
    Closed(Part),
    /// The socket said no.
    #[error("{0} failed: {1}")]
    Io(Part, #[source] io::Error),
    /// Nothing moved for as long as the limit allows.
    #[error("no progress of the {0} within its deadline")]
    Timeout(Part),
    /// A body is longer than its reader accepts.
    #[error("body is longer than {0} bytes")]
    TooLong(usize),
    /// The writer gave more or fewer bytes than the length it announced.
    #[error("body does not have the length that was announced")]
    LengthMismatch,
    /// HTTP/2: the stream was reset with this code.
    #[error("stream reset with code {0}")]
    Reset(u32),
    /// HTTP/2: the connection ended with this code.
    #[error("connection ended by GOAWAY with code {0}")]
    GoAway(u32),
    /// The connection takes no further request now.
    #[error("connection takes no further request")]
    Busy,
    /// The other half of the exchange was dropped.
    #[error("exchange was given up")]
    Dropped,
    /// Its reader takes nothing, and memory is short.
    #[error("given up because its reader is slow and memory is short")]
    GivenUp,
    /// What was asked for does not exist in this version of the protocol, or not at this point.
    #[error("{0}")]
    Misuse(&'static str),
}

/// The part of a message that was on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// No message yet: the connection itself.
    Connect,
    /// The head of a request.
    RequestHead,
    /// The body of a request.
    RequestBody,
    /// The head of a response.
    ResponseHead,
    /// The body of a response.
    ResponseBody,
    /// Bytes of a tunnel.
    Tunnel,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The side that sent the request.
    Downstream,
    /// The side that answers it.
    Upstream,
    /// Ourselves.
    Us,
}

/// Whether the request may be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// No: it may have been processed, or would fail again.
    Never,
    /// Yes, also to the same endpoint: a pooled connection had been closed meanwhile. Only for what is idempotent unless
    /// [`Error::processed`] says no.
    Same,
    /// Yes, to another endpoint.
    Other,
}

/// Whether the peer may have acted upon the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processed {
    /// For certain not: nothing of it was sent, or the peer said so (REFUSED_STREAM, GOAWAY).
    No,
    /// Who knows.
    Maybe,
}

/// What functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

// === impl Error ===

impl Error {
    pub(crate) fn new(kind: impl Into<ErrorKind>, side: Side) -> Error {
        let kind = kind.into();
        let retry = match kind {
            _ if side != Side::Upstream => Retry::Never,
            ErrorKind::Closed(Part::ResponseHead) => Retry::Same,
            ErrorKind::Io(Part::RequestHead | Part::RequestBody | Part::ResponseHead, _) => Retry::Same,
            _ => Retry::Never,
        };
        Error { kind, side, processed: Processed::Maybe, retry }
    }

    pub(crate) fn unprocessed(mut self) -> Error {
        self.processed = Processed::No;
        self.retry = match self.kind {
            ErrorKind::Busy | ErrorKind::GoAway(_) => Retry::Same,
            _ => Retry::Other,
        };
        self
    }

    /// A pooled connection had been closed before anything was sent.
    pub(crate) fn stale(mut self) -> Error {
        self.processed = Processed::No;
        self.retry = Retry::Same;
        self
    }

    /// It was the first request on its connection, so that its being closed has another reason than having been idle.
    pub(crate) fn on_fresh_connection(mut self) -> Error {
        self.retry = Retry::Never;
        self
    }

    pub(crate) fn misuse(what: &'static str) -> Error {
        Error::new(ErrorKind::Misuse(what), Side::Us)
    }

    /// A dial that did not succeed; nothing was sent.
    pub fn connect(source: io::Error) -> Error {
        Error::new(ErrorKind::Io(Part::Connect, source), Side::Upstream).unprocessed()
    }

    /// An answer that is given up because its reader is slow and memory is short.
    pub fn given_up() -> Error {
        Error::new(ErrorKind::GivenUp, Side::Us)
    }

    /// What happened.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Whose fault it is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Whether the peer may have acted upon the request.
    pub fn processed(&self) -> Processed {
        self.processed
    }

    /// Whether, and where, the request may be sent once more.
    pub fn retry(&self) -> Retry {
        self.retry
    }

    /// The flag of the access log, in Envoy's spelling where it has one.
    pub fn flag(&self) -> &'static str {
        use ErrorKind::*;
        match (&self.kind, self.side) {
            (Malformed(_), Side::Upstream) => "UPE",
            (Malformed(_), _) => "DPE",
            (Io(Part::Connect, _), Side::Upstream) => "UF",
            (Timeout(Part::ResponseHead), Side::Upstream) => "UT",
            (Timeout(_), _) => "SI",
            (Reset(_), Side::Upstream) => "UR",
            (Reset(_), Side::Downstream) => "DR",
            (_, Side::Upstream) => "UC",
            (_, Side::Downstream) => "DC",
            (_, Side::Us) => "LR",
        }
    }

    /// The malformation, if that is what it is.
    pub fn malformed(&self) -> Option<Malformed> {
        match self.kind {
            ErrorKind::Malformed(what) => Some(what),
            _ => None,
        }
    }

    /// Whether a deadline passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, ErrorKind::Timeout(_))
    }
}

impl Part {
    /// As messages name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Connect => "connection",
            Part::RequestHead => "request head",
            Part::RequestBody => "request body",
            Part::ResponseHead => "response head",
            Part::ResponseBody => "response body",
            Part::Tunnel => "tunnel",
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Side {
    /// As messages name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Downstream => "downstream",
            Side::Upstream => "upstream",
            Side::Us => "own",
        }
    }
}
