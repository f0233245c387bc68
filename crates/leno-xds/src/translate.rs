//! `leno_model::snapshot` as Envoy's messages and back, one file per kind under the model's names.
//!
//! For leno's own proxies nothing is lost: what Envoy's messages cannot say, or say differently, stands in a note in
//! the metadata (`messages::note`). How it is found out what that is: a resource is translated, translated back
//! without its notes, and the parts that came back different are noted exactly. So the common case carries nothing
//! twice, and no unusual case needs a rule of its own. Envoys and gRPC clients get no notes; what one of them would
//! refuse is left out or said in the nearest way it has.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use leno_model::instance::Protocol;
use leno_model::name::ServiceName;
use prost::Message;

use crate::kind::Kind;
use crate::messages::core::{ConfigSource, ConfigSourceSpecifier, Empty, Metadata};
use crate::messages::note::ProtocolNote;
use crate::messages::wkt::{self, Any};

mod affinity;
mod balancing;
pub mod cluster;
pub mod endpoints;
mod injection;
pub mod listener;
mod path;
mod rate_limit;
mod resilience;
pub mod route;
mod rule;
mod subset;

#[cfg(test)]
mod tests;

/// For whom a resource is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// leno's own proxies: lossless.
    Leno,
    /// Envoy, which opens its listeners on this address.
    Envoy {
        /// The address.
        bind: IpAddr,
    },
    /// gRPC without a proxy.
    Grpc,
}

/// Why a resource of a server cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranslateError {
    /// It is not the message that it says it is.
    #[error("not a valid message: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// It asks for something that leno does not have or makes no sense.
    #[error("{path}: {what}")]
    Unusable {
        /// Where in the message.
        path: String,
        /// What is wrong and, if there is one, the way out.
        what: String,
    },
}

/// The key under which leno's own words stand in metadata.
const NOTE_KEY: &str = "leno.mesh";
/// The name of the cluster that a reference without a target leads to; none has it.
const UNRESOLVED: &str = "leno.mesh/unresolved";

/// Builds the error for a place in a message.
fn unusable(path: impl Into<String>, what: impl Into<String>) -> TranslateError {
    TranslateError::Unusable { path: path.into(), what: what.into() }
}

impl TranslateError {
    /// The same error, seen from the message that contains the place.
    fn within(self, outer: &str) -> Self {
        match self {
            Self::Unusable { path, what } if path.is_empty() => unusable(outer, what),
            Self::Unusable { path, what } => unusable(format!("{outer}.{path}"), what),
            malformed => malformed,
        }
    }
}

/// Checks that the resource in a response is of `kind`, and gives its bytes.
pub fn body_of(kind: Kind, any: &Any) -> Result<Bytes, TranslateError> {
    if any.type_url == kind.type_url() {
        Ok(any.value.clone())
    } else {
        Err(unusable("type_url", format!("{:?} stands where a {kind} belongs", any.type_url)))
    }
}

// What the four kinds share, below.

/// "By ADS", as every reference between resources says it.
fn by_ads() -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(Empty {})),
        initial_fetch_timeout: None,
        resource_api_version: 2,
    }
}

/// Metadata with a note for leno's proxies.
fn with_note(url: &str, note: &impl Message) -> Option<Metadata> {
    let mut metadata = Metadata::default();
    metadata.typed_filter_metadata.insert(NOTE_KEY.to_owned(), Any::pack(url, note));
    Some(metadata)
}

/// The note in metadata, if there is one.
fn note<N: Message + Default>(url: &str, metadata: Option<&Metadata>) -> Result<Option<N>, TranslateError> {
    let any = metadata.and_then(|metadata| metadata.typed_filter_metadata.get(NOTE_KEY));
    Ok(any.and_then(|any| any.unpack(url)).transpose()?)
}

/// The JSON of what a message cannot say; empty when that is nothing.
fn exact_text<T: serde::Serialize + Default + PartialEq>(exact: &T) -> String {
    if *exact == T::default() {
        return String::new();
    }
    serde_json::to_string(exact).expect("the model's types have string keys only and no value that JSON lacks")
}

/// Reads what `exact_text` wrote.
fn exact_of<T: serde::de::DeserializeOwned + Default>(text: &str) -> Result<T, TranslateError> {
    if text.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_str(text).map_err(|error| unusable("metadata", format!("leno's note is not readable: {error}")))
}

/// A duration that must not be negative.
fn duration_of(path: &str, duration: wkt::Duration) -> Result<Duration, TranslateError> {
    duration
        .to_std()
        .ok_or_else(|| unusable(path, "a duration is negative, not normalised or longer than 10,000 years"))
}

/// A service as a note names it.
fn service_of(text: &str) -> Result<ServiceName, TranslateError> {
    text.parse().map_err(|error| unusable("metadata", format!("leno's note names no service: {error}")))
}

/// The service and port of a canonical name, `cart.shop.mesh:8080` or `cart.shop.mesh:8080@v2`.
fn service_in_name(name: &str) -> Option<(ServiceName, u16)> {
    let name = name.split('@').next()?;
    let (host, port) = name.rsplit_once(':')?;
    let service = ServiceName::from_host(host, "").filter(|service| service.host() == host)?;
    Some((service, port.parse().ok()?))
}

impl From<Protocol> for ProtocolNote {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Detect => Self::Detect,
            Protocol::Http => Self::Http,
            Protocol::Http2 => Self::Http2,
            Protocol::Grpc => Self::Grpc,
            Protocol::Tcp => Self::Tcp,
            Protocol::Tls => Self::Tls,
        }
    }
}

/// A protocol as a note has it; one that a newer server knows and this proxy does not is found out per connection.
fn protocol_of(note: i32) -> Protocol {
    match ProtocolNote::try_from(note) {
        Ok(ProtocolNote::Http) => Protocol::Http,
        Ok(ProtocolNote::Http2) => Protocol::Http2,
        Ok(ProtocolNote::Grpc) => Protocol::Grpc,
        Ok(ProtocolNote::Tcp) => Protocol::Tcp,
        Ok(ProtocolNote::Tls) => Protocol::Tls,
        Ok(ProtocolNote::Detect) | Err(_) => Protocol::Detect,
    }
}
