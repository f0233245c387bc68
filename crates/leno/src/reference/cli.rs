//! `cli.md`: every verb with its flags, from clap's definitions.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory};

use super::{MADE, cell, page};
use crate::args::Cli;

#[test]
fn the_page_of_the_command_line_is_what_the_code_says() {
    let mut command = Cli::command();
    command.build();
    let mut out = format!("# The command line\n\n{MADE}\n\n{}\n\n", about(&command));
    out.push_str(
        "A flag wins over its variable, the variable over the settings file, the file over the default. In the file, a flag `--http-listen` is the key \
         `http-listen`, under the name of its verb or for all of them.\n\n## Every verb\n\n",
    );
    table(&mut out, command.get_arguments().filter(|arg| arg.is_global_set()));
    after(&mut out, &command);
    verbs(&mut out, &command, "leno");
    page("cli.md", &out);
}

/// The verbs below one, in the order of `--help`.
fn verbs(out: &mut String, command: &Command, path: &str) {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let path = format!("{path} {}", verb.get_name());
        let _ = write!(out, "## {path}\n\n{}\n\n", about(verb));
        if !verb.has_subcommands() {
            // Usage as clap writes it, without its title.
            let usage = verb.clone().render_usage().to_string();
            let _ = write!(out, "```text\n{}\n```\n\n", usage.trim_start_matches("Usage: ").trim());
            table(out, verb.get_arguments().filter(|arg| !arg.is_global_set()));
        }
        after(out, verb);
        verbs(out, verb, &path);
    }
}

fn about(command: &Command) -> String {
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    assert!(!about.is_empty(), "{} has no help", command.get_name());
    about
}

fn table<'a>(out: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let rows: Vec<String> = arguments
        .filter(|arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version"))
        .map(row)
        .collect();
    if !rows.is_empty() {
        let _ = write!(out, "| | variable | default | |\n| --- | --- | --- | --- |\n{}\n", rows.concat());
    }
}

fn row(arg: &Arg) -> String {
    let takes_value = arg.get_action().takes_values();
    let names = arg.get_value_names().unwrap_or_default().iter().map(|name| format!("<{name}>")).collect::<Vec<_>>();
    let value = if takes_value { names.join(" ") } else { String::new() };
    let flag = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long} {value}"),
        (None, Some(long)) => format!("--{long} {value}"),
        (Some(short), None) => format!("-{short} {value}"),
        (None, None) => value,
    };
    let variable = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
    let defaults: Vec<_> =
        arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    let default = if takes_value { defaults.join(", ") } else { String::new() };
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    assert!(!help.is_empty(), "{flag} has no help");
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|_| takes_value)
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}`: {help}", value.get_name()),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    let values = if values.is_empty() { String::new() } else { format!("<br>{}", values.join("<br>")) };
    format!("| `{}` | {variable} | {default} | {}{values} |\n", cell(&flag), cell(&help))
}

fn after(out: &mut String, command: &Command) {
    if let Some(text) = command.get_after_long_help().or(command.get_after_help()) {
        let _ = write!(out, "```text\n{}\n```\n\n", text.to_string().trim_end());
    }
}
