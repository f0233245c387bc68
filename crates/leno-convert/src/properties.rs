//! Java's properties, as `java.util.Properties` reads them: `key=value`, `key: value` or `key value` in a line, comments with `#`
//! and `!`, lines that end with `\` go on in the next, and `\` before any other character takes it as it is.

use std::iter::Peekable;
use std::str::Chars;
use std::sync::Arc;

use leno_model::document::{DEPTH_MAX, NODES_MAX, Place};
use leno_model::fault::{Fault, FaultClass, Severity};
use serde_json::Value;

use crate::node::{Node, parts};

/// What a file says; nothing where it says nothing.
pub(crate) fn read(file: &Arc<str>, text: &str, faults: &mut Vec<Fault>) -> Option<Node> {
    let mut root = Node::empty(file, Place { line: 1, column: 1 }, "");
    for (count, (line, logical)) in logical_lines(text.strip_prefix('\u{feff}').unwrap_or(text)).into_iter().enumerate()
    {
        let (key, value) = entry(&logical);
        let mut leaf = Node::empty(file, Place { line, column: 1 }, &key);
        let parts = parts(&key);
        let too_large = [
            (count >= NODES_MAX, format!("more than {NODES_MAX} properties"), "split the file"),
            (
                parts.len() > DEPTH_MAX,
                format!("more than {DEPTH_MAX} parts in a key"),
                "no setting has so many: check the dots",
            ),
        ];
        if let Some((_, why, fix)) = too_large.into_iter().find(|(is_so, ..)| *is_so) {
            let fault = leaf.lost(why, fix);
            faults.push(Fault { severity: Severity::Error, class: FaultClass::TooLarge, ..fault });
            return None;
        }
        leaf.value = Value::String(value);
        root.put(&parts, leaf);
    }
    (!root.kids.is_empty()).then_some(root)
}

/// The lines with something in them, those that are continued as one, with the number of the first.
fn logical_lines(text: &str) -> Vec<(u32, String)> {
    let mut found: Vec<(u32, String)> = Vec::new();
    let mut continues = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_start();
        if !continues && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        let goes_on = line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1;
        let line = if goes_on { &line[..line.len() - 1] } else { line };
        match found.last_mut().filter(|_| continues) {
            Some((_, before)) => before.push_str(line),
            None => found.push((number, line.to_owned())),
        }
        continues = goes_on;
    }
    found
}

fn entry(line: &str) -> (String, String) {
    let mut chars = line.chars().peekable();
    let key = unescaped(&mut chars, |c| matches!(c, '=' | ':') || c.is_ascii_whitespace());
    while chars.next_if(char::is_ascii_whitespace).is_some() {}
    if chars.next_if(|c| matches!(c, '=' | ':')).is_some() {
        while chars.next_if(char::is_ascii_whitespace).is_some() {}
    }
    (key, unescaped(&mut chars, |_| false))
}

/// The characters up to one at which it ends.
fn unescaped(chars: &mut Peekable<Chars<'_>>, ends: impl Fn(char) -> bool) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next_if(|c| !ends(*c)) {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                text.push(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).unwrap_or('\u{fffd}'));
            }
            Some(other) => text.push(other),
            None => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_java_reads_them() {
        let text = "# not\n! nor\n a.b = c d \na\\ x:1\n\nlong = one \\\n   two\nkey value\nu=\\u00e4\\\\\nempty=\n";
        let read: Vec<_> = logical_lines(text).into_iter().map(|(line, text)| (line, entry(&text))).collect();
        let expected = [
            (3, "a.b", "c d "),
            (4, "a x", "1"),
            (6, "long", "one two"),
            (8, "key", "value"),
            (9, "u", "ä\\"),
            (10, "empty", ""),
        ];
        assert_eq!(read, expected.map(|(line, key, value)| (line, (key.to_owned(), value.to_owned()))));
    }
}
