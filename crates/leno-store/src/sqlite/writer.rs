//! Writing: one thread, one connection, one commit for all that waits.
//!
//! A job is evaluated against what the jobs before it in the same commit have written, so its refusal changes nothing
//! and costs the others nothing. Only an error of the disk fails a whole commit. Nobody hears of a write, watchers
//! included, before the commit is on disk.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use leno_model::seam::Clock;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::lock::Lock;
use super::reader::{self, Present};
use super::schema::{self, set_meta};
use super::{Shared, Stats};
use crate::lease::Leases;
use crate::txn::evaluate;
use crate::{Change, Changes, Error, LeaseId, Revision, Txn, TxnResult};

/// The most writes that wait.
pub const QUEUE_JOBS_MAX: usize = 1024;

/// The most bytes of keys and values that wait.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most writes, bytes and time before a commit begins. The time bounds what the first of them waits for others.
const GROUP_JOBS_MAX: usize = 512;
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
const GROUP_TIME_MAX: Duration = Duration::from_millis(2);

/// How many superseded rows are forgotten in one commit, so that compaction never holds up a write for long.
const COMPACT_ROWS: usize = 2000;

/// A write, and where its answer goes.
pub(super) enum Job {
    Txn { txn: Txn, answer: Answer<TxnResult> },
    Compact { revision: Revision, answer: Answer<()> },
    LeaseGrant { ttl: Duration, answer: Answer<LeaseId> },
    LeaseRevoke { lease: LeaseId, answer: Answer<()> },
    LeaseExpire { answer: Answer<Duration> },
}

type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// Sends the answer of a job, once it is known how the commit ended.
type Acknowledge = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// A job in the queue, and the room that it takes there.
struct Queued {
    job: Job,
    bytes: usize,
    _room: OwnedSemaphorePermit,
}

/// The way to the writer thread.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Queued>>,
    room: Arc<Semaphore>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counters {
    commits: AtomicU64,
    writes: AtomicU64,
    commit_us: AtomicU64,
    failures: AtomicU64,
}

/// What the thread owns.
pub(super) struct Core {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
    pub(super) lease_last: u64,
    pub(super) history_revisions: u64,
    pub(super) leases: Arc<Mutex<Leases>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) shared: Arc<Shared>,
}

/// What one commit is about to do, known to nobody until it is done.
struct Group {
    revision: Revision,
    compacted: Revision,
    lease_last: u64,
    log: Vec<Changes>,
    granted: Vec<(LeaseId, Duration)>,
    ended: Vec<LeaseId>,
    answers: Vec<Acknowledge>,
}

// === impl Writer ===

impl Writer {
    /// Starts the thread. It keeps `lock` until its last commit.
    pub(super) fn start(mut core: Core, lock: Lock) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE_JOBS_MAX);
        let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX));
        let counters = Arc::new(Counters::default());
        let counted = counters.clone();
        let thread = std::thread::Builder::new().name("leno-store".to_owned()).spawn(move || {
            core.run(jobs, &counted);
            core.shared.log.close();
            drop(core);
            drop(lock);
        })?;
        Ok(Self { queue: Some(queue), room, counters, thread: Some(thread) })
    }

    /// Puts a job into the queue, when there is room, and waits for its answer.
    pub(super) async fn ask<T>(&self, bytes: usize, job: impl FnOnce(Answer<T>) -> Job) -> Result<T, Error> {
        let queue = self.queue.as_ref().ok_or(Error::Closed)?;
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(permits).await.map_err(|_| Error::Closed)?;
        let (answer, answered) = oneshot::channel();
        queue.send(Queued { job: job(answer), bytes, _room: room }).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            commits: self.counters.commits.load(Ordering::Relaxed),
            writes: self.counters.writes.load(Ordering::Relaxed),
            commit_time: Duration::from_micros(self.counters.commit_us.load(Ordering::Relaxed)),
            failures: self.counters.failures.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by its hook, and its callers have got `Closed`.
            let _ = thread.join();
        }
    }
}

// === impl Core ===

impl Core {
    fn run(&mut self, mut jobs: mpsc::Receiver<Queued>, counters: &Counters) {
        // Rows that compaction has still to forget: begun in an earlier life, perhaps.
        let mut leftover = true;
        let mut broken: Option<Error> = None;
        loop {
            let first = match leftover.then(|| jobs.try_recv()) {
                None => jobs.blocking_recv(),
                Some(Ok(job)) => Some(job),
                Some(Err(mpsc::error::TryRecvError::Empty)) => {
                    leftover = broken.is_none() && self.forget();
                    continue;
                }
                Some(Err(mpsc::error::TryRecvError::Disconnected)) => None,
            };
            let Some(first) = first else { return };
            if let Some(error) = &broken {
                first.job.refuse(error.clone());
                continue;
            }
            let before = self.compacted;
            match self.commit(first, &mut jobs, counters) {
                Ok(()) => {
                    self.compact_if_due();
                    // The first rows at once, so that room is made even when there is always a write waiting.
                    leftover = if self.compacted > before { self.forget() } else { leftover };
                }
                Err(error @ Error::Broken { .. }) => {
                    tracing::error!(%error, "the store takes no more writes");
                    broken = Some(error);
                }
                Err(error) => tracing::warn!(%error, "writes to the store did not succeed"),
            }
        }
    }

    /// Commits the first job and what waits behind it; then everybody hears of it.
    fn commit(&mut self, first: Queued, jobs: &mut mpsc::Receiver<Queued>, counters: &Counters) -> Result<(), Error> {
        let begin = self.clock.monotonic();
        let mut group = Group::after(self);
        let result = self.write(first, jobs, &mut group, begin);
        let writes = group.answers.len() as u64;
        match &result {
            Ok(()) => self.take_over(&mut group),
            Err(_) => drop(counters.failures.fetch_add(1, Ordering::Relaxed)),
        }
        let took = self.clock.monotonic().saturating_sub(begin);
        counters.commits.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
        counters.writes.fetch_add(writes, Ordering::Relaxed);
        counters.commit_us.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
        for answer in group.answers {
            answer(result.clone());
        }
        result
    }

    /// Writes a group and commits it. An error means that nothing of it is there.
    fn write(
        &mut self,
        first: Queued,
        jobs: &mut mpsc::Receiver<Queued>,
        group: &mut Group,
        begin: Duration,
    ) -> Result<(), Error> {
        let path = &self.path;
        let sqlite = |source| schema::error(path, &source);
        let leases = || self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = match self.connection.transaction_with_behavior(TransactionBehavior::Immediate) {
            Ok(transaction) => transaction,
            Err(source) => {
                let error = sqlite(source);
                first.job.refuse(error.clone());
                return Err(error);
            }
        };
        let (mut next, mut bytes) = (Some(first), 0);
        while let Some(queued) = next {
            bytes += queued.bytes;
            group.add(&transaction, path, queued.job, &leases, begin)?;
            let full = group.answers.len() >= GROUP_JOBS_MAX || bytes >= GROUP_BYTES_MAX;
            let late = self.clock.monotonic().saturating_sub(begin) >= GROUP_TIME_MAX;
            next = if full || late { None } else { jobs.try_recv().ok() };
        }
        set_meta(&transaction, "revision", group.revision).map_err(sqlite)?;
        set_meta(&transaction, "compacted", group.compacted).map_err(sqlite)?;
        set_meta(&transaction, "lease_last", group.lease_last).map_err(sqlite)?;
        transaction.commit().map_err(sqlite)
    }

    /// After the commit: what was written is true.
    fn take_over(&mut self, group: &mut Group) {
        self.revision = group.revision;
        self.compacted = group.compacted;
        self.lease_last = group.lease_last;
        let now = self.clock.monotonic();
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        for (lease, ttl) in group.granted.drain(..) {
            leases.insert(lease, ttl, now);
        }
        for lease in group.ended.drain(..) {
            leases.remove(lease);
        }
        drop(leases);
        self.shared.log.append(std::mem::take(&mut group.log));
    }

    /// Moves the border of what may be forgotten, when history has grown to twice what is kept.
    fn compact_if_due(&mut self) {
        if self.revision - self.compacted <= self.history_revisions.saturating_mul(2) {
            return;
        }
        let border = self.revision - self.history_revisions;
        match set_meta(&self.connection, "compacted", border) {
            Ok(()) => self.compacted = border,
            Err(error) => tracing::warn!(%error, "the store could not compact old revisions, trying again later"),
        }
    }

    /// Forgets some rows behind the border; whether more are left.
    fn forget(&self) -> bool {
        let some = "SELECT id FROM versions WHERE ended <= ?1 ORDER BY ended, id LIMIT ?2";
        let delete = |table: &str| {
            let mut statement = self.connection.prepare_cached(&format!("DELETE FROM {table} WHERE id IN ({some})"))?;
            statement.execute((self.compacted as i64, COMPACT_ROWS as i64))
        };
        let done = self.connection.unchecked_transaction().and_then(|transaction| {
            delete("contents")?;
            let rows = delete("versions")?;
            transaction.commit().map(|()| rows)
        });
        match done {
            Ok(rows) => rows == COMPACT_ROWS,
            Err(error) => {
                tracing::warn!(%error, "the store could not forget compacted revisions, trying again later");
                false
            }
        }
    }
}

// === impl Group ===

impl Group {
    fn after(core: &Core) -> Self {
        Self {
            revision: core.revision,
            compacted: core.compacted,
            lease_last: core.lease_last,
            log: Vec::new(),
            granted: Vec::new(),
            ended: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Does one job. A refusal is the job's own answer; an error fails the group.
    fn add<'a>(
        &mut self,
        connection: &Connection,
        path: &std::path::Path,
        job: Job,
        leases: &impl Fn() -> MutexGuard<'a, Leases>,
        now: Duration,
    ) -> Result<(), Error> {
        match job {
            Job::Txn { txn, answer } => {
                let result = self.txn(connection, path, &txn);
                self.answer(answer, result)
            }
            Job::Compact { revision, answer } => {
                let result = if revision > self.revision {
                    Err(Error::Future { asked: revision, newest: self.revision })
                } else {
                    self.compacted = self.compacted.max(revision);
                    Ok(())
                };
                self.answer(answer, result)
            }
            Job::LeaseGrant { ttl, answer } => {
                let result = leases().check(ttl).and_then(|()| self.lease_grant(connection, path, ttl));
                self.answer(answer, result)
            }
            Job::LeaseRevoke { lease, answer } => {
                let result = self.lease_end(connection, path, lease);
                self.answer(answer, result)
            }
            Job::LeaseExpire { answer } => {
                let (over, pause) = {
                    let mut leases = leases();
                    (leases.over(now), leases.pause(now))
                };
                let mut result = Ok(pause);
                for lease in over {
                    match self.lease_end(connection, path, lease) {
                        // Revoked in this very commit.
                        Ok(()) | Err(Error::LeaseUnknown(_)) => {}
                        Err(error) => result = Err(error),
                    }
                }
                self.answer(answer, result)
            }
        }
    }

    /// Keeps the answer until the commit; an error of the disk is the answer of all.
    fn answer<T: Send + 'static>(&mut self, answer: Answer<T>, result: Result<T, Error>) -> Result<(), Error> {
        let fatal = match &result {
            Err(error @ (Error::DiskFull { .. } | Error::Broken { .. } | Error::Database { .. })) => Err(error.clone()),
            _ => Ok(()),
        };
        // A caller that stopped waiting is no fault.
        self.answers.push(Box::new(move |committed| drop(answer.send(committed.and(result)))));
        fatal
    }

    fn txn(&mut self, connection: &Connection, path: &std::path::Path, txn: &Txn) -> Result<TxnResult, Error> {
        let outcome = evaluate(&Present { connection, path }, txn, self.revision + 1)?;
        self.write(connection, path, outcome.changes)?;
        Ok(TxnResult { succeeded: outcome.succeeded, revision: self.revision, results: outcome.results })
    }

    /// Writes changes that carry the next revision; none write nothing.
    fn write(&mut self, connection: &Connection, path: &std::path::Path, changes: Vec<Change>) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        for change in &changes {
            insert(connection, change).map_err(|source| schema::error(path, &source))?;
        }
        self.revision += 1;
        self.log.push(Changes { revision: self.revision, changes: changes.into() });
        Ok(())
    }

    fn lease_grant(
        &mut self,
        connection: &Connection,
        path: &std::path::Path,
        ttl: Duration,
    ) -> Result<LeaseId, Error> {
        self.lease_last += 1;
        let lease = LeaseId(self.lease_last);
        connection
            .prepare_cached("INSERT INTO leases (id, ttl_ms) VALUES (?1, ?2)")
            .and_then(|mut statement| statement.execute((lease.0 as i64, ttl.as_millis() as i64)))
            .map_err(|source| schema::error(path, &source))?;
        self.granted.push((lease, ttl));
        Ok(lease)
    }

    fn lease_end(&mut self, connection: &Connection, path: &std::path::Path, lease: LeaseId) -> Result<(), Error> {
        let sqlite = |source| schema::error(path, &source);
        if !reader::lease_there(connection, lease).map_err(sqlite)? {
            return Err(Error::LeaseUnknown(lease));
        }
        let keys = reader::lease_keys(connection, lease).map_err(sqlite)?;
        let revision = self.revision + 1;
        self.write(connection, path, keys.iter().map(|key| Change::deletion(key.as_str().into(), revision)).collect())?;
        connection
            .prepare_cached("DELETE FROM leases WHERE id = ?1")
            .and_then(|mut statement| statement.execute([lease.0 as i64]))
            .map_err(sqlite)?;
        self.ended.push(lease);
        Ok(())
    }
}

/// Supersedes what stands at the key and adds the new version.
fn insert(connection: &Connection, change: &Change) -> rusqlite::Result<()> {
    let kv = change.key_value();
    let revision = kv.mod_revision as i64;
    connection
        .prepare_cached("UPDATE versions SET ended = ?2 WHERE key = ?1 AND ended IS NULL")?
        .execute((kv.key.as_ref(), revision))?;
    // The version of a deletion is its own end, and has no value.
    let ended = matches!(change, Change::Delete(_)).then_some(revision);
    let columns = "key, revision, create_revision, version, lease, ended";
    let sql = format!("INSERT INTO versions ({columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
    let (created, version) = (kv.create_revision as i64, kv.version as i64);
    let row = (kv.key.as_ref(), revision, created, version, kv.lease.map(|lease| lease.0 as i64), ended);
    let id = connection.prepare_cached(&sql)?.insert(row)?;
    if let Change::Put(kv) = change {
        connection
            .prepare_cached("INSERT INTO contents (id, value) VALUES (?1, ?2)")?
            .execute((id, kv.value.as_ref()))?;
    }
    Ok(())
}

// === impl Job ===

impl Job {
    /// Answers with an error that is not the job's fault.
    fn refuse(self, error: Error) {
        match self {
            Self::Txn { answer, .. } => drop(answer.send(Err(error))),
            Self::Compact { answer, .. } | Self::LeaseRevoke { answer, .. } => drop(answer.send(Err(error))),
            Self::LeaseGrant { answer, .. } => drop(answer.send(Err(error))),
            Self::LeaseExpire { answer } => drop(answer.send(Err(error))),
        }
    }
}
