//! The process's own log: set up once, its level changed while it runs.
//!
//! Events go through a [`LineQueue`] as access lines do: a blocked pipe behind standard error never stops a worker.

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, reload};

use crate::lines::LineQueue;

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object on a line.
    Json,
}

/// What is set once.
#[derive(Debug, Clone)]
pub struct Options {
    /// How events are written.
    pub format: Format,
    /// `info`, or by part: `info,leno_proxy=debug,h2=warn`.
    pub level: String,
    /// Whether text is coloured; for a terminal.
    pub colour: bool,
}

/// Why the log cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is none.
    #[error("{level:?} is not a log level ({reason}); write `info`, or by part `info,leno_proxy=debug`")]
    Level {
        /// As given.
        level: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The process has a log already.
    #[error("the log is set up already")]
    AlreadySet,
    /// The log is gone, as at the end of the process.
    #[error("the log is closed")]
    Closed,
}

/// Changes the level of the log. Cheap to clone.
#[derive(Clone)]
pub struct LogLevel {
    handle: reload::Handle<EnvFilter, Registry>,
}

/// Sets up the log of this process, into `queue`.
pub fn init(options: &Options, queue: LineQueue) -> Result<LogLevel, LogError> {
    let (filter, handle) = reload::Layer::new(parse(&options.level)?);
    let writer = QueueWriter { queue };
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match options.format {
        Format::Text => layer.with_ansi(options.colour).boxed(),
        Format::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    subscriber.try_init().map_err(|_| LogError::AlreadySet)?;
    Ok(LogLevel { handle })
}

fn parse(level: &str) -> Result<EnvFilter, LogError> {
    let wrong = |reason: &str| LogError::Level { level: level.to_owned(), reason: reason.to_owned() };
    // The parser takes a bare word for the name of a module: "inof" would silence everything.
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    for part in level.split(',') {
        let last = part.rsplit('=').next().unwrap_or_default().trim();
        if !is_level(last) {
            return Err(wrong(&format!("{last:?} is none of {}", LEVELS.join(", "))));
        }
    }
    EnvFilter::try_new(level).map_err(|error| wrong(&error.to_string()))
}

// === impl LogLevel ===

impl LogLevel {
    /// Sets the level; the old one stays when `level` is none.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        self.handle.reload(parse(level)?).map_err(|_| LogError::Closed)
    }

    /// The level.
    pub fn get(&self) -> String {
        self.handle.with_current(ToString::to_string).unwrap_or_default()
    }
}

impl std::fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogLevel({})", self.get())
    }
}

/// The formatter hands over each event in one write.
struct QueueWriter {
    queue: LineQueue,
}

impl<'a> MakeWriter<'a> for QueueWriter {
    type Writer = &'a QueueWriter;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl std::io::Write for &QueueWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.queue.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Target;

    /// One test: a process has one log.
    #[test]
    fn the_level_changes_while_the_process_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leno.log");
        let queue = LineQueue::start("log", &Target::File(path.clone())).unwrap();
        let options = Options { format: Format::Json, level: "info".into(), colour: false };
        let level = init(&options, queue.clone()).unwrap();
        tracing::debug!("unseen");
        tracing::info!(port = 15001, "listening");
        level.set("warn,leno_telemetry=debug").unwrap();
        assert!(level.set("inof").unwrap_err().to_string().contains("\"inof\" is none of off, error"));
        tracing::debug!("seen");
        assert!(queue.flush(std::time::Duration::from_secs(10)));
        let text = std::fs::read_to_string(path).unwrap();
        let messages: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (messages.len(), &messages[0]["message"], &messages[0]["port"]),
            (2, &"listening".into(), &15001.into())
        );
        assert_eq!(messages[1]["message"], "seen");
        assert!(matches!(init(&options, queue), Err(LogError::AlreadySet)));
    }
}
