//! What endpoints report of their load, `xds.data.orca.v3`: of it what weights look at.

use prost::Message;

/// A report of load.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct OrcaLoadReport {
    /// The part of the processors that is in use.
    #[prost(double, tag = "1")]
    pub cpu_utilization: f64,
    /// Requests a second, as older ones say it.
    #[prost(uint64, tag = "3")]
    pub rps: u64,
    /// Requests a second.
    #[prost(double, tag = "6")]
    pub rps_fractional: f64,
    /// Those of them that fail.
    #[prost(double, tag = "7")]
    pub eps: f64,
    /// How busy the application says it is.
    #[prost(double, tag = "9")]
    pub application_utilization: f64,
}

impl OrcaLoadReport {
    /// The report that these bytes are, if they are one.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok()
    }
}
