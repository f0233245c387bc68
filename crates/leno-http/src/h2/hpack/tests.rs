//! Both halves against each other, against the examples of the RFC, and against noise.

use super::decode::Refused;
use super::*;
use crate::fields::Known;

#[derive(Default, Debug, PartialEq)]
struct List(Vec<(String, String, bool)>);

impl Sink for List {
    fn field(&mut self, name: &[u8], value: &[u8], known: Known, valid: bool) {
        assert_eq!(known, Known::of(name));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.0.push((text(name), text(value), valid));
    }
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, Refused> {
    let mut list = List::default();
    decoder.decode(block, &mut list)?;
    Ok(list.0.into_iter().map(|(name, value, _)| (name, value)).collect())
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// RFC 7541, C.4 and C.6: one table over several heads.
#[test]
fn the_examples_of_the_rfc_are_read() {
    let mut decoder = Decoder::new();
    let first = decode(&mut decoder, &hex("828684418cf1e3c2e5f23a6ba0ab90f4ff")).unwrap();
    assert_eq!(first[3], (":authority".into(), "www.example.com".into()));
    let second = decode(&mut decoder, &hex("828684be5886a8eb10649cbf")).unwrap();
    assert_eq!((second[3].1.as_str(), second[4].1.as_str()), ("www.example.com", "no-cache"));
    let third = decode(&mut decoder, &hex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf")).unwrap();
    assert_eq!(third[4], ("custom-key".into(), "custom-value".into()));
}

#[test]
fn a_field_is_indexed_when_it_repeats() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut lengths = Vec::new();
    for _ in 0..4 {
        let mut block = Vec::new();
        encoder.begin(&mut block);
        encoder.field(&mut block, b"x-version", b"some value", Known::Other);
        lengths.push(block.len());
        assert_eq!(decode(&mut decoder, &block).unwrap(), [("x-version".into(), "some value".into())]);
    }
    assert_eq!(lengths, [22, 22, 1, 1]);
}

#[test]
fn what_can_be_guessed_is_never_indexed() {
    let mut encoder = Encoder::new();
    for _ in 0..3 {
        let mut block = Vec::new();
        encoder.field(&mut block, b"authorization", b"Basic abc", Known::Other);
        encoder.field(&mut block, b"cookie", b"id=1", Known::Cookie);
        assert_eq!(block[0] >> 4, 1);
        assert!(block.len() > 15);
    }
}

#[test]
fn the_table_follows_the_size_that_the_peer_says() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut send = |encoder: &mut Encoder| {
        let mut block = Vec::new();
        encoder.begin(&mut block);
        encoder.field(&mut block, b"x-version", b"some value", Known::Other);
        assert_eq!(decode(&mut decoder, &block).unwrap().len(), 1);
        block
    };
    send(&mut encoder);
    send(&mut encoder);
    encoder.set_size_max(0);
    encoder.set_size_max(8192);
    let block = send(&mut encoder);
    assert_eq!(block[..2], [0x20, 0x3f], "to nothing, and up to 4,096 again");
    encoder.set_size_max(10);
    assert_eq!(send(&mut encoder)[0], 0x2a);
    assert!(send(&mut encoder).len() > 20, "nothing fits");
}

#[test]
fn bad_blocks_are_refused() {
    let cases = [
        ("index 0", "80"),
        ("index beyond the tables", "be"),
        ("name beyond the tables", "7f0001 61"),
        ("cut off in an integer", "ff"),
        ("integer too large", "ffffffffffff7f"),
        ("cut off in a string", "000561"),
        ("string without end", "00"),
        ("size above what was said", "3fe21f"),
        ("size after a field", "8220"),
        ("wrong padding", "0081ff0161"),
    ];
    for (name, block) in cases {
        assert_eq!(decode(&mut Decoder::new(), &hex(block)), Err(Refused), "{name}");
    }
}

/// xorshift, seeded.
fn noise(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn whatever_bytes_come_the_decoder_answers_or_refuses() {
    let mut state = 0x5eed;
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut decoder = Decoder::new();
        for _ in 0..4 {
            let length = noise(&mut state) % 5;
            let block: Vec<u8> = (0..length).map(|_| noise(&mut state) as u8).collect();
            if decode(&mut decoder, &block).is_err() {
                refused += 1;
                break;
            }
        }
    }
    assert!((1_000..20_000).contains(&refused), "{refused}");
}

#[test]
fn random_fields_arrive_as_they_were_written() {
    let (mut encoder, mut decoder, mut state) = (Encoder::new(), Decoder::new(), 7);
    for round in 0..2_000 {
        let mut block = Vec::new();
        if round % 100 == 99 {
            encoder.set_size_max((noise(&mut state) % 5000) as u32);
        }
        encoder.begin(&mut block);
        let fields: Vec<(String, String)> = (0..noise(&mut state) % 20)
            .map(|_| {
                let name = format!("n-{}", noise(&mut state) % 50);
                let value = "v".repeat((noise(&mut state) % 300) as usize);
                (name, value)
            })
            .collect();
        for (name, value) in &fields {
            encoder.field(&mut block, name.as_bytes(), value.as_bytes(), Known::Other);
        }
        assert_eq!(decode(&mut decoder, &block).unwrap(), fields);
    }
}
