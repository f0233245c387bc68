//! `cargo xtask size`: smells of size, printed and never an error (STYLE: "smells, not laws").
//!
//! Counts on blanked source (`scan`), so a brace in a string is none. Inline tests start at `#[cfg(test)]` and are judged by themselves.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::metadata::Metadata;
use crate::process::root;
use crate::scan;

const FILE_LINES: usize = 500;
const FILE_LINES_NEED_A_REASON: usize = 1_000;
const INLINE_TEST_LINES: usize = 150;
const FUNCTION_LINES: usize = 60;
const NESTING: usize = 3;
const PARAMETERS: usize = 5;
const WHERE_PER_1000_LINES: usize = 5;
const CRATE_LINES: std::ops::RangeInclusive<usize> = 300..=25_000;

/// Prints every smell of the workspace.
pub(crate) fn run() -> Result<()> {
    let metadata = Metadata::load()?;
    let (mut smells, mut lines) = (Vec::new(), 0);
    for package in metadata.own() {
        let mut crate_lines = 0;
        for path in scan::rust_files(&package.folder) {
            let source = fs::read_to_string(&path)?;
            crate_lines += source.lines().count();
            let shown = path.strip_prefix(root()).unwrap_or(&path);
            file(shown, &source, &mut smells);
        }
        if !CRATE_LINES.contains(&crate_lines) {
            smells.push(format!("crate {} has {crate_lines} lines", package.name));
        }
        lines += crate_lines;
    }
    for smell in &smells {
        println!("size: {smell}");
    }
    println!("size: {} lines of Rust, {} smells", lines, smells.len());
    Ok(())
}

fn file(path: &Path, source: &str, smells: &mut Vec<String>) {
    let is_test = path.components().any(|part| part.as_os_str() == "tests")
        || path.file_name().is_some_and(|name| name == "tests.rs");
    let text = scan::blank(source);
    let tests_at = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    let (code, tests) = text.split_at(tests_at);
    let (code_lines, test_lines) = (code.lines().count(), tests.lines().count());
    let shown = path.display();
    if !is_test && code_lines > FILE_LINES {
        let reason = if code_lines > FILE_LINES_NEED_A_REASON { " (its header must say why)" } else { "" };
        smells.push(format!("{shown} has {code_lines} lines without its tests{reason}"));
    }
    if !is_test && test_lines > INLINE_TEST_LINES {
        smells.push(format!("{shown} has {test_lines} lines of inline tests: move them to a sibling tests.rs"));
    }
    let wheres = code.lines().filter(|line| scan::find_word(line, "where", 0).is_some()).count();
    if wheres > WHERE_PER_1000_LINES && wheres * 1_000 > WHERE_PER_1000_LINES * code_lines {
        smells.push(format!("{shown} has {wheres} `where` in {code_lines} lines"));
    }
    for function in functions(code) {
        let at = format!("{shown}:{} fn {}", function.line, function.name);
        if function.lines > FUNCTION_LINES {
            smells.push(format!("{at} has {} lines", function.lines));
        }
        if function.nesting > NESTING {
            smells.push(format!("{at} nests {} deep", function.nesting));
        }
        if function.parameters > PARAMETERS {
            smells.push(format!("{at} takes {} parameters", function.parameters));
        }
    }
}

struct Function<'a> {
    name: &'a str,
    line: usize,
    lines: usize,
    nesting: usize,
    parameters: usize,
}

/// Every function with a body in blanked source.
fn functions(text: &str) -> Vec<Function<'_>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = scan::find_word(text, "fn", from) {
        from = at + 2;
        let rest = text[from..].trim_start();
        let name = rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or_default();
        let Some(parameters_at) = text[from..].find('(').map(|found| from + found).filter(|_| !name.is_empty()) else {
            continue;
        };
        let parameters_end = closing(text, parameters_at);
        let Some(body_at) = text[parameters_end..].find(['{', ';']).map(|found| parameters_end + found) else { break };
        if text.as_bytes()[body_at] == b'{' {
            let body_end = closing(text, body_at);
            let body = &text[body_at..body_end];
            found.push(Function {
                name,
                line: scan::line_of(text, at),
                lines: text[at..body_end].lines().count(),
                nesting: nesting(&body[1..]),
                parameters: count_parameters(&text[parameters_at + 1..parameters_end.saturating_sub(1)]),
            });
        }
        from = body_at;
    }
    found
}

/// The position after the bracket that closes the one at `open`.
fn closing(text: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'{' | b'[' => depth += 1,
            b')' | b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// Parameters at the top level, `self` left out.
fn count_parameters(text: &str) -> usize {
    let (mut depth, mut names, mut last) = (0_i32, 0, b' ');
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' | b'<' => depth += 1,
            b'>' if last == b'-' => {}
            b')' | b']' | b'}' | b'>' => depth -= 1,
            // One colon per parameter at this depth; `self` has none and a path's `::` is two.
            b':' if depth == 0 && last != b':' => names += 1,
            b':' if depth == 0 => names -= 1,
            _ => {}
        }
        last = byte;
    }
    usize::try_from(names).unwrap_or_default()
}

/// The deepest stack of `if`, `for`, `while`, `loop` and `match` blocks.
fn nesting(body: &str) -> usize {
    let (mut stack, mut depth, mut deepest, mut statement) = (Vec::new(), 0_usize, 0, 0);
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            b'{' => {
                let head = &body[statement..at];
                let controls = ["if", "for", "while", "loop", "match", "else"]
                    .iter()
                    .any(|word| scan::find_word(head, word, 0).is_some());
                depth += usize::from(controls);
                deepest = deepest.max(depth);
                stack.push(controls);
            }
            b'}' => depth -= usize::from(stack.pop().unwrap_or(false)),
            b';' => {}
            _ => continue,
        }
        statement = at + 1;
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured() {
        let text = "fn a(&self, b: u8, c: Vec<(u8, u8)>, d: impl Fn(u8) -> u8) -> u8 {\n    for x in y {\n        if z { S { q } }\n    }\n}\nfn declared(&self);\n";
        let found = functions(text);
        assert_eq!(found.len(), 1);
        let one = &found[0];
        assert_eq!((one.name, one.line, one.lines, one.nesting, one.parameters), ("a", 1, 5, 2, 3));
    }

    #[test]
    fn paths_in_types_do_not_count_as_parameters() {
        assert_eq!(count_parameters("a: std::io::Result<u8>, b: &mut Vec<std::net::IpAddr>"), 2);
        assert_eq!(count_parameters(""), 0);
        assert_eq!(count_parameters("self"), 0);
    }
}
