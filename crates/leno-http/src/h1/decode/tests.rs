use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

/// Decodes a body that arrives in pieces of these sizes; data and trailers, or the fault.
fn decode(framing: Framing, bytes: &[u8], pieces: &[usize]) -> Result<(Vec<u8>, Fields, bool), Malformed> {
    let limits = Limits::default();
    let mut decoder = Decoder::new(framing);
    let (mut buffer, mut data, mut at) = (BytesMut::new(), Vec::new(), 0);
    let mut pieces = pieces.iter().cycle();
    loop {
        match decoder.decode(&mut buffer, &limits)? {
            Decoded::Frame(Frame::Data(bytes)) => data.extend_from_slice(&bytes),
            Decoded::Frame(Frame::Trailers(trailers)) => return Ok((data, trailers, true)),
            Decoded::End => return Ok((data, Fields::new(), true)),
            Decoded::More if at == bytes.len() => return Ok((data, Fields::new(), false)),
            Decoded::More => {
                let end = bytes.len().min(at + (*pieces.next().unwrap()).max(1));
                buffer.extend_from_slice(&bytes[at..end]);
                at = end;
            }
        }
    }
}

#[test]
fn extensions_of_all_chunks_together_are_limited() {
    let many = format!("1;{}\r\nx\r\n", "a".repeat(200)).repeat(60);
    assert_eq!(decode(Framing::Chunked, many.as_bytes(), &[1000]), Err(Malformed::ChunkExtension));
}

#[test]
fn framing_may_not_outweigh_its_data() {
    let many = "1\r\nx\r\n".repeat(20_000);
    assert!(decode(Framing::Chunked, many.as_bytes(), &[1000]).is_ok());
    let wasteful = format!("{}1\r\nx\r\n", "0".repeat(15)).repeat(20_000);
    assert_eq!(decode(Framing::Chunked, wasteful.as_bytes(), &[1000]), Err(Malformed::ChunkExtension));
}

proptest! {
    #[test]
    fn chunks_come_out_as_they_went_in_however_they_are_cut(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
        pieces in prop::collection::vec(1usize..40, 1..5),
        trailer in prop::option::of("[a-z]{1,8}"),
    ) {
        let mut out = Vec::new();
        let mut encoder = crate::h1::encode::Encoder::Chunked;
        for chunk in &chunks {
            prop_assert!(encoder.before_data(&mut out, chunk.len()));
            out.extend_from_slice(chunk);
            encoder.after_data(&mut out);
        }
        let trailers: Fields = trailer.iter().map(|t| (format!("x-{t}"), t.clone())).collect();
        prop_assert!(encoder.end(&mut out, Some(&trailers)));
        prop_assert_eq!(decode(Framing::Chunked, &out, &pieces), Ok((chunks.concat(), trailers, true)));
    }

    #[test]
    fn a_body_has_one_reading_however_it_is_cut(
        bytes in prop::collection::vec(prop::sample::select(b"0123af;x\r\n\r\n: \0".to_vec()), 0..80),
        pieces in prop::collection::vec(1usize..20, 1..4),
    ) {
        let whole = decode(Framing::Chunked, &bytes, &[usize::MAX / 2]);
        prop_assert_eq!(&decode(Framing::Chunked, &bytes, &pieces), &whole);
        prop_assert_eq!(
            Decoder::check(Framing::Chunked, &bytes, &Limits::default()).is_err(),
            whole.is_err()
        );
        let _: Bytes = bytes.into();
    }
}
