//! What can go wrong with an operation on an open store.

use std::path::PathBuf;

use crate::{KEY_MAX, LEASE_TTL_MAX, LEASE_TTL_MIN, LeaseId, Revision, TXN_BYTES_MAX, TXN_OPS_MAX, VALUE_MAX};

/// Why a store refused or could not do something. Nothing was changed, except after [`Error::Broken`], when that is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A key without a character.
    #[error("a key is empty")]
    KeyEmpty,
    /// A key that is too long.
    #[error("key {start:?}… has {length} bytes, the limit is {KEY_MAX}")]
    KeyTooLong {
        /// Its first characters.
        start: String,
        /// How many bytes it has.
        length: usize,
    },
    /// A value that is too large.
    #[error("the value of {key} has {length} bytes, the limit is {VALUE_MAX} (1.25 MiB)")]
    ValueTooLarge {
        /// Where it should have gone.
        key: String,
        /// How many bytes it has.
        length: usize,
    },
    /// More compares and operations than a transaction may have.
    #[error("a transaction has {count} compares and operations, the limit is {TXN_OPS_MAX}: split it")]
    TxnTooLong {
        /// How many there are.
        count: usize,
    },
    /// More bytes than a transaction may have.
    #[error("a transaction has {bytes} bytes, the limit is {TXN_BYTES_MAX}: split it")]
    TxnTooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// One branch of a transaction changes a key twice, so that the outcome would hang on the order.
    #[error("a transaction changes {key} twice")]
    KeyTwice {
        /// The key.
        key: String,
    },
    /// The revision lies before what is kept. Read the range anew and go on from its revision.
    #[error("revision {asked} is compacted, the oldest kept is {oldest}: read the range again and watch from there")]
    Compacted {
        /// The revision that was asked for.
        asked: Revision,
        /// The oldest one that can be asked for.
        oldest: Revision,
    },
    /// The revision does not exist yet, as after going back to a backup. Read the range anew.
    #[error("revision {asked} does not exist yet, the newest is {newest}: read the range again and watch from there")]
    Future {
        /// The revision that was asked for.
        asked: Revision,
        /// The newest one.
        newest: Revision,
    },
    /// The lease was never granted, was revoked, or is over.
    #[error("lease {0} does not exist: grant a new one")]
    LeaseUnknown(LeaseId),
    /// A duration that no lease can have.
    #[error("a lease lasts {LEASE_TTL_MIN:?} to {LEASE_TTL_MAX:?}, not {0:?}")]
    LeaseDuration(std::time::Duration),
    /// More leases than a store holds.
    #[error("there are {0} leases, more are not granted: revoke some")]
    LeasesTooMany(usize),
    /// There is no room for the write. Reads and watches go on, and so do writes as soon as there is room.
    #[error("disk full: {path} cannot grow: free some space, reads go on meanwhile")]
    DiskFull {
        /// The database.
        path: PathBuf,
    },
    /// A write failed in a way after which the disk cannot be trusted; no more writes are taken until a restart.
    #[error("{path} takes no more writes ({cause}): check the disk, then restart; reads go on meanwhile")]
    Broken {
        /// The database.
        path: PathBuf,
        /// What the disk said.
        cause: String,
    },
    /// The database refused a statement.
    #[error("{path}: {cause}")]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        cause: String,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}
