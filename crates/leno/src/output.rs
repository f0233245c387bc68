//! What verbs print: data on standard output, messages on standard error.
//!
//! A reader that has gone away (`leno get | head -1`) ends the printing and is no failure. Colours appear only on a
//! terminal that wants them (`NO_COLOR`, `CLICOLOR_FORCE`, `TERM=dumb`). Text that others control is cleaned of control
//! characters before a terminal sees it.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};

use owo_colors::OwoColorize;
use serde_json::Value;

use crate::args::Output;
use crate::commands::{Exit, Failure};

/// Columns stand this far apart.
const GAP: &str = "  ";

/// A table for people: a head, then rows, columns aligned.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

// === impl Table ===

impl Table {
    /// A table with these columns.
    pub fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&name| name.to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| cell_text(cell)).collect()).collect();
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                write!(line, "{cell:<width$}{GAP}")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Writes data to standard output.
pub fn put(text: impl Display) -> Result<(), Failure> {
    let mut out = anstream::stdout();
    let written = write!(out, "{text}").and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let fix = "check where standard output leads, and whether there is room";
            Err(Failure::new(Exit::Usage, format!("standard output: {error}"), fix))
        }
        _ => Ok(()),
    }
}

/// Writes a message to standard error. There is nobody to tell when that fails.
pub fn say(text: impl Display) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// The API's own value as JSON or YAML, unless a person reads it.
pub fn structured(output: Output, value: &Value) -> Option<String> {
    match output {
        Output::Json => Some(format!("{value:#}\n")),
        Output::Yaml => Some(leno_model::document::to_yaml(value)),
        Output::Table | Output::Name => None,
    }
}

/// Text without control characters but line ends and tabs, so that no name can move the cursor.
pub fn clean(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if harmful(c) { c.escape_default().to_string() } else { c.to_string() }).collect())
}

/// A unified difference in colours.
pub fn coloured_diff(diff: &str) -> String {
    let mut text = String::new();
    for line in clean(diff).lines() {
        let _ = match line.as_bytes().first() {
            _ if line.starts_with("---") || line.starts_with("+++") => writeln!(text, "{}", line.bold()),
            Some(b'+') => writeln!(text, "{}", line.green()),
            Some(b'-') => writeln!(text, "{}", line.red()),
            Some(b'@') => writeln!(text, "{}", line.cyan()),
            _ => writeln!(text, "{line}"),
        };
    }
    text
}

/// A time of day without its fraction: `2026-11-21T01:40:11Z`.
pub fn seconds(rfc3339: &str) -> String {
    match rfc3339.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => rfc3339.to_owned(),
    }
}

/// The text at a JSON pointer; `-` where there is none.
pub fn text_at(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(bool)) => bool.to_string(),
        _ => "-".to_owned(),
    }
}

/// The list at a JSON pointer; empty where there is none.
pub fn list_at<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// `1 file`, `2 files`.
pub fn count(number: usize, one: &str) -> String {
    let several = if number == 1 { "" } else { "s" };
    format!("{number} {one}{several}")
}

fn cell_text(cell: &str) -> String {
    match clean(cell).replace(['\n', '\t'], " ") {
        empty if empty.is_empty() => "-".to_owned(),
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_last_cell() {
        let mut table = Table::new(&["NAME", "PORT"]);
        table.row(["cart".to_owned(), "80".to_owned()]);
        table.row(["recommendations".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "NAME             PORT\ncart             80\nrecommendations  -\n");
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        let mut table = Table::new(&["NAME"]);
        table.row(["a\u{1b}[2J\nb".to_owned()]);
        assert_eq!(table.to_string(), "NAME\na\\u{1b}[2J b\n");
    }

    #[test]
    fn a_time_loses_its_fraction() {
        assert_eq!(seconds("2026-11-21T01:40:11.000Z"), "2026-11-21T01:40:11Z");
        assert_eq!(seconds("-"), "-");
    }
}
