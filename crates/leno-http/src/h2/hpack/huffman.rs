//! The Huffman code of RFC 7541, Appendix B, for reading; strings are written as they are, which costs the reader less.
//!
//! The code is canonical: the lengths alone determine it. Codes of up to ten bits, which is all of usual text, are found
//! by one look at a table; longer ones by comparing with the last code of each length.

/// Bits of the first look.
const BITS: u32 = 10;
const LONGEST: usize = 30;
const SYMBOLS: usize = 257;
const EOS: u16 = 256;

/// Length of the code of every byte, and of the end of the string.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5,
    6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22,
    23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22,
    22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26,
    26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27,
    27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27,
    27, 27, 27, 27, 26, 30,
];

struct Code {
    /// By the next ten bits: symbol and length; length 0 where the code is longer.
    short: [(u8, u8); 1 << BITS],
    /// All symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// By length: the first code, how many there are, and where the first symbol is.
    lengths: [(u32, u32, u32); LONGEST + 1],
}

static CODE: Code = build();

const fn build() -> Code {
    let mut code = Code { short: [(0, 0); 1 << BITS], symbols: [0; SYMBOLS], lengths: [(0, 0, 0); LONGEST + 1] };
    let (mut next, mut place, mut length) = (0u32, 0usize, 1usize);
    while length <= LONGEST {
        next <<= 1;
        let (first, at) = (next, place);
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                code.symbols[place] = symbol as u16;
                if length <= BITS as usize {
                    let shift = BITS as usize - length;
                    let mut fill = 0;
                    while fill < 1 << shift {
                        code.short[((next as usize) << shift) + fill] = (symbol as u8, length as u8);
                        fill += 1;
                    }
                }
                place += 1;
                next += 1;
            }
            symbol += 1;
        }
        code.lengths[length] = (first, next - first, at as u32);
        length += 1;
    }
    code
}

/// Appends the decoded string; `None` when it is not one. At most 8/5 of the bytes come out.
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut source = bytes.iter();
    // Bits not yet decoded, at the upper end.
    let (mut bits, mut filled) = (0u64, 0u32);
    loop {
        while filled <= 56 {
            let Some(byte) = source.next() else { break };
            bits |= u64::from(*byte) << (56 - filled);
            filled += 8;
        }
        if filled < 5 {
            return is_padding(bits, filled).then_some(());
        }
        let (symbol, length) = CODE.short[(bits >> (64 - BITS)) as usize];
        let (symbol, length) = match u32::from(length) {
            0 => long(bits)?,
            length => (symbol, length),
        };
        if length > filled {
            return is_padding(bits, filled).then_some(());
        }
        bits <<= length;
        filled -= length;
        out.push(symbol);
    }
}

/// What is left after the last symbol: fewer than eight bits, all of them ones.
fn is_padding(bits: u64, filled: u32) -> bool {
    filled < 8 && (filled == 0 || bits >> (64 - filled) == (1 << filled) - 1)
}

/// A code longer than the table; the end of the string must not be coded.
fn long(bits: u64) -> Option<(u8, u32)> {
    for length in BITS + 1..=LONGEST as u32 {
        let (first, count, at) = CODE.lengths[length as usize];
        let code = (bits >> (64 - length)) as u32;
        if code >= first && code - first < count {
            let symbol = CODE.symbols[(at + code - first) as usize];
            return (symbol != EOS).then_some((symbol as u8, length));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        decode(bytes, &mut out)?;
        String::from_utf8(out).ok()
    }

    /// RFC 7541, Appendix C.
    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let authority = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(text(&authority).as_deref(), Some("www.example.com"));
        assert_eq!(text(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).as_deref(), Some("no-cache"));
        let date = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66, 0xe0, 0x82,
            0xa6, 0x2d, 0x1b, 0xff,
        ];
        assert_eq!(text(&date).as_deref(), Some("Mon, 21 Oct 2013 20:13:21 GMT"));
        assert_eq!(text(&[]).as_deref(), Some(""));
    }

    #[test]
    fn wrong_padding_and_a_coded_end_are_refused() {
        assert_eq!(text(&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xfe]), None);
        assert_eq!(text(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf, 0xff]), None, "more than seven bits");
        assert_eq!(text(&[0xff, 0xff, 0xff, 0xff]), None, "the end of the string");
        assert_eq!(text(&[0x00]), None, "padding of zeros");
    }

    #[test]
    fn every_byte_has_its_code() {
        let mut codes = Vec::new();
        for length in 1..=LONGEST {
            let (first, count, at) = CODE.lengths[length];
            for n in 0..count {
                codes.push((CODE.symbols[(at + n) as usize], first + n, length));
            }
        }
        assert_eq!(codes.len(), SYMBOLS);
        for (symbol, code, length) in codes.into_iter().filter(|(symbol, ..)| *symbol != EOS) {
            let bits = (u64::from(code) << (64 - length)) | (u64::MAX >> length);
            let bytes = &bits.to_be_bytes()[..length.div_ceil(8)];
            let mut out = Vec::new();
            assert_eq!((decode(bytes, &mut out), out), (Some(()), vec![symbol as u8]), "{symbol}");
        }
    }
}
