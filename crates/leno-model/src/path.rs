//! The canonical path: the one spelling in which a path is routed, judged, limited, logged and forwarded.
//!
//! Programs read `/a/../b`, `/a//b`, `/%62` and `/a;x/b` in different ways, so that a rule for one spelling is evaded by
//! another (CVE-2019-9901, CVE-2021-29492 and their kin). Here a path is spelt anew, once for each request and before
//! anybody looks at it: escapes of unreserved characters are decoded and all others written in upper case, `\` becomes
//! `/`, slashes are merged, dot segments removed. What has no one reading is refused. Rejected: to match a normalised
//! path and forward the one that was sent, which leaves the second reading to the program behind.
//!
//! Parameters (`/a;x=1/b`) are forwarded, since programs use them; but some cut them off before they look at a path, so
//! that nothing may be decided by them ([`without_parameters`]). RFC 3986 section 6.2.2, RFC 9112 section 3.
//!
//! Hot path: a canonical target costs one scan and no allocation.

/// What becomes of `%2F` and `%5C` in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EscapedSlashes {
    /// The request is refused.
    #[default]
    Refuse,
    /// They stay as they are. Whether the program behind takes them for slashes is its own affair.
    Keep,
}

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// Nothing stands before the first slash.
    #[error("the path does not begin with a slash")]
    Relative,
    /// `%4`, `%zz`
    #[error("the path has a `%` without two hexadecimal digits")]
    Escape,
    /// `%2f`, `%5c`
    #[error(
        "the path has an escaped slash (%2F or %5C), which some programs take for a slash; --escaped-slashes keep passes it on"
    )]
    EscapedSlash,
    /// `%00`
    #[error("the path has an escaped NUL")]
    EscapedNul,
    /// `%c0%af`
    #[error("the path has a character in a longer form of UTF-8 than its own")]
    Overlong,
    /// `/../a`
    #[error("the path leads above its root")]
    AboveRoot,
    /// `/a/..;x/b`
    #[error("the path has a dot segment with parameters, which some programs take for one without")]
    DotParameters,
    /// `"`, `<`
    #[error("the path has a character that must be escaped: {0:?}")]
    Character(char),
}

/// The canonical spelling of a target (a path, and perhaps a query, which stays as it is); `None` when it is spelt so
/// already.
pub fn canonical(target: &[u8], slashes: EscapedSlashes) -> Result<Option<String>, PathFault> {
    if is_canonical(target) {
        return Ok(None);
    }
    let end = target.iter().position(|b| *b == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    let mut spelt = without_dot_segments(&respell(path, slashes)?)?;
    if spelt == path {
        return Ok(None);
    }
    spelt.extend_from_slice(query);
    // Of what is not ASCII nothing is left in the path; the query is as it came.
    Ok(Some(String::from_utf8(spelt).map_err(|_| PathFault::Character(char::REPLACEMENT_CHARACTER))?))
}

/// A path as those read it who cut parameters off its segments: `/a;x=1/;y/b` is `/a/b`. `None` when it has none.
pub fn without_parameters(path: &str) -> Option<String> {
    if !path.as_bytes().contains(&b';') {
        return None;
    }
    let mut bare = String::with_capacity(path.len());
    for name in segments(path).map(name_of).filter(|name| !name.is_empty()) {
        bare.push('/');
        bare.push_str(name);
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    if bare.is_empty() || name_of(last).is_empty() {
        bare.push('/');
    }
    Some(bare)
}

/// Where in `path` the first `bare_len` bytes of it [`without_parameters`] end.
pub fn literal_len(path: &str, bare_len: usize) -> usize {
    let (mut at, mut left) = (0, bare_len);
    for segment in segments(path) {
        let name = name_of(segment);
        if left == 0 {
            break;
        }
        if !name.is_empty() {
            let length = 1 + name.len();
            if left <= length {
                return at + left;
            }
            left -= length;
        }
        at += 1 + segment.len();
    }
    at.min(path.len())
}

/// What stands between the slashes, after the first.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').skip(1)
}

fn name_of(segment: &str) -> &str {
    segment.split(';').next().unwrap_or_default()
}

// === what is canonical already ===

/// What a byte means to the scan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// It stays as it is.
    Plain,
    Slash,
    Percent,
    /// The path is over.
    Query,
    /// It is never canonical.
    Other,
}

static CLASSES: [Class; 256] = {
    let mut classes = [Class::Other; 256];
    let mut b = 0;
    while b < 256 {
        classes[b] = match b as u8 {
            b'/' => Class::Slash,
            b'%' => Class::Percent,
            b'?' => Class::Query,
            b if is_plain(b) => Class::Plain,
            _ => Class::Other,
        };
        b += 1;
    }
    classes
};

/// Whether the path of a target is spelt canonically. False also for the few that only a closer look tells.
fn is_canonical(target: &[u8]) -> bool {
    let mut rest = target;
    if target.first() != Some(&b'/') {
        return false;
    }
    while let [byte, after @ ..] = rest {
        rest = after;
        let canonical = match CLASSES[usize::from(*byte)] {
            Class::Plain => true,
            Class::Slash => after.first() != Some(&b'/') && !begins_with_dot_segment(after),
            Class::Percent => is_canonical_escape(after),
            Class::Query => return true,
            Class::Other => false,
        };
        if !canonical {
            return false;
        }
    }
    true
}

fn begins_with_dot_segment(path: &[u8]) -> bool {
    const ENDS: &[u8] = b"/;?";
    let is_end = |rest: &[u8]| rest.first().is_none_or(|b| ENDS.contains(b));
    match path {
        [b'.', b'.', rest @ ..] => is_end(rest),
        [b'.', rest @ ..] => is_end(rest),
        _ => false,
    }
}

/// Whether what follows a `%` stays as it is.
fn is_canonical_escape(after: &[u8]) -> bool {
    let [high, low, next @ ..] = after else { return false };
    let Some(byte) = hexadecimal(*high, *low) else { return false };
    let lower = high.is_ascii_lowercase() || low.is_ascii_lowercase();
    !lower && !is_unreserved(byte) && !matches!(byte, 0 | b'/' | b'\\') && !is_overlong(byte, next)
}

// === to respell what is not ===

/// Escapes, backslashes and characters as they shall be; dot segments stay.
fn respell(path: &[u8], slashes: EscapedSlashes) -> Result<Vec<u8>, PathFault> {
    if !matches!(path.first(), Some(b'/' | b'\\')) {
        return Err(PathFault::Relative);
    }
    let mut spelt = Vec::with_capacity(path.len() + 8);
    let mut rest = path;
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'%' => {
                let [high, low, next @ ..] = after else { return Err(PathFault::Escape) };
                let decoded = hexadecimal(*high, *low).ok_or(PathFault::Escape)?;
                rest = next;
                match decoded {
                    0 => return Err(PathFault::EscapedNul),
                    b'/' | b'\\' if slashes == EscapedSlashes::Refuse => return Err(PathFault::EscapedSlash),
                    _ if is_overlong(decoded, next) => return Err(PathFault::Overlong),
                    _ if is_unreserved(decoded) => spelt.push(decoded),
                    _ => escape(&mut spelt, decoded),
                }
            }
            b'\\' => spelt.push(b'/'),
            // Browsers send these as they are, and every program reads them as if they were escaped.
            b'|' | b'[' | b']' => escape(&mut spelt, *byte),
            b'/' => spelt.push(b'/'),
            _ if is_plain(*byte) => spelt.push(*byte),
            _ => return Err(PathFault::Character(char::from(*byte))),
        }
    }
    Ok(spelt)
}

/// Slashes merged and dot segments followed.
fn without_dot_segments(path: &[u8]) -> Result<Vec<u8>, PathFault> {
    let mut kept = Vec::with_capacity(path.len() + 8);
    let mut open = false;
    for segment in path.split(|b| *b == b'/').skip(1) {
        let name = segment.split(|b| *b == b';').next().unwrap_or_default();
        open = true;
        match name {
            b"." | b".." if name.len() < segment.len() => return Err(PathFault::DotParameters),
            b"." => {}
            b".." if kept.is_empty() => return Err(PathFault::AboveRoot),
            b".." => kept.truncate(kept.iter().rposition(|b| *b == b'/').unwrap_or(0)),
            b"" if segment.is_empty() => {}
            _ if has_hidden_dots(name) => return Err(PathFault::EscapedSlash),
            _ => {
                kept.push(b'/');
                kept.extend_from_slice(segment);
                open = false;
            }
        }
    }
    if open || kept.is_empty() {
        kept.push(b'/');
    }
    Ok(kept)
}

/// Whether a segment has dot segments in it for who takes its escaped slashes for slashes.
fn has_hidden_dots(name: &[u8]) -> bool {
    let mut pieces = 0;
    let mut rest = name;
    let mut dots = false;
    while let Some(at) = rest.windows(3).position(|w| w == b"%2F" || w == b"%5C") {
        dots |= matches!(&rest[..at], b"." | b"..");
        pieces += 1;
        rest = &rest[at + 3..];
    }
    pieces > 0 && (dots || matches!(rest, b"." | b".."))
}

fn escape(spelt: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    spelt.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

// === characters ===

fn hexadecimal(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16);
    Some((digit(high)? << 4 | digit(low)?) as u8)
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What RFC 3986 allows in a segment, but for `%`.
const fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@')
}

/// Whether an escaped byte begins a character that fewer bytes would do for; `next` is what follows its escape.
fn is_overlong(byte: u8, next: &[u8]) -> bool {
    let below = match byte {
        0xC0 | 0xC1 => return true,
        0xE0 => 0xA0,
        0xF0 => 0x90,
        0xF8 => 0x88,
        0xFC => 0x84,
        _ => return false,
    };
    let second = match next {
        [b'%', high, low, ..] => hexadecimal(*high, *low),
        _ => None,
    };
    second.is_some_and(|second| (0x80..below).contains(&second))
}

#[cfg(test)]
mod tests;
