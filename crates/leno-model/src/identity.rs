//! Who asks: the principal that reaches every handler and signs every revision.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a principal may do. Each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read resources, services, status and telemetry.
    Viewer,
    /// Also change resources and instances.
    Operator,
    /// Also create tokens, read the audit log, back up and restore.
    Admin,
}

/// An authenticated caller of an API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The name that stands in revisions and in the audit log.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        })
    }
}
