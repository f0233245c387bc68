//! A copy of the state, and going back to one.
//!
//! A backup is a store file of its own, written whole beside its place and then renamed. Going back moves the
//! revision far ahead and marks all before as compacted: whoever watched the lost future is told to read anew, and
//! never mistakes a new revision for one that it has seen.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::lock::Lock;
use super::schema::{self, OpenError, meta, set_meta};
use crate::{Error, Revision};

/// How far the revision jumps. More than is written between two backups, and far from the end of 63 bits.
const REVISION_JUMP: u64 = 1_000_000_000;

/// Why a backup could not be brought back. The store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup or the store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file to go back to is empty or not a store.
    #[error("{path} is not a backup of leno: give a file that `leno system backup` has written")]
    NotABackup {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be copied or renamed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What a restored store is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The revision at which the backup was made.
    pub backup_revision: Revision,
    /// The revision from which the store goes on.
    pub revision: Revision,
    /// Where the store that was there before lies now.
    pub previous: Option<PathBuf>,
}

/// Writes a copy of the store at `path` to `to` through a connection of its own, so that all goes on meanwhile.
pub(super) fn write(path: &Path, to: &Path) -> Result<(), Error> {
    let partial = beside(to, "partial");
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::StorageFull => Error::DiskFull { path: to.to_owned() },
        _ => Error::Database { path: to.to_owned(), cause: source.to_string() },
    };
    remove_if_there(&partial).map_err(io)?;
    let done = schema::open_source(path)
        .and_then(|connection| connection.execute("VACUUM INTO ?1", [partial.to_string_lossy()]))
        .map_err(|source| match schema::error(to, &source) {
            // The backup's disk is not the store's: the store stays as sound as it was.
            Error::Broken { path, cause } => Error::Database { path, cause },
            other => other,
        })
        .and_then(|_| settle(&partial, to).map_err(io));
    if done.is_err() {
        let _ = remove_if_there(&partial);
    }
    tracing::info!(from = %path.display(), to = %to.display(), ok = done.is_ok(), "backup of the store");
    done
}

/// Puts the backup in place of the store at `path`, which no leno may have open. The store that was there is kept
/// beside it, under a name that ends in `.before-restore`.
pub fn restore(backup: &Path, path: &Path) -> Result<Restored, RestoreError> {
    let _lock = Lock::take(path)?;
    let there = path.exists();
    let lost = if there { newest(path).unwrap_or(0) } else { 0 };
    let partial = beside(path, "restoring");
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::Io { path, source }
    };
    remove_if_there(&partial).map_err(io(&partial))?;
    std::fs::copy(backup, &partial).map_err(io(backup))?;
    let restored = prepare(&partial, backup, lost);
    let (backup_revision, revision) = match restored {
        Ok(revisions) => revisions,
        Err(error) => {
            let _ = remove_if_there(&partial);
            return Err(error);
        }
    };
    let previous = there.then(|| beside(path, "before-restore"));
    if let Some(previous) = &previous {
        // Its last commits may still lie in the WAL, which belongs to it by name.
        for suffix in ["", "-wal", "-shm"] {
            let (from, to) = (append(path, suffix), append(previous, suffix));
            remove_if_there(&to).map_err(io(&to))?;
            if from.exists() {
                std::fs::rename(&from, &to).map_err(io(&from))?;
            }
        }
    }
    settle(&partial, path).map_err(io(path))?;
    Ok(Restored { backup_revision, revision, previous })
}

/// Checks the copy of a backup and moves its revision ahead of everything that was seen before.
fn prepare(copy: &Path, backup: &Path, lost: Revision) -> Result<(Revision, Revision), RestoreError> {
    let sqlite = |source| RestoreError::Open(schema::open_error(backup, source));
    let connection = Connection::open(copy).map_err(sqlite)?;
    schema::check(&connection, copy).map_err(|error| match error {
        OpenError::Corrupt { detail, .. } => OpenError::Corrupt { path: backup.to_owned(), detail },
        OpenError::NotAStore { .. } => OpenError::NotAStore { path: backup.to_owned() },
        OpenError::SchemaNewer { found, written_by, .. } => {
            OpenError::SchemaNewer { path: backup.to_owned(), found, written_by }
        }
        other => other,
    })?;
    let before: Revision =
        meta(&connection, "revision").map_err(|_| RestoreError::NotABackup { path: backup.to_owned() })?;
    let revision = before.max(lost) + REVISION_JUMP;
    connection.pragma_update(None, "synchronous", "full").map_err(sqlite)?;
    set_meta(&connection, "revision", revision).map_err(sqlite)?;
    set_meta(&connection, "compacted", revision).map_err(sqlite)?;
    connection.close().map_err(|(_, source)| sqlite(source))?;
    Ok((before, revision))
}

/// The newest revision of a store that may be damaged.
fn newest(path: &Path) -> Option<Revision> {
    let connection = Connection::open(path).ok()?;
    meta(&connection, "revision").ok()
}

/// Makes a finished file durable under its name, for its owner alone.
fn settle(partial: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(partial, std::fs::Permissions::from_mode(0o600))?;
    File::open(partial)?.sync_all()?;
    std::fs::rename(partial, to)?;
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    append(path, &format!(".{suffix}"))
}

fn append(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
