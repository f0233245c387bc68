//! The roles: each wires the parts of leno into one process. Only here do the parts know each other.

use std::process::ExitCode;
use std::sync::Arc;

use leno_http::limits::Strikes;
use leno_net::places::{Full, Places};
use leno_telemetry::Registry;
use leno_telemetry::lines::{LineQueue, Target};
use leno_telemetry::log::{self, LogLevel};
use leno_telemetry::metric::Kind;

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

/// Shows the places of connections, and how often a cap on them struck.
pub fn measure_places(metrics: &Registry, places: &Places) {
    let places = places.clone();
    metrics.collector(move |out| {
        for (name, help, value) in [
            ("leno_connections_held", "Descriptors that connections hold.", places.taken()),
            ("leno_connections_max", "Descriptors that connections may hold: --connections-max.", places.max().all),
        ] {
            out.family(name, help, Kind::Gauge);
            out.sample(name, &[], value as f64);
        }
        let name = "leno_connections_refused_total";
        out.family(name, "Connections closed because of a cap: of all, or of their source.", Kind::Counter);
        out.sample(name, &[("cap", "all")], places.refused(Full::All) as f64);
        out.sample(name, &[("cap", "source")], places.refused(Full::Source) as f64);
        let name = "leno_accept_pauses_total";
        out.family(name, "Times that accepting paused for want of descriptors or memory.", Kind::Counter);
        out.sample(name, &[], places.pauses() as f64);
    });
}

/// Shows how often a message was refused or a limit struck, by reason.
pub fn measure_strikes(metrics: &Registry, strikes: &Arc<Strikes>) {
    let strikes = strikes.clone();
    metrics.collector(move |out| {
        let name = "leno_http_refused_total";
        out.family(name, "Messages and connections refused because of what a peer sent, by reason.", Kind::Counter);
        for (what, count) in strikes.iter() {
            out.sample(name, &[("reason", what.reason())], count as f64);
        }
    });
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
