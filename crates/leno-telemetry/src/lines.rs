//! Lines on their way to a file or pipe that may be slow, full or blocked.
//!
//! Whoever writes a line puts it into a bounded queue and goes on; one thread writes. When the queue is full the line
//! is dropped and counted; when the disk is full the lines are counted and the next ones tried. Rejected: writing
//! from the worker (a blocked pipe stops traffic), and a ring shared by all workers (a lock).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Lines that wait at most.
pub const QUEUE_LINES: usize = 8_192;
/// Bytes that wait at most.
pub const QUEUE_BYTES: usize = 8 << 20;
/// Bytes that are written at once.
const BATCH: usize = 64 << 10;
/// How long the writer lets lines gather. Waking a thread for each line would cost whoever pushes it some microseconds;
/// one that sleeps by the clock costs them nothing.
const GATHER: Duration = Duration::from_millis(2);

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

/// Why lines cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    /// The file cannot be opened.
    #[error("open {path} for appending: {source}; check that its folder exists and may be written")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The thread cannot be started.
    #[error("start the thread {name} that writes lines: {source}")]
    Thread {
        /// Its name.
        name: String,
        /// Why not.
        source: io::Error,
    },
}

/// A queue of lines and the thread that writes them. Cheap to clone.
#[derive(Clone)]
pub struct LineQueue {
    sender: SyncSender<Vec<u8>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    pushed: AtomicU64,
    bytes: AtomicUsize,
    dropped: AtomicU64,
    lost: AtomicU64,
    reopen: AtomicBool,
    /// Lines that were written or lost, for [`LineQueue::flush`].
    done: Mutex<u64>,
    progress: Condvar,
}

enum Sink {
    File(File, PathBuf),
    Other(Box<dyn Write + Send>),
}

// === impl LineQueue ===

impl LineQueue {
    /// Opens `target` and starts the thread `name`.
    pub fn start(name: &str, target: &Target) -> Result<Self, LinesError> {
        let sink = match target {
            Target::Stdout => Sink::Other(Box::new(io::stdout())),
            Target::Stderr => Sink::Other(Box::new(io::stderr())),
            Target::File(path) => Sink::File(open(path)?, path.clone()),
        };
        Self::spawn(name, sink)
    }

    /// A queue before any writer.
    pub fn to_writer(name: &str, writer: impl Write + Send + 'static) -> Result<Self, LinesError> {
        Self::spawn(name, Sink::Other(Box::new(writer)))
    }

    fn spawn(name: &str, sink: Sink) -> Result<Self, LinesError> {
        let (sender, receiver) = sync_channel(QUEUE_LINES);
        let shared = Arc::new(Shared::default());
        let for_thread = shared.clone();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&receiver, &for_thread, sink))
            .map_err(|source| LinesError::Thread { name: name.to_owned(), source })?;
        Ok(Self { sender, shared })
    }

    /// Queues a line, which ends with a line feed. False when it was dropped because the queue is full.
    pub fn push(&self, line: Vec<u8>) -> bool {
        let bytes = line.len();
        let fits = self.shared.bytes.fetch_add(bytes, Relaxed) + bytes <= QUEUE_BYTES;
        if fits && self.sender.try_send(line).is_ok() {
            self.shared.pushed.fetch_add(1, Relaxed);
            return true;
        }
        self.shared.bytes.fetch_sub(bytes, Relaxed);
        self.shared.dropped.fetch_add(1, Relaxed);
        false
    }

    /// Lines dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }

    /// Lines lost because they could not be written.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Relaxed)
    }

    /// Opens the file anew before the next line, after it was moved away.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Relaxed);
    }

    /// Waits until what was queued before is written, at most `timeout`. False when time ran out: whatever blocks the
    /// writer is not waited for. Blocks the thread; called at the end of a process.
    pub fn flush(&self, timeout: Duration) -> bool {
        let until = self.shared.pushed.load(Relaxed);
        let done = self.shared.done.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.shared.progress.wait_timeout_while(done, timeout, |done| *done < until);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl std::fmt::Debug for LineQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineQueue").field("dropped", &self.dropped()).field("lost", &self.lost()).finish()
    }
}

fn open(path: &Path) -> Result<File, LinesError> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|source| LinesError::Open { path: path.to_owned(), source })
}

/// Writes until every sender is gone.
fn run(receiver: &Receiver<Vec<u8>>, shared: &Shared, mut sink: Sink) {
    let mut batch = Vec::with_capacity(BATCH);
    // After a failed write the line that stands there may be half: the next one begins on its own.
    let mut broken = false;
    while let Some(first) = next(receiver, &batch) {
        batch.clear();
        if broken {
            batch.push(b'\n');
        }
        batch.extend_from_slice(&first);
        let mut lines = 1;
        while batch.len() < BATCH {
            match receiver.try_recv() {
                Ok(line) => batch.extend_from_slice(&line),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
            lines += 1;
        }
        shared.bytes.fetch_sub(batch.len() - usize::from(broken), Relaxed);
        if shared.reopen.swap(false, Relaxed) {
            sink.reopen();
        }
        let written = sink.writer().write_all(&batch).and_then(|()| sink.writer().flush());
        broken = written.is_err();
        if broken {
            shared.lost.fetch_add(lines, Relaxed);
        }
        *shared.done.lock().unwrap_or_else(PoisonError::into_inner) += lines;
        shared.progress.notify_all();
    }
}

/// The next line: at once while lines come, else whenever one comes. `batch` holds what was written last.
fn next(receiver: &Receiver<Vec<u8>>, batch: &[u8]) -> Option<Vec<u8>> {
    if !batch.is_empty() && batch.len() < BATCH {
        std::thread::sleep(GATHER);
    }
    receiver.try_recv().ok().or_else(|| receiver.recv().ok())
}

// === impl Sink ===

impl Sink {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::File(file, _) => file,
            Self::Other(writer) => writer,
        }
    }

    /// When the new file cannot be opened the old one stays in use.
    fn reopen(&mut self) {
        if let Self::File(file, path) = self
            && let Ok(fresh) = open(path)
        {
            *file = fresh;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const SOON: Duration = Duration::from_secs(10);

    /// Blocks in its first write until it is let go.
    struct Blocked(mpsc::Receiver<()>);

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_arrive_whole_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let queue = LineQueue::start("lines", &Target::File(path.clone())).unwrap();
        (0..1000).for_each(|n| assert!(queue.push(format!("line {n}\n").into_bytes())));
        assert!(queue.flush(SOON));
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.lines().enumerate().all(|(n, line)| line == format!("line {n}")));
        assert_eq!(text.lines().count(), 1000);
    }

    #[test]
    fn a_blocked_pipe_drops_lines_and_holds_up_nobody() {
        let (let_go, wait) = sync_channel(1);
        let queue = LineQueue::to_writer("lines", Blocked(wait)).unwrap();
        let taken = (0..3 * QUEUE_LINES).filter(|_| queue.push(b"line\n".to_vec())).count();
        assert!((QUEUE_LINES..3 * QUEUE_LINES).contains(&taken));
        assert_eq!(queue.dropped() as usize, 3 * QUEUE_LINES - taken);
        assert!(!queue.flush(Duration::from_millis(1)));
        drop(let_go);
        assert!(queue.flush(SOON));
    }

    #[test]
    fn waiting_bytes_have_a_limit() {
        let (_let_go, wait) = sync_channel(1);
        let queue = LineQueue::to_writer("lines", Blocked(wait)).unwrap();
        let taken = (0..40).filter(|_| queue.push(vec![b'x'; 1 << 20])).count();
        assert!((8..=9).contains(&taken), "{taken}");
    }

    #[test]
    fn a_full_disk_loses_lines_and_is_counted() {
        let queue = LineQueue::start("lines", &Target::File("/dev/full".into())).unwrap();
        queue.push(b"line\n".to_vec());
        assert!(queue.flush(SOON));
        assert_eq!(queue.lost(), 1);
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let queue = LineQueue::start("lines", &Target::File(path.clone())).unwrap();
        queue.push(b"old\n".to_vec());
        assert!(queue.flush(SOON));
        std::fs::rename(&path, folder.path().join("access.log.1")).unwrap();
        queue.reopen();
        queue.push(b"new\n".to_vec());
        assert!(queue.flush(SOON));
        assert_eq!(std::fs::read_to_string(path).unwrap(), "new\n");
    }

    #[test]
    fn a_folder_that_does_not_exist_is_named() {
        let error = LineQueue::start("lines", &Target::File("/nowhere/access.log".into())).unwrap_err();
        assert!(error.to_string().starts_with("open /nowhere/access.log for appending: "), "{error}");
    }
}
