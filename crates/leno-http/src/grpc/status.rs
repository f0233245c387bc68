//! How a call ended: a code and a message, which travels percent-encoded in `grpc-message`.

use crate::error::{Error, ErrorKind, Processed};
use crate::fields::Fields;
use crate::message::ResponseHead;

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} ({}){}{message}", self.code.as_str(), self.code as u8, if self.message.is_empty() { "" } else { ": " })]
pub struct Status {
    /// The code.
    pub code: Code,
    /// For people; may be empty.
    pub message: String,
}

/// The codes of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // As https://grpc.github.io/grpc/core/md_doc_statuscodes.html has them.
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

// === impl Status ===

impl Status {
    /// A status with a message.
    pub fn new(code: Code, message: impl Into<String>) -> Status {
        Status { code, message: message.into() }
    }

    /// Success.
    pub fn ok() -> Status {
        Status::new(Code::Ok, "")
    }

    /// The status in trailers, or in the head of an answer without messages.
    pub fn from_fields(fields: &Fields) -> Option<Status> {
        let code = Code::parse(fields.get("grpc-status")?);
        let message = fields.get("grpc-message").map(decode).unwrap_or_default();
        Some(Status { code, message })
    }

    /// The status that stands for an HTTP status without one of gRPC.
    pub fn from_http(status: u16) -> Status {
        let code = match status {
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502..=504 => Code::Unavailable,
            _ => Code::Unknown,
        };
        Status::new(code, format!("answered with HTTP status {status}"))
    }

    /// Writes `grpc-status`, and `grpc-message` if there is one.
    pub fn write(&self, fields: &mut Fields) {
        fields.set("grpc-status", (self.code as u8).to_string());
        if !self.message.is_empty() {
            fields.set("grpc-message", encode(&self.message));
        }
    }

    /// As trailers.
    pub fn trailers(&self) -> Fields {
        let mut fields = Fields::new();
        self.write(&mut fields);
        fields
    }

    /// The head of an answer that has no messages and no trailers.
    pub fn response(&self) -> ResponseHead {
        let mut head = ResponseHead::new(200).with("content-type", "application/grpc");
        self.write(&mut head.fields);
        head
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        Status::from(&error)
    }
}

impl From<&Error> for Status {
    fn from(error: &Error) -> Status {
        let code = match (error.kind(), error.processed()) {
            (_, Processed::No) => Code::Unavailable,
            (ErrorKind::Timeout(_), _) => Code::DeadlineExceeded,
            (ErrorKind::TooLong(_), _) => Code::ResourceExhausted,
            (ErrorKind::Reset(8), _) => Code::Cancelled,
            (ErrorKind::Reset(11), _) => Code::ResourceExhausted,
            (ErrorKind::Reset(12), _) => Code::PermissionDenied,
            (ErrorKind::Reset(_) | ErrorKind::Malformed(_) | ErrorKind::Misuse(_), _) => Code::Internal,
            _ => Code::Unavailable,
        };
        Status::new(code, error.to_string())
    }
}

// === impl Code ===

impl Code {
    const ALL: [Code; 17] = [
        Code::Ok,
        Code::Cancelled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    /// The code of this number; whatever is none is `Unknown`.
    pub fn parse(digits: &[u8]) -> Code {
        let number = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<u8>().ok());
        number.map_or(Code::Unknown, Code::from_number)
    }

    /// The code of a number; `Unknown` where that is none.
    pub fn from_number(number: u8) -> Code {
        Code::ALL.get(usize::from(number)).copied().unwrap_or(Code::Unknown)
    }

    /// As gRPC spells it: `DEADLINE_EXCEEDED`.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Ok => "OK",
            Code::Cancelled => "CANCELLED",
            Code::Unknown => "UNKNOWN",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::NotFound => "NOT_FOUND",
            Code::AlreadyExists => "ALREADY_EXISTS",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Aborted => "ABORTED",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
            Code::DataLoss => "DATA_LOSS",
            Code::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

/// Percent-encodes everything but printable ASCII, and the percent sign.
fn encode(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for nibble in [byte >> 4, byte & 0xf] {
                out.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
            }
        }
    }
    out
}

/// What cannot be decoded stays as it is; nothing is lost and nothing is refused for a message.
fn decode(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, more @ ..] = rest {
        rest = more;
        let decoded = match (first, more) {
            (b'%', [a, b, ..]) => char::from(*a).to_digit(16).zip(char::from(*b).to_digit(16)),
            _ => None,
        };
        match decoded {
            Some((a, b)) => {
                out.push((a * 16 + b) as u8);
                rest = &more[2..];
            }
            None => out.push(*first),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_status_is_written_as_grpc_says() {
        let fields = Status::new(Code::NotFound, "no ü 100%\n").trailers();
        assert_eq!(fields.get_str("grpc-status"), Some("5"));
        assert_eq!(fields.get_str("grpc-message"), Some("no %C3%BC 100%25%0A"));
        assert_eq!(Code::parse(b"99"), Code::Unknown);
        assert_eq!(Status::from_fields(&Fields::new()), None);
        assert_eq!(decode(b"100% %zz %4"), "100% %zz %4");
        assert_eq!(Status::new(Code::Internal, "why").to_string(), "INTERNAL (13): why");
    }

    proptest! {
        #[test]
        fn messages_survive_their_trip(message in any::<String>()) {
            let message = message.trim().to_owned();
            let status = Status::new(Code::Aborted, message);
            prop_assert_eq!(Status::from_fields(&status.trailers()), Some(status));
        }
    }
}
