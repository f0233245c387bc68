//! What the registry refuses, why, and what to do.

use leno_model::name::ServiceName;

use crate::Revision;
use crate::catalogue::{INSTANCES_MAX, INSTANCES_PER_SERVICE_MAX, SERVICES_MAX};

/// Why the registry refused or could not do something. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field of an instance breaks a rule.
    #[error("{field}: {problem}")]
    Invalid {
        /// The path of the field, as `ports[0].number`.
        field: String,
        /// What is wrong with it.
        problem: String,
        /// What would be right.
        fix: String,
    },
    /// No such instance.
    #[error("instance {id} of {service} is not registered")]
    Unknown {
        /// The service that was named.
        service: ServiceName,
        /// The id that was named.
        id: String,
    },
    /// Another source has registered an instance with this id.
    #[error("instance {id} of {service} belongs to source {owner}")]
    Owned {
        /// The service.
        service: ServiceName,
        /// The id.
        id: String,
        /// The source that registered it.
        owner: String,
    },
    /// The service is full.
    #[error("service {service} has {INSTANCES_PER_SERVICE_MAX} instances, the limit")]
    ServiceFull {
        /// The service.
        service: ServiceName,
    },
    /// There are too many services.
    #[error("there are {SERVICES_MAX} services, the limit")]
    ServicesTooMany,
    /// There are too many instances.
    #[error("there are {INSTANCES_MAX} instances, the limit")]
    InstancesTooMany,
    /// The store did not take it.
    #[error("{0}")]
    Store(#[from] leno_store::Error),
    /// The registry is going away.
    #[error("the registry is closed (revision {revision})")]
    Closed {
        /// Its last revision.
        revision: Revision,
    },
}

// === impl Error ===

impl Error {
    /// A short word for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::Unknown { .. } => "not_found",
            Self::Owned { .. } => "conflict",
            Self::ServiceFull { .. } | Self::ServicesTooMany | Self::InstancesTooMany => "limit",
            Self::Store(leno_store::Error::DiskFull { .. }) => "disk_full",
            Self::Store(_) | Self::Closed { .. } => "unavailable",
        }
    }

    /// What to do.
    pub fn fix(&self) -> String {
        match self {
            Self::Invalid { fix, .. } => fix.clone(),
            Self::Unknown { .. } => "register it first, or again: its lease may be over".to_owned(),
            Self::Owned { owner, .. } => format!("take another id, or deregister it where it comes from ({owner})"),
            Self::ServiceFull { .. } | Self::ServicesTooMany | Self::InstancesTooMany => {
                "deregister what is not used any more, or split the mesh".to_owned()
            }
            Self::Store(leno_store::Error::DiskFull { .. }) => "free some space on the server's disk".to_owned(),
            Self::Store(_) | Self::Closed { .. } => "try again; if it stays, see the server's log".to_owned(),
        }
    }

    pub(crate) fn unknown(service: &ServiceName, id: &str) -> Self {
        // What a caller sent is repeated only as far as an id may be long.
        Self::Unknown { service: service.clone(), id: id.chars().take(128).collect() }
    }
}
