//! Protobuf's well-known types. The wrappers (`BoolValue`, `UInt32Value`, …) are `Option` of the Rust type, as prost
//! encodes it; `Any` is our own, so that its value is a shared buffer.

use std::collections::BTreeMap;

use bytes::Bytes;

/// A message with the name of its type. Cloning shares the bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// A span of time: seconds and nanoseconds of the same sign.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Duration {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// A JSON object.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    pub fields: BTreeMap<String, Value>,
}

/// A JSON value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Value {
    #[prost(oneof = "ValueKind", tags = "1, 2, 3, 4, 5, 6")]
    pub kind: Option<ValueKind>,
}

/// The kinds of a JSON value.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ValueKind {
    #[prost(int32, tag = "1")]
    Null(i32),
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    String(String),
    #[prost(bool, tag = "4")]
    Bool(bool),
    #[prost(message, tag = "5")]
    Struct(Struct),
    #[prost(message, tag = "6")]
    List(List),
}

/// A JSON array.
#[derive(Clone, PartialEq, prost::Message)]
pub struct List {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<Value>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

// === impl Any ===

impl Any {
    /// Wraps `message`.
    pub fn pack(type_url: &str, message: &impl prost::Message) -> Self {
        Self { type_url: type_url.to_owned(), value: message.encode_to_vec().into() }
    }

    /// The message within, if it is of this type; an error if it does not decode.
    pub fn unpack<M: prost::Message + Default>(&self, type_url: &str) -> Option<Result<M, prost::DecodeError>> {
        (self.type_url == type_url).then(|| M::decode(self.value.clone()))
    }
}

// === impl Struct ===

impl Struct {
    /// The text under `key`.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.fields.get(key)?.kind.as_ref()? {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }

    /// Every text by its key.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.keys().filter_map(|key| Some((key.as_str(), self.text(key)?)))
    }

    /// The object under `key`.
    pub fn object(&self, key: &str) -> Option<&Struct> {
        match self.fields.get(key)?.kind.as_ref()? {
            ValueKind::Struct(object) => Some(object),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self { kind: Some(ValueKind::String(text.to_owned())) }
    }
}

impl From<Struct> for Value {
    fn from(object: Struct) -> Self {
        Self { kind: Some(ValueKind::Struct(object)) }
    }
}

// === impl Duration ===

/// The most seconds that one may have.
const SECONDS_MAX: u64 = 315_576_000_000;

impl From<std::time::Duration> for Duration {
    /// Longer than protobuf can say (10,000 years) becomes the longest it can.
    fn from(duration: std::time::Duration) -> Self {
        if duration.as_secs() >= SECONDS_MAX {
            return Self { seconds: SECONDS_MAX as i64, nanos: 0 };
        }
        Self { seconds: duration.as_secs() as i64, nanos: duration.subsec_nanos() as i32 }
    }
}

impl Duration {
    /// As a Rust duration; none when it is negative, not normalised or longer than protobuf has it.
    pub fn to_std(self) -> Option<std::time::Duration> {
        let (seconds, nanos) = (u64::try_from(self.seconds).ok()?, u32::try_from(self.nanos).ok()?);
        (nanos < 1_000_000_000 && seconds <= SECONDS_MAX).then(|| std::time::Duration::new(seconds, nanos))
    }
}
