//! # Name
//! sqlite: the store of one machine, a single file.
//!
//! # Description
//! ```text
//! txn ─► bounded queue ─► writer thread: what waits is committed together, at most 2 ms of it ─► acknowledge ─► log ─► watchers
//! range, get ─► a few reader connections on blocking threads: they see the last commit and never wait for the writer
//! ```
//! WAL with `synchronous = FULL`: a commit is on disk before anybody hears of it. While one commit waits for the
//! disk, the next writes queue up, and so share the following one; nothing is held back to wait for company.
//!
//! Rejected: a state in memory with SQLite as its log (faster reads, twice the memory, two truths to keep equal), and
//! `locking_mode = EXCLUSIVE` against a second leno (it shuts out our own readers; a lock file does not).
//!
//! # Limits
//! [`QUEUE_JOBS_MAX`] writes and [`QUEUE_BYTES_MAX`] bytes wait, then callers do; [`Options::history_revisions`] of
//! history are kept on disk.
//!
//! # Trust
//! The file is its owner's alone (mode 0600). A damaged one is found by SQLite's own checks, at opening for files up
//! to 64 MiB, else when the damaged page is read; a flipped bit inside a value is not found.

mod backup;
mod lock;
mod log;
mod reader;
mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leno_model::seam::Clock;
use tokio::sync::watch as signal;

use self::log::Log;
use self::reader::Readers;
use self::writer::{Job, Writer};
use crate::key::{check_key, check_prefix};
use crate::lease::Leases;
use crate::watch::{Found, History, Page, follow};
use crate::{Answer, Error, KeyValue, LeaseId, Range, Revision, Store, Txn, TxnResult, Watch};

pub use self::backup::{RestoreError, Restored, restore};
pub use self::schema::{OpenError, SCHEMA_VERSION};
pub use self::writer::{QUEUE_BYTES_MAX, QUEUE_JOBS_MAX};

/// How a store is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many revisions back a range can be read and a watch resumed; up to twice as many stay on disk.
    pub history_revisions: u64,
    /// The largest size of the file; none is as large as the disk allows. For tests of what happens when it is full.
    pub pages_max: Option<u32>,
}

/// A store in one SQLite file. Dropping it commits what waits and closes the file.
pub struct SqliteStore {
    writer: Writer,
    shared: Arc<Shared>,
    leases: Arc<Mutex<Leases>>,
    clock: Arc<dyn Clock>,
}

/// What the store did since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Commits on disk.
    pub commits: u64,
    /// Writes in them: more than `commits` when writes share a commit.
    pub writes: u64,
    /// The time that commits took, from taking the first write to being on disk.
    pub commit_time: Duration,
    /// Commits that did not succeed.
    pub failures: u64,
}

/// What watchers and readers need; they may outlive the store.
struct Shared {
    log: Log,
    readers: Readers,
}

// === impl SqliteStore ===

impl SqliteStore {
    /// Opens the file or makes it. Blocks for as long as the disk takes: call it before serving.
    pub fn open(path: &Path, clock: Arc<dyn Clock>, options: Options) -> Result<Self, OpenError> {
        let lock = lock::Lock::take(path)?;
        let (connection, state) = schema::open(path, &options)?;
        let mut leases = Leases::default();
        let now = clock.monotonic();
        for (lease, ttl) in state.leases {
            leases.insert(lease, ttl, now);
        }
        let leases = Arc::new(Mutex::new(leases));
        let log = Log::new(state.revision, log::LOG_REVISIONS_MAX, log::LOG_BYTES_MAX);
        let shared = Arc::new(Shared { log, readers: Readers::open(path)? });
        let core = writer::Core {
            connection,
            path: path.to_owned(),
            revision: state.revision,
            compacted: state.compacted,
            lease_last: state.lease_last,
            history_revisions: options.history_revisions,
            leases: leases.clone(),
            clock: clock.clone(),
            shared: shared.clone(),
        };
        let writer = Writer::start(core, lock).map_err(|source| OpenError::Thread { source })?;
        Ok(Self { writer, shared, leases, clock })
    }

    /// Writes a copy of the state as it is now to `to`, whole and checked, while everything goes on.
    pub async fn backup(&self, to: &Path) -> Result<(), Error> {
        let to = to.to_owned();
        self.shared.readers.run(move |_, path| backup::write(path, &to)).await
    }

    /// What it did since it was opened.
    pub fn stats(&self) -> Stats {
        self.writer.stats()
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.shared.readers.path().to_owned()
    }
}

impl Store for SqliteStore {
    fn range<'a>(&'a self, prefix: &'a str, at: Option<Revision>) -> Answer<'a, Range> {
        Box::pin(async move {
            check_prefix(prefix)?;
            let prefix = prefix.to_owned();
            let range = self.shared.readers.run(move |connection, path| reader::range(connection, path, &prefix, at));
            let range = range.await?;
            self.shared.reached(range.revision).await?;
            Ok(range)
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<KeyValue>> {
        Box::pin(async move {
            check_key(key)?;
            let key = key.to_owned();
            self.shared.readers.run(move |connection, path| reader::get(connection, path, &key)).await
        })
    }

    fn txn(&self, txn: Txn) -> Answer<'_, TxnResult> {
        Box::pin(async move {
            txn.check()?;
            let bytes = txn.bytes();
            self.writer.ask(bytes, |answer| Job::Txn { txn, answer }).await
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> Answer<'a, Watch> {
        Box::pin(async move {
            check_prefix(prefix)?;
            let from = from.max(1);
            let compacted = self.shared.readers.run(reader::compacted).await?;
            self.shared.log.check_from(from, compacted)?;
            Ok(follow(self.shared.clone(), prefix, from))
        })
    }

    fn compact(&self, revision: Revision) -> Answer<'_, ()> {
        Box::pin(self.writer.ask(0, move |answer| Job::Compact { revision, answer }))
    }

    fn lease_grant(&self, ttl: Duration) -> Answer<'_, LeaseId> {
        Box::pin(self.writer.ask(0, move |answer| Job::LeaseGrant { ttl, answer }))
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> Answer<'_, Duration> {
        // In memory only: a renewal that cost a commit would be the most frequent write of all.
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let result = leases.keep_alive(lease, self.clock.monotonic());
        Box::pin(futures_util::future::ready(result))
    }

    fn lease_revoke(&self, lease: LeaseId) -> Answer<'_, ()> {
        Box::pin(self.writer.ask(0, move |answer| Job::LeaseRevoke { lease, answer }))
    }

    fn lease_expire(&self) -> Answer<'_, Duration> {
        Box::pin(self.writer.ask(0, |answer| Job::LeaseExpire { answer }))
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.shared.readers.path()).finish_non_exhaustive()
    }
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { history_revisions: 10_000, pages_max: None }
    }
}

// === impl Shared ===

impl Shared {
    /// Waits until the log has what a reader has seen on disk, so that a watch from there is not from the future.
    async fn reached(&self, revision: Revision) -> Result<(), Error> {
        if self.log.newest() >= revision {
            return Ok(());
        }
        let mut newest = self.log.subscribe();
        let reached = newest.wait_for(|newest| newest.is_none_or(|newest| newest >= revision)).await;
        reached.map_or(None, |newest| *newest).map(drop).ok_or(Error::Closed)
    }
}

impl History for Shared {
    fn find(&self, revision: Revision) -> Found {
        self.log.find(revision)
    }

    fn read<'a>(&'a self, prefix: &'a str, from: Revision) -> Answer<'a, Page> {
        let prefix = prefix.to_owned();
        Box::pin(self.readers.run(move |connection, path| reader::history(connection, path, &prefix, from)))
    }

    fn subscribe(&self) -> signal::Receiver<Option<Revision>> {
        self.log.subscribe()
    }
}

#[cfg(test)]
mod tests;
