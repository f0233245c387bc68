//! Why a change was refused or could not be made.

use std::sync::Arc;

use leno_model::fault::Fault;
use leno_model::resource::kind::ResourceKey;

/// Why a change was refused or could not be made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The set has faults; all of them are listed.
    #[error("{}", first_of(.0))]
    Faults(Vec<Fault>),
    /// No such resource.
    #[error("there is no {0}")]
    NotFound(ResourceKey),
    /// The resource belongs to another set.
    #[error("{resource} is owned by the set {set}")]
    Owned {
        /// The resource.
        resource: ResourceKey,
        /// The set that it belongs to.
        set: Arc<str>,
        /// File and line where it stands, as whoever applied it named them.
        place: String,
    },
    /// Somebody changed a resource since it was read.
    #[error("{resource} was changed in revision {found} by {author}, expected revision {expected}")]
    Conflict {
        /// The resource.
        resource: ResourceKey,
        /// The revision that the caller had read; 0 for none.
        expected: u64,
        /// The revision in force; 0 where there is none.
        found: u64,
        /// Who changed it.
        author: Arc<str>,
    },
    /// Others changed resources again and again at the same time.
    #[error("other changes came first {0} times in a row")]
    Contended(u32),
    /// No such revision, or it is no longer kept.
    #[error("revision {asked} is not kept: the oldest is {oldest}, the newest {newest}")]
    UnknownRevision {
        /// The revision that was asked for.
        asked: u64,
        /// The oldest one that is kept.
        oldest: u64,
        /// The newest.
        newest: u64,
    },
    /// A record in the store cannot be read.
    #[error("the record {key} in the store cannot be read: {cause}")]
    Record {
        /// Its key.
        key: String,
        /// Why.
        cause: String,
    },
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] leno_store::Error),
}

fn first_of(faults: &[Fault]) -> String {
    match faults {
        [] => "no fault".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first}, and {} more", rest.len()),
    }
}

// === impl Error ===

impl Error {
    /// A stable word for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Faults(_) => "invalid",
            Error::NotFound(_) => "not-found",
            Error::Owned { .. } => "owned",
            Error::Conflict { .. } | Error::Contended(_) => "conflict",
            Error::UnknownRevision { .. } => "unknown-revision",
            Error::Record { .. } => "corrupt",
            Error::Store(
                leno_store::Error::TxnTooLong { .. }
                | leno_store::Error::TxnTooLarge { .. }
                | leno_store::Error::ValueTooLarge { .. },
            ) => "too-large",
            Error::Store(_) => "store",
        }
    }

    /// What to do about it.
    pub fn fix(&self) -> String {
        match self {
            Error::Faults(faults) => faults.first().map(|fault| fault.fix.clone()).unwrap_or_default(),
            Error::NotFound(key) => format!("`leno get {} -n {}` lists what there is", key.kind.lower(), key.namespace),
            Error::Owned { set, place, .. } if set.starts_with("file:") => {
                format!("change it in {place}, or remove it there first")
            }
            Error::Owned { set, .. } => format!("change it with --set {set}, or delete it there first"),
            Error::Conflict { .. } => "read it again, look at the difference and apply anew".to_owned(),
            Error::Contended(_) => "try again".to_owned(),
            Error::UnknownRevision { .. } => "`leno history` lists the revisions".to_owned(),
            Error::Record { .. } => "restore a backup with `leno system restore`".to_owned(),
            Error::Store(_) if self.code() == "too-large" => "split the set into several".to_owned(),
            Error::Store(_) => "see the server's log; running traffic is not affected".to_owned(),
        }
    }
}
