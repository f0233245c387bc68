//! The tables, their version, and what can be wrong with a file.
//!
//! One table holds present and past. A row is a version of a key; `ended` is the revision that superseded it, null
//! while it is current, and its own revision for the mark of a deletion (which has no value). So the present is a
//! partial index, the state at revision r is `revision <= r and (ended is null or ended > r)`, and what compaction to
//! r may forget is `ended <= r`. Values stand apart, because SQLite rewrites a whole row to change one column of it:
//! so they are written once, and deleting a large one works on a full disk.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::Options;
use crate::{Error, LeaseId, Revision};

/// The version of the tables that this leno writes.
pub const SCHEMA_VERSION: u32 = MIGRATIONS.len() as u32;

/// `leno` in ASCII, in the header of every store.
const APPLICATION_ID: i32 = 0x6c65_6e6f;

/// Up to this size a file is checked page by page when it is opened.
const CHECK_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What leads from each version to the next. Never changed once released: a change is a new entry.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE versions (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        revision INTEGER NOT NULL,
        create_revision INTEGER NOT NULL,
        version INTEGER NOT NULL,
        lease INTEGER,
        ended INTEGER
    ) STRICT;
    CREATE TABLE contents (id INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
    CREATE UNIQUE INDEX versions_current ON versions (key) WHERE ended IS NULL;
    CREATE INDEX versions_ended ON versions (ended) WHERE ended IS NOT NULL;
    CREATE INDEX versions_revision ON versions (revision);
    CREATE INDEX versions_lease ON versions (lease) WHERE lease IS NOT NULL AND ended IS NULL;
    CREATE TABLE leases (id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL) STRICT;
    CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('revision', 0), ('compacted', 0), ('lease_last', 0), ('written_by', '');
"];

/// Why a store could not be opened. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{path} is in use by another leno (process {holder}): stop that one, or give this one another --data-dir")]
    Locked {
        /// The database.
        path: PathBuf,
        /// Its process id, if it has written it.
        holder: String,
    },
    /// It is damaged.
    #[error(
        "{path} is damaged ({detail}): bring back a backup with `leno system restore FILE`, or move the file away to start empty"
    )]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// It was written by a later leno.
    #[error(
        "{path} has schema {found} and was last written by leno {written_by}, this leno knows schema {SCHEMA_VERSION}: use leno {written_by} or later"
    )]
    SchemaNewer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The version that wrote it.
        written_by: String,
    },
    /// It is something else.
    #[error("{path} is an SQLite file but not leno's: give another --data-dir, or move the file away")]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// There is no room for what opening writes.
    #[error("{path} cannot be opened because the disk is full: free some space")]
    DiskFull {
        /// The database.
        path: PathBuf,
    },
    /// The file cannot be read, made or written.
    #[error("{path}: {source}: check that the directory exists and belongs to the user leno runs as")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite refused in another way.
    #[error("{path}: {source}")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
    /// The writer thread did not start.
    #[error("the thread that writes the store did not start: {source}")]
    Thread {
        /// What the system said.
        source: std::io::Error,
    },
}

/// What the writer must know of a store that was just opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
    pub(super) lease_last: u64,
    pub(super) leases: Vec<(LeaseId, Duration)>,
}

/// Opens the file for writing: makes it if it is not there, checks it, migrates it.
pub(super) fn open(path: &Path, options: &Options) -> Result<(Connection, State), OpenError> {
    let sqlite = |source| open_error(path, source);
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let mut connection = Connection::open_with_flags(path, flags(false)).map_err(sqlite)?;
    check(&connection, path)?;
    configure(&connection, options).map_err(sqlite)?;
    migrate(&mut connection).map_err(sqlite)?;
    let state = state(&connection).map_err(sqlite)?;
    Ok((connection, state))
}

/// Opens it for copying: `query_only` would also forbid writing the copy.
pub(super) fn open_source(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, flags(true))
}

/// Opens it for reading only.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags(true))?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "mmap_size", 256 * 1024 * 1024)?;
    Ok(connection)
}

/// Refuses what is not ours, is newer, or is damaged; changes nothing.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite = |source| open_error(path, source);
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sqlite)?;
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(sqlite)?;
    let tables: u64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sqlite)?;
    if tables == 0 && application == 0 && version == 0 {
        return Ok(());
    }
    if application != APPLICATION_ID {
        return Err(OpenError::NotAStore { path: path.to_owned() });
    }
    if version > SCHEMA_VERSION {
        let written_by = meta::<String>(connection, "written_by").unwrap_or_else(|_| "of a later version".to_owned());
        return Err(OpenError::SchemaNewer { path: path.to_owned(), found: version, written_by });
    }
    let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    if bytes <= CHECK_BYTES_MAX {
        let detail: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sqlite)?;
        if detail != "ok" {
            return Err(OpenError::Corrupt { path: path.to_owned(), detail });
        }
    }
    Ok(())
}

/// One of the store's own numbers.
pub(super) fn meta<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?.query_row([name], |row| row.get(0))
}

/// Changes one of the store's own numbers.
pub(super) fn set_meta(connection: &Connection, name: &str, value: u64) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE meta SET value = ?2 WHERE name = ?1")?.execute((name, value as i64)).map(drop)
}

/// An error of an open store.
pub(super) fn error(path: &Path, source: &rusqlite::Error) -> Error {
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::DiskFull { path: path.to_owned() },
        Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::Broken { path: path.to_owned(), cause: source.to_string() }
        }
        _ => Error::Database { path: path.to_owned(), cause: source.to_string() },
    }
}

/// An error of opening.
pub(super) fn open_error(path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            OpenError::Corrupt { path, detail: source.to_string() }
        }
        Some(ErrorCode::DiskFull) => OpenError::DiskFull { path },
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            OpenError::Io { path, source: std::io::Error::other(source.to_string()) }
        }
        _ => OpenError::Sqlite { path, source },
    }
}

fn flags(read_only: bool) -> OpenFlags {
    let mode = if read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
    mode | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn configure(connection: &Connection, options: &Options) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update_and_check(None, "journal_size_limit", 64 * 1024 * 1024, |_| Ok(()))?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_prepared_statement_cache_capacity(64);
    if let Some(pages) = options.pages_max {
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    Ok(())
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for migration in MIGRATIONS.iter().skip(version as usize) {
        transaction.execute_batch(migration)?;
    }
    if version < SCHEMA_VERSION {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    let version = env!("CARGO_PKG_VERSION");
    transaction.execute("UPDATE meta SET value = ?1 WHERE name = 'written_by' AND value <> ?1", [version])?;
    transaction.commit()
}

fn state(connection: &Connection) -> rusqlite::Result<State> {
    let mut statement = connection.prepare("SELECT id, ttl_ms FROM leases")?;
    let leases = statement
        .query_map([], |row| Ok((LeaseId(row.get(0)?), Duration::from_millis(row.get(1)?))))?
        .collect::<Result<_, _>>()?;
    Ok(State {
        revision: meta(connection, "revision")?,
        compacted: meta(connection, "compacted")?,
        lease_last: meta(connection, "lease_last")?,
        leases,
    })
}
