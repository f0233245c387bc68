//! Escaping: nothing that others control leaves the place it is written into.

use super::VALUE_MAX;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Between quotes or blanks in a text line: printable ASCII stays, quote, backslash and all else become `\xNN`. A blank
/// stays only between quotes.
pub(super) fn text(value: &[u8], quoted: bool, out: &mut Vec<u8>) {
    let shown = &value[..value.len().min(VALUE_MAX)];
    for &byte in shown {
        match byte {
            b'"' | b'\\' => escape_byte(byte, out),
            b' ' if !quoted => escape_byte(byte, out),
            b' '..=b'~' => out.push(byte),
            _ => escape_byte(byte, out),
        }
    }
    if shown.len() < value.len() {
        out.extend_from_slice(b"...");
    }
}

/// Between the quotes of a JSON string. Bytes that are not UTF-8 become U+FFFD; DEL, C1 controls and the separators
/// that some readers take for line ends are escaped too.
pub(super) fn json(value: &[u8], out: &mut Vec<u8>) {
    let shown = &value[..value.len().min(VALUE_MAX)];
    for chunk in shown.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    let code = c as u32;
                    out.extend_from_slice(b"\\u");
                    for shift in [12, 8, 4, 0] {
                        out.push(HEX[(code >> shift & 15) as usize]);
                    }
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    if shown.len() < value.len() {
        out.extend_from_slice(b"...");
    }
}

fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}
