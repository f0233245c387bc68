//! The limits of every connection, what its peer is believed, what is counted when a limit is broken, and the reasons for
//! refusing a message.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use named::{LimitError, NAMED, Named};

mod named;

/// How much of anything a peer may make this crate hold or do, and what it is believed. Defaults are those of an edge.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a head, start line included.
    pub head_bytes: usize,
    /// Fields of a head.
    pub head_fields: usize,
    /// Bytes of a start line.
    pub start_line_bytes: usize,
    /// For a TLS handshake, for who ends TLS.
    pub handshake_timeout: Duration,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// A connection without a request.
    pub idle_timeout: Duration,
    /// A message of which nothing moves in one direction.
    pub stream_idle_timeout: Duration,
    /// Bytes a second of a request body with an announced length, on average and after `body_grace`; counted only while
    /// the client is waited for. HTTP/1; 0 is any.
    pub body_rate_min: u32,
    /// How long a client is waited for before `body_rate_min` counts.
    pub body_grace: Duration,
    /// Bytes a second that a client takes of a response while some wait for it, once `response_grace` is used up. HTTP/1;
    /// never of gRPC and of server-sent events. 0 is any.
    pub response_rate_min: u32,
    /// How much longer than `response_rate_min` allows a client may take; what it takes above the rate is given back to it.
    pub response_grace: Duration,
    /// What is read and thrown away of a request body that the handler left, so that the connection can be kept.
    pub drain_bytes: usize,
    /// After an answer that closes the connection, how long bytes of the peer are still read and thrown away, so that a
    /// reset does not overtake the answer.
    pub linger_timeout: Duration,
    /// Bytes of extensions of one chunk.
    pub chunk_extension_bytes: usize,
    /// Bytes of extensions of all chunks of a message.
    pub chunk_extensions_bytes: usize,
    /// Bytes of trailers.
    pub trailer_bytes: usize,
    /// Bytes buffered per direction of a stream.
    pub buffer_bytes: usize,
    /// Responses of class 1xx before the final one.
    pub informationals: usize,
    /// Take a bare LF as end of a line in start lines and fields.
    pub lenient_lf: bool,
    /// What becomes of fields whose names have an underscore; for who passes requests on.
    pub underscored_names: UnderscoredNames,
    /// Pass `%2F` and `%5C` in paths on instead of refusing them; for who passes requests on.
    pub keep_escaped_slashes: bool,
    /// Proxies in front of an edge that are believed what they say of the client in `X-Forwarded-For` and the like.
    pub trusted_hops: u8,
    /// HTTP/2: streams open at a time.
    pub h2_streams: u32,
    /// HTTP/2: receive window of a stream.
    pub h2_stream_window: u32,
    /// HTTP/2: receive window of a connection, given back as bytes arrive: it bounds what is on its way. What is kept is
    /// bounded by streams and their windows, so that one that is not read holds up no other.
    pub h2_connection_window: u32,
    /// HTTP/2: size of a decoded field list, 32 bytes a field included.
    pub h2_field_list_bytes: u32,
    /// HTTP/2: streams that the peer may reset before they were looked at.
    pub h2_pending_resets: usize,
    /// HTTP/2: resets that this side may send because the peer broke the protocol.
    pub h2_error_resets: usize,
    /// HTTP/2: frames that carry no request or body (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown), per 10 seconds.
    pub h2_control_frames: u32,
    /// HTTP/2: resets by the peer per 10 seconds, beyond a fifth of its streams.
    pub h2_resets: u32,
}

/// What becomes of fields whose names have an underscore (`X_User_Id`), which programs that put names into variables
/// cannot tell from those with a dash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnderscoredNames {
    /// They are dropped.
    #[default]
    Drop,
    /// They are passed on.
    Keep,
    /// The request is refused.
    Refuse,
}

/// Why a message was refused. Each is counted, and is the reason written into the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
#[allow(missing_docs)] // The messages are the documentation.
pub enum Malformed {
    #[error("start line is not well-formed")]
    StartLine,
    #[error("start line is too long")]
    StartLineTooLong,
    #[error("request target is not well-formed")]
    Target,
    #[error("version of HTTP is not served here")]
    Version,
    #[error("status is not a number from 100 to 999")]
    Status,
    #[error("line does not end with CR LF")]
    BareLf,
    #[error("CR without LF")]
    BareCr,
    #[error("line is folded")]
    Folded,
    #[error("name of a field is not a token followed by a colon")]
    FieldName,
    #[error("value of a field has a control character")]
    FieldValue,
    #[error("head is too large")]
    HeadTooLarge,
    #[error("head has too many fields")]
    TooManyFields,
    #[error("host is missing")]
    HostMissing,
    #[error("host is given twice")]
    HostTwice,
    #[error("host is not well-formed")]
    Host,
    #[error("content-length is not one number")]
    ContentLength,
    #[error("content-length beside transfer-encoding")]
    LengthAndEncoding,
    #[error("transfer-encoding is not chunked alone")]
    TransferEncoding,
    #[error("transfer-encoding is not supported")]
    UnknownEncoding,
    #[error("transfer-encoding in HTTP/1.0")]
    EncodingIn10,
    #[error("connection names a field that must reach the other end")]
    Nominated,
    #[error("expectation is not 100-continue")]
    Expectation,
    #[error("size of a chunk is not well-formed")]
    ChunkSize,
    #[error("chunk does not end where its size says")]
    ChunkEnd,
    #[error("extensions of chunks are too long")]
    ChunkExtension,
    #[error("trailers are not well-formed")]
    Trailers,
    #[error("too many informational responses")]
    Informationals,
    #[error("upgrade that nobody asked for")]
    Upgrade,
    #[error("body where there can be none")]
    UnexpectedBody,
    #[error("path can be read in more than one way")]
    Path,
    #[error("name of a field has an underscore")]
    Underscore,
    #[error("head did not arrive within its deadline")]
    HeadTimeout,
    #[error("body arrives too slowly")]
    BodyRate,
    #[error("response is read too slowly")]
    ResponseRate,
    #[error("body does not have the announced length")]
    BodyLength,
    #[error("too many frames that carry nothing")]
    ControlFlood,
    #[error("too many resets")]
    ResetFlood,
    #[error("HTTP/2 broken otherwise")]
    H2Protocol,
}

/// How often each reason occurred; shared by workers.
#[derive(Debug)]
pub struct Strikes {
    counts: [AtomicU64; Malformed::COUNT],
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes: 64 * 1024,
            head_fields: 100,
            start_line_bytes: 8 * 1024,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            stream_idle_timeout: Duration::from_secs(300),
            body_rate_min: 240,
            body_grace: Duration::from_secs(5),
            response_rate_min: 240,
            response_grace: Duration::from_secs(8),
            drain_bytes: 64 * 1024,
            linger_timeout: Duration::from_secs(2),
            chunk_extension_bytes: 256,
            chunk_extensions_bytes: 8 * 1024,
            trailer_bytes: 8 * 1024,
            buffer_bytes: 32 * 1024,
            informationals: 16,
            lenient_lf: false,
            underscored_names: UnderscoredNames::Drop,
            keep_escaped_slashes: false,
            trusted_hops: 0,
            h2_streams: 100,
            h2_stream_window: 64 * 1024,
            h2_connection_window: 1024 * 1024,
            h2_field_list_bytes: 64 * 1024,
            h2_pending_resets: 20,
            h2_error_resets: 50,
            h2_control_frames: 1000,
            h2_resets: 100,
        }
    }
}

impl Limits {
    /// Between proxies and applications of a mesh connections stay open longer, and who reads slowly has work to do.
    pub fn mesh() -> Limits {
        Limits { idle_timeout: Duration::from_secs(3600), response_rate_min: 0, ..Limits::default() }
    }
}

// === impl Malformed ===

impl Malformed {
    const COUNT: usize = Malformed::H2Protocol as usize + 1;

    /// All reasons.
    pub const ALL: [Malformed; Malformed::COUNT] = {
        use Malformed::*;
        [
            StartLine,
            StartLineTooLong,
            Target,
            Version,
            Status,
            BareLf,
            BareCr,
            Folded,
            FieldName,
            FieldValue,
            HeadTooLarge,
            TooManyFields,
            HostMissing,
            HostTwice,
            Host,
            ContentLength,
            LengthAndEncoding,
            TransferEncoding,
            UnknownEncoding,
            EncodingIn10,
            Nominated,
            Expectation,
            ChunkSize,
            ChunkEnd,
            ChunkExtension,
            Trailers,
            Informationals,
            Upgrade,
            UnexpectedBody,
            Path,
            Underscore,
            HeadTimeout,
            BodyRate,
            ResponseRate,
            BodyLength,
            ControlFlood,
            ResetFlood,
            H2Protocol,
        ]
    };

    /// The word of counters and answers: `length-and-encoding`.
    pub fn reason(self) -> &'static str {
        use Malformed::*;
        match self {
            StartLine => "start-line",
            StartLineTooLong => "start-line-too-long",
            Target => "target",
            Version => "version",
            Status => "status",
            BareLf => "bare-lf",
            BareCr => "bare-cr",
            Folded => "folded",
            FieldName => "field-name",
            FieldValue => "field-value",
            HeadTooLarge => "head-too-large",
            TooManyFields => "too-many-fields",
            HostMissing => "host-missing",
            HostTwice => "host-twice",
            Host => "host",
            ContentLength => "content-length",
            LengthAndEncoding => "length-and-encoding",
            TransferEncoding => "transfer-encoding",
            UnknownEncoding => "unknown-encoding",
            EncodingIn10 => "encoding-in-1.0",
            Nominated => "nominated",
            Expectation => "expectation",
            ChunkSize => "chunk-size",
            ChunkEnd => "chunk-end",
            ChunkExtension => "chunk-extension",
            Trailers => "trailers",
            Informationals => "informationals",
            Upgrade => "upgrade",
            UnexpectedBody => "unexpected-body",
            Path => "path",
            Underscore => "underscore",
            HeadTimeout => "head-timeout",
            BodyRate => "body-rate",
            ResponseRate => "response-rate",
            BodyLength => "body-length",
            ControlFlood => "control-flood",
            ResetFlood => "reset-flood",
            H2Protocol => "h2-protocol",
        }
    }

    /// The status of the answer to a request that is malformed so.
    pub fn status(self) -> u16 {
        match self {
            Malformed::Version => 505,
            Malformed::UnknownEncoding => 501,
            Malformed::Expectation => 417,
            Malformed::HeadTooLarge | Malformed::TooManyFields => 431,
            Malformed::StartLineTooLong => 414,
            Malformed::HeadTimeout | Malformed::BodyRate => 408,
            _ => 400,
        }
    }
}

// === impl Strikes ===

impl Default for Strikes {
    fn default() -> Strikes {
        Strikes { counts: [const { AtomicU64::new(0) }; Malformed::COUNT] }
    }
}

impl Strikes {
    /// Counts one.
    pub fn count(&self, what: Malformed) {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it occurred.
    pub fn get(&self, what: Malformed) -> u64 {
        self.counts[what as usize].load(Ordering::Relaxed)
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Malformed, u64)> {
        Malformed::ALL.into_iter().map(|what| (what, self.get(what)))
    }
}
