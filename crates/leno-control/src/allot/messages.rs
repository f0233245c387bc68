//! The messages of `leno.mesh.v1.Limits`. Fields are numbered for ever; a meaning that changes gets a new number.

/// What a proxy asks of all limits for which it is time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AllotRequest {
    /// Who asks.
    #[prost(string, tag = "1")]
    pub proxy: String,
    /// Which process of it: another number for each.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    /// Of which limits.
    #[prost(message, repeated, tag = "3")]
    pub asks: Vec<Ask>,
}

/// What a proxy asks of a limit.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ask {
    /// The service that the limit is of, `cart.shop`.
    #[prost(string, tag = "1")]
    pub service: String,
    /// Its name in the service's policy.
    #[prost(string, tag = "2")]
    pub limit: String,
    /// Requests a second that come to the proxy.
    #[prost(double, tag = "3")]
    pub wanted: f64,
    /// Requests a second that it may let through at the moment.
    #[prost(double, tag = "4")]
    pub holding: f64,
}

/// What the proxy may let through.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AllotResponse {
    /// Of each limit, in the order of the question.
    #[prost(message, repeated, tag = "1")]
    pub allotments: Vec<Allotment>,
    /// Milliseconds after which a proxy that lets requests through asks again.
    #[prost(uint32, tag = "2")]
    pub every_ms: u32,
}

/// What the proxy may let through of a limit.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Allotment {
    /// Requests a second.
    #[prost(double, tag = "1")]
    pub rate: f64,
    /// Requests at once.
    #[prost(double, tag = "2")]
    pub burst: f64,
    /// How long it holds, in milliseconds, from when the proxy asked.
    #[prost(uint32, tag = "3")]
    pub valid_ms: u32,
    /// How many proxies hold the limit.
    #[prost(uint32, tag = "4")]
    pub proxies: u32,
    /// Why there is none; empty where there is one.
    #[prost(string, tag = "5")]
    pub refused: String,
    /// Of a quota: how many more the proxy may let through.
    #[prost(uint32, tag = "6")]
    pub requests: u32,
    /// Of a quota: in which period; later ones have higher numbers.
    #[prost(uint64, tag = "7")]
    pub period: u64,
    /// Of a quota: when that ends, in milliseconds from when the proxy asked; 0 of what is no quota.
    #[prost(uint64, tag = "8")]
    pub ends_ms: u64,
    /// Of a quota: how many nobody has been given yet.
    #[prost(uint32, tag = "9")]
    pub left: u32,
}
