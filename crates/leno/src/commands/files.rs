//! Files of resources as the command line names them, and their faults as people read them: place, the line itself, a
//! mark under it, and the fix.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use leno_model::document::{self, Parsed, TEXT_BYTES_MAX};
use leno_model::fault::{Fault, Severity};
use owo_colors::OwoColorize;
use serde_json::{Value, json};

use super::failure::Failure;
use crate::output::{clean, count};

/// The most files of one set.
const FILES_MAX: usize = 10_000;

/// The deepest folder below a named directory that is looked into.
const DEPTH_MAX: usize = 8;

/// A line is shown up to this many characters.
const LINE_CHARS_MAX: usize = 160;

/// How faults call standard input.
const STDIN: &str = "-";

/// Files that were read.
#[derive(Debug, Default)]
pub struct Files {
    files: Vec<(String, Vec<u8>)>,
}

// === impl Files ===

impl Files {
    /// Reads files, the `.yaml`, `.yml` and `.json` files of directories, and standard input for `-`.
    pub fn read(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut files = Self::default();
        for path in paths {
            if path.as_os_str() == STDIN {
                files.take(STDIN.to_owned(), std::io::stdin().lock())?;
                continue;
            }
            let mut found = Vec::new();
            if path.is_dir() {
                list(path, 0, &mut found)?;
                found.sort();
                if found.is_empty() {
                    let fix = "name a directory with *.yaml, *.yml or *.json files";
                    return Err(Failure::usage(format!("{}: no resource file in it", path.display()), fix));
                }
            } else {
                found.push(path.clone());
            }
            for path in found {
                let file = std::fs::File::open(&path).map_err(|error| unreadable(&path, &error))?;
                files.take(path.display().to_string(), file)?;
            }
        }
        Ok(files)
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// The files by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// The resources in them. Text without any is refused: it is a mistake more often than a wish.
    pub fn parse(&self) -> Result<Parsed, Failure> {
        let parsed = document::parse_set(self.iter());
        if parsed.resources.is_empty() && parsed.faults.is_empty() {
            let fix = "write at least one document with apiVersion, kind, metadata and spec";
            return Err(Failure::usage(format!("no resource in {}", count(self.len(), "file")), fix));
        }
        Ok(parsed)
    }

    /// The body of a request with all of them. Bytes that are no text have faults of their own before.
    pub fn body(&self) -> Value {
        let file = |(name, bytes): &(String, Vec<u8>)| json!({ "name": name, "text": String::from_utf8_lossy(bytes) });
        json!({ "files": self.files.iter().map(file).collect::<Vec<_>>() })
    }

    /// A fault with the line that it is about.
    pub fn explain(&self, fault: &Fault) -> String {
        let mut text = String::new();
        let _ = write!(text, "{}:", clean(&fault.file).bold());
        if fault.line > 0 {
            let _ = write!(text, "{}", format_args!("{}:{}:", fault.line, fault.column).bold());
        }
        let _ = match fault.severity {
            Severity::Error => write!(text, " {}", "error:".red().bold()),
            Severity::Warning => write!(text, " {}", "warning:".yellow().bold()),
        };
        if !fault.path.is_empty() {
            let _ = write!(text, " {}:", clean(&fault.path));
        }
        let _ = writeln!(text, " {}", clean(&fault.message));
        if let Some(line) = self.line(fault) {
            let number = fault.line.to_string();
            let (line, mark) = shown(&line, fault.column as usize);
            let _ = writeln!(text, " {} {line}", format_args!("{number} |").blue());
            let _ = writeln!(text, " {} {}", format_args!("{:1$} |", "", number.len()).blue(), mark.red().bold());
        }
        let _ = write!(text, "  {} {}", "fix:".green(), clean(&fault.fix));
        text
    }

    fn line(&self, fault: &Fault) -> Option<String> {
        let (_, bytes) = self.files.iter().find(|(name, _)| *name == *fault.file)?;
        let line = bytes.split(|byte| *byte == b'\n').nth((fault.line as usize).checked_sub(1)?)?;
        Some(clean(String::from_utf8_lossy(line).trim_end()).replace('\t', " "))
    }

    fn take(&mut self, name: String, from: impl Read) -> Result<(), Failure> {
        if self.files.len() >= FILES_MAX {
            return Err(Failure::usage(format!("more than {FILES_MAX} files"), "apply them in several sets"));
        }
        let mut bytes = Vec::new();
        // One byte more than may be, so that the parser sees and says that it is too long.
        let read = from.take(TEXT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| unreadable(Path::new(&name), &error))?;
        self.files.push((name, bytes));
        Ok(())
    }
}

/// How many faults and warnings there are, in words: `2 faults, 1 warning`, `no faults`.
pub fn tally(faults: &[Fault]) -> String {
    let warnings = faults.iter().filter(|fault| fault.severity == Severity::Warning).count();
    let errors = match faults.len() - warnings {
        0 => "no faults".to_owned(),
        errors => count(errors, "fault"),
    };
    if warnings == 0 { errors } else { format!("{errors}, {}", count(warnings, "warning")) }
}

/// The part of a line around `column`, and a mark that stands under it.
fn shown(line: &str, column: usize) -> (String, String) {
    let at = column.saturating_sub(1);
    let from = if at >= LINE_CHARS_MAX { at - LINE_CHARS_MAX / 2 } else { 0 };
    let part = line.chars().skip(from).take(LINE_CHARS_MAX).collect();
    (part, format!("{}^", " ".repeat(at - from)))
}

fn list(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in std::fs::read_dir(directory).map_err(|error| unreadable(directory, &error))? {
        let path = entry.map_err(|error| unreadable(directory, &error))?.path();
        if path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        if path.is_dir() {
            if depth < DEPTH_MAX {
                list(&path, depth + 1, found)?;
            }
        } else if path
            .extension()
            .and_then(|end| end.to_str())
            .is_some_and(|end| ["yaml", "yml", "json"].contains(&end))
        {
            found.push(path);
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()), "check the name and whether you may read it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_under_the_column_however_long_the_line_is() {
        assert_eq!(shown("weigth: 5", 1), ("weigth: 5".to_owned(), "^".to_owned()));
        assert_eq!(shown("  weigth: 5", 3).1, "  ^");
        let long = format!("{}X{}", "a".repeat(1000), "b".repeat(1000));
        let (part, mark) = shown(&long, 1001);
        assert_eq!(part.chars().nth(mark.len() - 1), Some('X'));
    }
}
