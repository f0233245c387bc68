//! The verbs of the command line: a table of what runs what, and how a failure is told.

use std::process::ExitCode;

use owo_colors::OwoColorize;

use crate::args::{Cli, Verb};
use crate::output::{clean, say};
use crate::roles;
use crate::settings::Setting;

mod failure;

mod apply;
mod changes;
mod check;
mod completion;
mod convert;
mod demo;
mod files;
mod get;
mod history;
mod kinds;
mod log_level;
mod run;
mod service;
mod status;
mod switch;
mod system;

pub use failure::{Exit, Failure, Outcome};

/// Runs the verb that was called.
pub fn run(cli: Cli, settings: Vec<Setting>) -> ExitCode {
    let log = || roles::start_log(&cli.log_level, cli.log_format);
    match cli.verb {
        Verb::Server(args) => roles::run(log, |level| roles::server::run(*args, settings, level)),
        Verb::Proxy(args) => roles::run(log, |level| roles::proxy::run(*args, settings, level)),
        Verb::Apply(args) => finish(apply::run(&args)),
        Verb::Diff(args) => finish(apply::diff(&args)),
        Verb::Get(args) => finish(get::run(&args)),
        Verb::Delete(args) => finish(history::delete(&args)),
        Verb::History(args) => finish(history::run(&args)),
        Verb::Rollback(args) => finish(history::rollback(&args)),
        Verb::Check(args) => finish(check::run(&args)),
        Verb::Convert(args) => finish(convert::run(args)),
        Verb::Status(args) => finish(status::run(&args)),
        Verb::Service(verb) => finish(service::run(&verb)),
        Verb::Switch(args) => finish(switch::run(&args)),
        Verb::LogLevel(args) => finish(log_level::run(&args)),
        Verb::System(verb) => finish(system::run(&verb)),
        Verb::Completion { shell } => finish(completion::run(shell)),
        Verb::Run(args) => run::run(*args, &cli.log_level),
        Verb::Inside { rest } => run::inside(rest),
        Verb::Demo(args) => demo::run(&args),
        Verb::Shop { rest } => crate::shop::run(&rest),
    }
}

/// The exit status of a verb; what went wrong is said before.
fn finish(outcome: Outcome) -> ExitCode {
    let exit = outcome.unwrap_or_else(|failure| {
        say(format_args!("{} {}", "leno:".red().bold(), clean(&failure.message)));
        if !failure.fix.is_empty() {
            say(format_args!("  {} {}", "fix:".green(), clean(&failure.fix)));
        }
        failure.exit
    });
    ExitCode::from(exit as u8)
}
