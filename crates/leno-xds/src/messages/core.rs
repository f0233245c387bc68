//! `envoy.config.core.v3`, and the few messages of `envoy.type` and `xds` that are used everywhere.

use std::collections::BTreeMap;

use super::wkt::{Any, Struct};

/// Who asks.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub cluster: String,
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<Struct>,
    #[prost(message, optional, tag = "4")]
    pub locality: Option<Locality>,
    #[prost(string, tag = "6")]
    pub user_agent_name: String,
    #[prost(oneof = "UserAgentVersion", tags = "7, 8")]
    pub user_agent_version: Option<UserAgentVersion>,
    #[prost(string, repeated, tag = "10")]
    pub client_features: Vec<String>,
}

/// The version of the client's program.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum UserAgentVersion {
    #[prost(string, tag = "7")]
    Text(String),
    #[prost(message, tag = "8")]
    Build(BuildVersion),
}

/// A version with its build.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BuildVersion {
    #[prost(message, optional, tag = "1")]
    pub version: Option<SemanticVersion>,
}

/// `envoy.type.v3.SemanticVersion`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SemanticVersion {
    #[prost(uint32, tag = "1")]
    pub major_number: u32,
    #[prost(uint32, tag = "2")]
    pub minor_number: u32,
    #[prost(uint32, tag = "3")]
    pub patch: u32,
}

/// Who answers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ControlPlane {
    #[prost(string, tag = "1")]
    pub identifier: String,
}

/// Where something runs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct Locality {
    #[prost(string, tag = "1")]
    pub region: String,
    #[prost(string, tag = "2")]
    pub zone: String,
    #[prost(string, tag = "3")]
    pub sub_zone: String,
}

/// What Envoy carries and does not read.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metadata {
    #[prost(btree_map = "string, message", tag = "1")]
    pub filter_metadata: BTreeMap<String, Struct>,
    #[prost(btree_map = "string, message", tag = "2")]
    pub typed_filter_metadata: BTreeMap<String, Any>,
}

/// An address.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Address {
    #[prost(oneof = "AddressKind", tags = "1, 2")]
    pub address: Option<AddressKind>,
}

/// The kinds of address.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum AddressKind {
    #[prost(message, tag = "1")]
    Socket(SocketAddress),
    #[prost(message, tag = "2")]
    Pipe(Pipe),
}

/// An IP address and port.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SocketAddress {
    /// 0 is TCP.
    #[prost(int32, tag = "1")]
    pub protocol: i32,
    #[prost(string, tag = "2")]
    pub address: String,
    #[prost(oneof = "PortSpecifier", tags = "3, 4")]
    pub port_specifier: Option<PortSpecifier>,
}

/// A port.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum PortSpecifier {
    #[prost(uint32, tag = "3")]
    Value(u32),
    #[prost(string, tag = "4")]
    Named(String),
}

/// A Unix socket.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pipe {
    #[prost(string, tag = "1")]
    pub path: String,
}

/// Where a resource comes from.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfigSource {
    #[prost(oneof = "ConfigSourceSpecifier", tags = "3, 5")]
    pub config_source_specifier: Option<ConfigSourceSpecifier>,
    #[prost(message, optional, tag = "4")]
    pub initial_fetch_timeout: Option<super::wkt::Duration>,
    /// 2 is v3.
    #[prost(int32, tag = "6")]
    pub resource_api_version: i32,
}

/// The sources in use.
#[derive(Clone, Copy, PartialEq, Eq, prost::Oneof)]
pub enum ConfigSourceSpecifier {
    #[prost(message, tag = "3")]
    Ads(Empty),
    #[prost(message, tag = "5")]
    Own(Empty),
}

/// A message without fields in use.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Empty {}

/// A change of a field: `append_action` says whether it adds or replaces.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeaderValueOption {
    #[prost(message, optional, tag = "1")]
    pub header: Option<HeaderValue>,
    /// The older way to say it: false replaces.
    #[prost(message, optional, tag = "2")]
    pub append: Option<bool>,
    #[prost(enumeration = "HeaderAppendAction", tag = "3")]
    pub append_action: i32,
    #[prost(bool, tag = "4")]
    pub keep_empty_value: bool,
}

/// A field.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeaderValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// What happens when the field is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum HeaderAppendAction {
    AppendIfExistsOrAdd = 0,
    AddIfAbsent = 1,
    OverwriteIfExistsOrAdd = 2,
    OverwriteIfExists = 3,
}

/// A share that an operator may override at run time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RuntimeFractionalPercent {
    #[prost(message, optional, tag = "1")]
    pub default_value: Option<FractionalPercent>,
}

/// A share.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct FractionalPercent {
    #[prost(uint32, tag = "1")]
    pub numerator: u32,
    #[prost(enumeration = "DenominatorType", tag = "2")]
    pub denominator: i32,
}

/// The denominators of a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum DenominatorType {
    Hundred = 0,
    TenThousand = 1,
    Million = 2,
}

/// A percentage.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Percent {
    #[prost(double, tag = "1")]
    pub value: f64,
}

/// A number that Envoy looks for under a name while it runs.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RuntimeDouble {
    #[prost(double, tag = "1")]
    pub default_value: f64,
    #[prost(string, tag = "2")]
    pub runtime_key: String,
}

/// A text or bytes from somewhere.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DataSource {
    #[prost(oneof = "DataSourceSpecifier", tags = "2, 3")]
    pub specifier: Option<DataSourceSpecifier>,
}

/// Where a text comes from; those of the client's machine are not in use.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum DataSourceSpecifier {
    #[prost(bytes = "bytes", tag = "2")]
    InlineBytes(bytes::Bytes),
    #[prost(string, tag = "3")]
    InlineString(String),
}

/// An extension by name, with its configuration.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TypedExtensionConfig {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub typed_config: Option<Any>,
}

/// `xds.type.v3.TypedStruct`: a configuration whose type the receiver need not know.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TypedStruct {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<Struct>,
}

/// `envoy.type.matcher.v3.RegexMatcher`: matches the whole text, in RE2's syntax.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RegexMatcher {
    #[prost(string, tag = "2")]
    pub regex: String,
}

/// `envoy.type.matcher.v3.RegexMatchAndSubstitute`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RegexMatchAndSubstitute {
    #[prost(message, optional, tag = "1")]
    pub pattern: Option<RegexMatcher>,
    #[prost(string, tag = "2")]
    pub substitution: String,
}

/// `envoy.type.matcher.v3.StringMatcher`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StringMatcher {
    #[prost(oneof = "MatchPattern", tags = "1, 2, 3, 5, 7")]
    pub match_pattern: Option<MatchPattern>,
    #[prost(bool, tag = "6")]
    pub ignore_case: bool,
}

/// The ways to match a text.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum MatchPattern {
    #[prost(string, tag = "1")]
    Exact(String),
    #[prost(string, tag = "2")]
    Prefix(String),
    #[prost(string, tag = "3")]
    Suffix(String),
    #[prost(message, tag = "5")]
    SafeRegex(RegexMatcher),
    #[prost(string, tag = "7")]
    Contains(String),
}
