//! One leno per file: an advisory lock on `state.db.lock`, which the kernel gives up with the process, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::schema::OpenError;

/// Held for as long as the store is open.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

// === impl Lock ===

impl Lock {
    /// Locks the store at `path`, or says which process has it.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let beside = lock_path(path);
        let io = |source| OpenError::Io { path: beside.clone(), source };
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&beside).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message: a holder that has not written its number yet is somebody, too.
                let _ = (&mut file).take(32).read_to_string(&mut holder);
                return Err(OpenError::Locked { path: path.to_owned(), holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        // A full disk must not keep a store from being opened: it can still be read.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
