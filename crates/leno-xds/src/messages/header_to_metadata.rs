//! `envoy.extensions.filters.http.header_to_metadata.v3`.

/// What becomes of fields of requests.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeaderToMetadata {
    #[prost(message, repeated, tag = "1")]
    pub request_rules: Vec<Rule>,
}

/// What becomes of one.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rule {
    #[prost(string, tag = "1")]
    pub header: String,
    #[prost(message, optional, tag = "2")]
    pub on_header_present: Option<KeyValuePair>,
}

/// An entry of metadata; without a value, that of the field.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValuePair {
    #[prost(string, tag = "1")]
    pub metadata_namespace: String,
    #[prost(string, tag = "2")]
    pub key: String,
}
