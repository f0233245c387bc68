//! A watched directory: all resources in its `.yaml`, `.yml` and `.json` files are one set.
//!
//! After a change the directory is read as a whole, 100 ms after the last event, so that an editor's or a checkout's many
//! steps become one. A set with faults changes nothing: the last good one stays in force. Resources that vanish from the
//! files are deleted only when the directory could be read and still has a resource: an unmounted or emptied directory
//! deletes nothing. The directory is read every half a minute as well, because not every file system tells.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use leno_model::document;
use leno_model::identity::{Principal, Role};
use notify::{RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::SourceStatus;
use crate::{Apply, Control, Error};

/// How long after the last event a change is taken for complete.
pub const DEBOUNCE: Duration = Duration::from_millis(100);

/// A change that never becomes complete is read after this time all the same.
const DEBOUNCE_MAX: Duration = Duration::from_secs(2);

/// How often the directory is read without an event.
const INTERVAL: Duration = Duration::from_secs(30);

/// The most files of one set.
const FILES_MAX: usize = 10_000;

/// The deepest folder below the directory that is looked into.
const DEPTH_MAX: usize = 8;

/// A file larger than a text may be is not read whole.
const FILE_BYTES_MAX: u64 = document::TEXT_BYTES_MAX as u64 + 1;

/// A watched directory.
pub struct FileSource {
    control: Control,
    directory: PathBuf,
    set: Arc<str>,
    /// What was read last, to see whether anything changed.
    last: Option<Vec<(String, Vec<u8>)>>,
}

// === impl FileSource ===

impl FileSource {
    /// The directory as a source. [`FileSource::sync`] reads it once, [`FileSource::run`] goes on reading.
    pub fn new(control: Control, directory: &Path) -> Self {
        let set = format!("file:{}", directory.display()).into();
        Self { control, directory: directory.to_owned(), set, last: None }
    }

    /// Reads the directory whenever it changes, for ever.
    pub async fn run(mut self) {
        let changed = Arc::new(Notify::new());
        let teller = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                teller.notify_one();
            }
        });
        let watching = watcher.and_then(|mut watcher| {
            watcher.watch(&self.directory, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        if let Err(error) = &watching {
            tracing::warn!(%error, directory = %self.directory.display(), "directory not watched, read every 30 s only");
        }
        loop {
            self.sync().await;
            if timeout(INTERVAL, changed.notified()).await.is_ok() {
                let quiet = async { while timeout(DEBOUNCE, changed.notified()).await.is_ok() {} };
                let _ = timeout(DEBOUNCE_MAX, quiet).await;
            }
        }
    }

    /// Reads the directory now and applies what it says, if that changed.
    pub async fn sync(&mut self) -> SourceStatus {
        let before = self.control.sources().into_iter().find(|status| status.name == self.set);
        let mut status = before.unwrap_or_else(|| SourceStatus {
            name: self.set.clone(),
            read: Default::default(),
            revision: 0,
            resources: 0,
            faults: Vec::new(),
            error: None,
        });
        status.read = self.control.clock().wall();
        let directory = self.directory.clone();
        // Files may be on a slow disk, and this thread has proxies to serve.
        let read = tokio::task::spawn_blocking(move || read(&directory)).await;
        match read {
            Ok(Ok(files)) => self.take(files, &mut status).await,
            Ok(Err(error)) => {
                // Read anew when it comes back, even if it comes back as it was.
                self.last = None;
                status.error =
                    Some(format!("read {}: {error}; what it said before stays in force", self.directory.display()));
            }
            Err(error) => status.error = Some(error.to_string()),
        }
        if let Some(error) = &status.error {
            tracing::warn!(%error, "source not read");
        }
        self.control.set_source(status.clone());
        status
    }

    async fn take(&mut self, files: Vec<(String, Vec<u8>)>, status: &mut SourceStatus) {
        status.error = None;
        if self.last.as_ref() == Some(&files) {
            return;
        }
        let parsed = document::parse_set(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
        let count = parsed.resources.len();
        if count == 0 && parsed.faults.is_empty() {
            self.last = Some(files);
            status.error = (status.resources > 0 || self.owns_any()).then(|| {
                format!("{} has no resource any more; what it said before stays in force", self.directory.display())
            });
            return;
        }
        let apply = Apply {
            from: None,
            principal: Principal { name: "file".to_owned(), role: Role::Operator },
            set: self.set.clone(),
            parsed,
            prune: true,
            dry_run: false,
            expected: None,
            summary: None,
        };
        match self.control.apply(apply).await {
            Ok(applied) => {
                (status.revision, status.resources, status.faults) = (applied.revision, count, applied.warnings);
                self.last = Some(files);
            }
            Err(Error::Faults(faults)) => {
                for fault in &faults {
                    tracing::warn!(%fault, "set refused, the last good one stays in force");
                }
                status.faults = faults;
                self.last = Some(files);
            }
            // The store may be back at the next reading.
            Err(error) => status.error = Some(error.to_string()),
        }
    }

    fn owns_any(&self) -> bool {
        self.control.resources().1.iter().any(|entry| entry.set == self.set)
    }
}

/// The files of the directory with their names relative to it, sorted.
fn read(directory: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut paths = Vec::new();
    list(directory, 0, &mut paths)?;
    paths.sort();
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let name = path.strip_prefix(directory).unwrap_or(&path).display().to_string();
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(fs::File::open(&path)?, FILE_BYTES_MAX), &mut bytes)?;
        files.push((name, bytes));
    }
    Ok(files)
}

fn list(directory: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            if depth < DEPTH_MAX {
                list(&path, depth + 1, paths)?;
            }
        } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| ["yaml", "yml", "json"].contains(&e)) {
            paths.push(path);
        }
        if paths.len() > FILES_MAX {
            return Err(io::Error::other(format!("more than {FILES_MAX} files")));
        }
    }
    Ok(())
}
