//! Reading: a few connections that see the last commit and never wait for the writer.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row};
use tokio::sync::Semaphore;

use super::schema::{self, OpenError, meta};
use crate::key::prefix_end;
use crate::txn::View;
use crate::watch::Page;
use crate::{Change, Changes, Error, KeyValue, LeaseId, Range, Revision};

/// How many reads run at once.
const READERS: usize = 3;

/// The most revisions and about the most bytes in one piece of history.
const PAGE_REVISIONS_MAX: u64 = 1024;
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

const SELECT: &str =
    "SELECT key, value, create_revision, revision, version, lease FROM versions LEFT JOIN contents USING (id)";

/// The reading connections of one store.
pub(super) struct Readers {
    path: Arc<Path>,
    idle: Arc<Mutex<Vec<Connection>>>,
    free: Semaphore,
}

// === impl Readers ===

impl Readers {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let idle = (0..READERS).map(|_| schema::open_reader(path)).collect::<Result<Vec<_>, _>>();
        let idle = idle.map_err(|source| schema::open_error(path, source))?;
        Ok(Self { path: path.into(), idle: Arc::new(Mutex::new(idle)), free: Semaphore::new(READERS) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `read` with a connection on a blocking thread, when one is free.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection, &Path) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let _free = self.free.acquire().await.map_err(|_| Error::Closed)?;
        let (idle, path) = (self.idle.clone(), self.path.clone());
        let task = tokio::task::spawn_blocking(move || {
            let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = lock().pop();
            // A caller that stopped waiting gives its permit back before its connection; then a new one is opened.
            let connection = match taken {
                Some(connection) => connection,
                None => schema::open_reader(&path).map_err(|source| schema::error(&path, &source))?,
            };
            let result = read(&connection, &path);
            let mut idle = lock();
            if idle.len() < READERS {
                idle.push(connection);
            }
            result
        });
        task.await.map_err(|_| Error::Closed)?
    }
}

/// The state under a prefix.
pub(super) fn range(connection: &Connection, path: &Path, prefix: &str, at: Option<Revision>) -> Result<Range, Error> {
    let sqlite = |source| schema::error(path, &source);
    let snapshot = connection.unchecked_transaction().map_err(sqlite)?;
    let newest: Revision = meta(&snapshot, "revision").map_err(sqlite)?;
    let Some(revision) = at.filter(|at| *at != newest) else {
        let items = current(&snapshot, prefix).map_err(sqlite)?;
        return Ok(Range { revision: newest, items });
    };
    let compacted: Revision = meta(&snapshot, "compacted").map_err(sqlite)?;
    if revision > newest {
        return Err(Error::Future { asked: revision, newest });
    }
    if revision < compacted {
        return Err(Error::Compacted { asked: revision, oldest: compacted });
    }
    // Two searches, each by its own partial index: what stands since then, and what was superseded later.
    let mut items = Vec::new();
    for condition in ["ended IS NULL", "ended > ?3"] {
        let sql = format!("{SELECT} WHERE {condition} AND key >= ?1 AND (?2 IS NULL OR key < ?2) AND revision <= ?3");
        let mut statement = snapshot.prepare_cached(&sql).map_err(sqlite)?;
        let rows = statement.query_map((prefix, prefix_end(prefix), revision as i64), key_value).map_err(sqlite)?;
        for row in rows {
            items.push(row.map_err(sqlite)?);
        }
    }
    items.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Ok(Range { revision, items })
}

/// One key.
pub(super) fn get(connection: &Connection, path: &Path, key: &str) -> Result<Option<KeyValue>, Error> {
    current_one(connection, key).map_err(|source| schema::error(path, &source))
}

/// The revision before which nothing can be asked for.
pub(super) fn compacted(connection: &Connection, path: &Path) -> Result<Revision, Error> {
    meta(connection, "compacted").map_err(|source| schema::error(path, &source))
}

/// A piece of the changes under a prefix from revision `from` on.
pub(super) fn history(connection: &Connection, path: &Path, prefix: &str, from: Revision) -> Result<Page, Error> {
    let sqlite = |source| schema::error(path, &source);
    let snapshot = connection.unchecked_transaction().map_err(sqlite)?;
    let compacted: Revision = meta(&snapshot, "compacted").map_err(sqlite)?;
    if from <= compacted {
        return Err(Error::Compacted { asked: from, oldest: compacted + 1 });
    }
    let newest: Revision = meta(&snapshot, "revision").map_err(sqlite)?;
    let end = newest.min(from + PAGE_REVISIONS_MAX - 1);
    let sql = format!(
        "{SELECT} WHERE revision BETWEEN ?1 AND ?2 AND key >= ?3 AND (?4 IS NULL OR key < ?4) ORDER BY revision, id"
    );
    let mut statement = snapshot.prepare_cached(&sql).map_err(sqlite)?;
    let bounds = (from as i64, end as i64, prefix, prefix_end(prefix));
    let mut rows = statement.query(bounds).map_err(sqlite)?;
    let mut page = Page { changes: Vec::new(), next: end + 1 };
    let (mut one, mut revision, mut bytes) = (Vec::new(), from, 0);
    while let Some(row) = rows.next().map_err(sqlite)? {
        let change = change(row).map_err(sqlite)?;
        let next = change.key_value().mod_revision;
        if next != revision && !one.is_empty() {
            page.changes.push(Changes { revision, changes: std::mem::take(&mut one).into() });
            if bytes > PAGE_BYTES_MAX {
                page.next = next;
                return Ok(page);
            }
        }
        revision = next;
        bytes += change.key_value().value.len();
        one.push(change);
    }
    if !one.is_empty() {
        page.changes.push(Changes { revision, changes: one.into() });
    }
    Ok(page)
}

/// What a transaction reads: the writer's own connection.
pub(super) struct Present<'a> {
    pub(super) connection: &'a Connection,
    pub(super) path: &'a Path,
}

impl View for Present<'_> {
    fn get(&self, key: &str) -> Result<Option<KeyValue>, Error> {
        get(self.connection, self.path, key)
    }

    fn prefix(&self, prefix: &str) -> Result<Vec<KeyValue>, Error> {
        current(self.connection, prefix).map_err(|source| schema::error(self.path, &source))
    }

    fn lease_alive(&self, lease: LeaseId) -> Result<bool, Error> {
        lease_there(self.connection, lease).map_err(|source| schema::error(self.path, &source))
    }
}

/// Whether a lease is granted and not ended.
pub(super) fn lease_there(connection: &Connection, lease: LeaseId) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM leases WHERE id = ?1")?.exists([lease.0 as i64])
}

/// The keys that end with a lease.
pub(super) fn lease_keys(connection: &Connection, lease: LeaseId) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT key FROM versions WHERE lease = ?1 AND lease IS NOT NULL AND ended IS NULL ORDER BY key";
    connection.prepare_cached(sql)?.query_map([lease.0 as i64], |row| row.get(0))?.collect()
}

fn current(connection: &Connection, prefix: &str) -> rusqlite::Result<Vec<KeyValue>> {
    let sql = format!("{SELECT} WHERE ended IS NULL AND key >= ?1 AND (?2 IS NULL OR key < ?2) ORDER BY key");
    connection.prepare_cached(&sql)?.query_map((prefix, prefix_end(prefix)), key_value)?.collect()
}

fn current_one(connection: &Connection, key: &str) -> rusqlite::Result<Option<KeyValue>> {
    let sql = format!("{SELECT} WHERE ended IS NULL AND key = ?1");
    connection.prepare_cached(&sql)?.query_row([key], key_value).optional()
}

fn key_value(row: &Row<'_>) -> rusqlite::Result<KeyValue> {
    Ok(KeyValue {
        key: row.get_ref(0)?.as_str()?.into(),
        value: Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?),
        create_revision: row.get(2)?,
        mod_revision: row.get(3)?,
        version: row.get(4)?,
        lease: row.get::<_, Option<u64>>(5)?.map(LeaseId),
    })
}

fn change(row: &Row<'_>) -> rusqlite::Result<Change> {
    if row.get_ref(1)? == rusqlite::types::ValueRef::Null {
        return Ok(Change::deletion(row.get_ref(0)?.as_str()?.into(), row.get(3)?));
    }
    key_value(row).map(Change::Put)
}
