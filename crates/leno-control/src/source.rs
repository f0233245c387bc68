//! Where resources come from: a watched directory, and the API. Each source is the owner of one set.

pub mod file;

use std::sync::Arc;

use leno_model::fault::Fault;
use leno_model::seam::Timestamp;
use serde::Serialize;

/// The set of what is applied through the API and the command line.
pub const API_SET: &str = "api";

/// How a source stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The set it owns: `file:/etc/leno`.
    pub name: Arc<str>,
    /// When it was last read.
    pub read: Timestamp,
    /// The revision that its last good state is part of; 0 before the first.
    pub revision: u64,
    /// How many resources its last good state has.
    pub resources: usize,
    /// What is wrong with what was last read; the last good state stays in force meanwhile.
    pub faults: Vec<Fault>,
    /// Why it could not be read at all.
    pub error: Option<String>,
}
