//! Rust source with its comments and literals blanked, so that counting braces and looking for words needs no parser.
//!
//! A parser (syn) was rejected: it is a minute of building for two rules that print hints. Newlines and the length in bytes are kept, so a position in the
//! blanked text is a position in the file.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below a folder, sorted; generated and vendored ones left out.
pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() && !["target", "generated", "vendor", ".cache"].iter().any(|skip| name == *skip) {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The source with comments, strings and character literals turned into spaces.
pub(crate) fn blank(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether `word` stands in the text with no word character beside it; its position.
pub(crate) fn find_word(text: &str, word: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let is_word = |at: Option<&u8>| at.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let mut from = from;
    while let Some(found) = text.get(from..)?.find(word) {
        let start = from + found;
        let end = start + word.len();
        let joined_before = start > 0 && is_word(bytes.get(start - 1));
        if !joined_before && !is_word(bytes.get(end)) {
            return Some(start);
        }
        from = end;
    }
    None
}

/// The line, counted from 1, that a position is on.
pub(crate) fn line_of(text: &str, position: usize) -> usize {
    text.as_bytes()[..position.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Where the comment or literal that starts at `at` ends; `at` when none starts there.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let after_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match &bytes[at..] {
        [b'/', b'/', ..] => find(bytes, at, b"\n"),
        [b'/', b'*', ..] => comment_end(bytes, at),
        [b'"', ..] => quoted_end(bytes, at + 1),
        [b'b' | b'c', b'"', ..] if !after_word => quoted_end(bytes, at + 2),
        [b'r', b'"' | b'#', ..] if !after_word => raw_end(bytes, at, at + 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !after_word => raw_end(bytes, at, at + 2),
        [b'\'', b'\\', ..] => find(bytes, at + 3, b"'") + 1,
        [b'\'', first, ..] => {
            let width = match *first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            // A lifetime has no closing quote.
            if bytes.get(at + 1 + width) == Some(&b'\'') { at + width + 2 } else { at }
        }
        _ => at,
    }
    .min(bytes.len())
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    let from = from.min(bytes.len());
    bytes[from..].windows(what.len()).position(|window| window == what).map_or(bytes.len(), |found| from + found)
}

fn comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut at) = (0, at);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

fn raw_end(bytes: &[u8], start: usize, hashes_from: usize) -> usize {
    let hashes = bytes[hashes_from..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(hashes_from + hashes) != Some(&b'"') {
        return start; // r#identifier
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    find(bytes, hashes_from + hashes + 1, &close) + close.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_length_is_kept() {
        let source = "let a = \"{ \\\" {\"; // {\nlet b = '{'; /* { /* { */ } */ let c = r#\"{ \" }\"#; fn f<'a>() {}";
        let blanked = blank(source);
        assert_eq!(blanked.len(), source.len());
        assert_eq!(blanked.matches('{').count(), 1, "{blanked}");
        assert!(blanked.contains("fn f<'a>() {}"));
    }

    #[test]
    fn words_are_found_whole() {
        assert_eq!(find_word("unsafe_code unsafe {", "unsafe", 0), Some(12));
        assert_eq!(find_word("unsafely", "unsafe", 0), None);
    }
}
