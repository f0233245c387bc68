//! The roles: each wires the parts of leno into one process. Only here do the parts know each other.

use std::process::ExitCode;

use leno_telemetry::lines::{LineQueue, Target};
use leno_telemetry::log::{self, LogLevel};

use crate::args::LogFormat;

mod control_plane;
pub mod proxy;
pub mod server;
mod view;

/// The exit status of a role that could not start or go on.
const USAGE: u8 = 2;

/// Sets up the process's log on standard error.
pub fn start_log(level: &str, format: LogFormat) -> anyhow::Result<LogLevel> {
    use std::io::IsTerminal;
    let format = match format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    };
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let queue = LineQueue::start("log", &Target::Stderr)?;
    Ok(log::init(&log::Options { format, level: level.to_owned(), colour }, queue)?)
}

/// Runs a role on the control thread; its error is one line with the fix.
pub fn run<F: Future<Output = anyhow::Result<()>>>(
    log: impl FnOnce() -> anyhow::Result<LogLevel>,
    role: impl FnOnce(LogLevel) -> F,
) -> ExitCode {
    let ended = log().and_then(|level| {
        // More descriptors help; too few are no reason not to start.
        if let Err(error) = leno_net::limits::raise_descriptors() {
            tracing::debug!(%error, "descriptor limit not raised");
        }
        leno_runtime::threads::control(role(level))?
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leno: {error:#}");
            ExitCode::from(USAGE)
        }
    }
}
