use std::io::{Read as _, Write as _};

use super::*;

fn carried(client: &str, server: &str) -> Header {
    Header::Carried(Ends { client: client.parse().unwrap(), server: server.parse().unwrap() })
}

/// A header of version 2 with this command, family and rest.
fn block_of(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    [&SIGNATURE[..], &[command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
}

const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x1f, 0x90, 0x01, 0xbb];

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &(value.len() as u16).to_be_bytes(), value].concat()
}

/// A whole header with a checksum among its TLVs.
fn checked(before: &[u8], after: &[u8]) -> Vec<u8> {
    let mut header = block_of(0x21, 0x11, &[&V4[..], before, &tlv(3, &[0; 4]), after].concat());
    let sum = crc32c(header.iter());
    let at = FIXED + V4.len() + before.len() + 3;
    header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    header
}

#[test]
fn lines_are_read_to_their_end_and_no_further() {
    let cases = [
        ("PROXY TCP4 192.0.2.7 198.51.100.1 8080 443\r\n", carried("192.0.2.7:8080", "198.51.100.1:443")),
        ("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", carried("0.0.0.0:0", "255.255.255.255:65535")),
        ("PROXY TCP6 2001:db8::7 2001:DB8::1 1 2\r\n", carried("[2001:db8::7]:1", "[2001:db8::1]:2")),
        ("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:c633:6401 1 2\r\n", carried("192.0.2.7:1", "198.51.100.1:2")),
        ("PROXY UNKNOWN\r\n", Header::Local),
        ("PROXY UNKNOWN ffff::1 whatever, and more\r\n", Header::Local),
    ];
    for (line, header) in cases {
        for behind in ["", "\n", "\r\n", "GET / HTTP/1.1\r\n", "\u{16}\u{3}\u{1}\u{0}", "PROXY UNKNOWN\r\n"] {
            let bytes = format!("{line}{behind}").into_bytes();
            assert_eq!(read(&bytes), Read::Header(header, line.len()), "{line:?} {behind:?}");
        }
        for end in 0..line.len() {
            assert_eq!(read(&line.as_bytes()[..end]), Read::NeedMore, "{line:?} cut at {end}");
        }
    }
}

#[test]
fn a_line_has_exactly_its_grammar() {
    let malformed = [
        "PROXY \r\n",
        "PROXY TCP\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP5 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY tcp4 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY  TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 \r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 \r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 -1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 0x2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 4294967297\r\n",
        "PROXY TCP4 192.0.2.07 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7,198.51.100.1 1 2\r\n",
        "PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
        "PROXY TCP4 ::ffff:192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP6 2001:db8::7 198.51.100.1 1 2\r\n",
        "PROXY TCP6 [2001:db8::7] 2001:db8::1 1 2\r\n",
        "PROXY TCP6 fe80::1%lo 2001:db8::1 1 2\r\n",
        "PROXY TCP6 2001:db8::7::1 2001:db8::1 1 2\r\n",
        "PROXY TCP6 2001:db8:0:0:0:0:0:0:7 2001:db8::1 1 2\r\n",
        "PROXY TCP6 2001:db8::00007 2001:db8::1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\rX",
        "PROXY TCP4\t192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\0\r\n",
        "PROXY UNKNOWN \u{e9}\r\n",
        "PROXY UNKNOWN \u{7f}\r\n",
        "PROXY UNKNOWN \r \r\n",
    ];
    for line in malformed {
        assert!(
            matches!(read(line.as_bytes()), Read::Fault(Fault::Malformed(_))),
            "{line:?}: {:?}",
            read(line.as_bytes())
        );
    }
}

#[test]
fn what_begins_otherwise_is_no_header() {
    let others: [&[u8]; 10] = [
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"proxy TCP4",
        b"PROXYTCP4",
        b"PROXY\tTCP4",
        b"\x16\x03\x01\x02\x00\x01",
        b"\r\n\r\nGET / HTTP/1.1",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\0",
    ];
    for bytes in others {
        assert_eq!(read(bytes), Read::Fault(Fault::Absent), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_line_is_no_longer_than_it_may_be() {
    let line = |length: usize| {
        let mut line = b"PROXY UNKNOWN ".to_vec();
        line.resize(length - 2, b'x');
        [line, b"\r\n".to_vec()].concat()
    };
    assert_eq!(LINE_MAX, 107, "as the specification has it");
    assert_eq!(read(&line(LINE_MAX)), Read::Header(Header::Local, LINE_MAX));
    assert_eq!(read(&line(LINE_MAX + 1)), Read::Fault(Fault::TooLong));
    assert_eq!(read(&line(LINE_MAX + 100)), Read::Fault(Fault::TooLong));
    assert_eq!(read(&line(LINE_MAX + 1)[..LINE_MAX]), Read::Fault(Fault::TooLong));
    assert_eq!(read(&line(LINE_MAX)[..LINE_MAX - 1]), Read::NeedMore);
}

#[test]
fn blocks_are_read_to_their_end_and_no_further() {
    let v6: Vec<u8> = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], [0xff; 16]].concat();
    let mapped: Vec<u8> = ["::ffff:192.0.2.7", "::ffff:198.51.100.1"]
        .iter()
        .flat_map(|address| address.parse::<Ipv6Addr>().unwrap().octets())
        .collect();
    let ports = [0, 1, 0, 2];
    let all = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let cases = [
        (block_of(0x21, 0x11, &V4), carried("192.0.2.7:8080", "198.51.100.1:443")),
        (block_of(0x21, 0x21, &[&v6[..], &ports].concat()), carried("[2001:db8::7]:1", &format!("[{all}]:2"))),
        (block_of(0x21, 0x21, &[&mapped[..], &ports].concat()), carried("192.0.2.7:1", "198.51.100.1:2")),
        (
            block_of(0x21, 0x11, &[&V4[..], &tlv(4, b""), &tlv(0xea, &[1; 22])].concat()),
            carried("192.0.2.7:8080", "198.51.100.1:443"),
        ),
        (checked(&tlv(2, b"name.test"), &tlv(4, &[0; 9])), carried("192.0.2.7:8080", "198.51.100.1:443")),
        (checked(b"", b""), carried("192.0.2.7:8080", "198.51.100.1:443")),
        // What a receiver falls back to the connection's own ends for.
        (block_of(0x20, 0x00, b""), Header::Local),
        (block_of(0x20, 0x11, &V4), Header::Local),
        (block_of(0x20, 0xff, b"anything"), Header::Local),
        (block_of(0x21, 0x00, b""), Header::Local),
        (block_of(0x21, 0x00, b"anything"), Header::Local),
        (block_of(0x21, 0x12, &V4), Header::Local),
        (block_of(0x21, 0x22, &[0; 36]), Header::Local),
        (block_of(0x21, 0x31, &[0; 216]), Header::Local),
        (block_of(0x21, 0x32, &[[0; 216].to_vec(), tlv(4, b"")].concat()), Header::Local),
    ];
    for (block, header) in cases {
        for behind in [&b""[..], b"GET / HTTP/1.1\r\n", &[0x16, 3, 1], &SIGNATURE] {
            let bytes = [&block[..], behind].concat();
            assert_eq!(read(&bytes), Read::Header(header, block.len()), "{}", bytes.escape_ascii());
        }
        for end in 0..block.len() {
            assert_eq!(read(&block[..end]), Read::NeedMore, "{} cut at {end}", block.escape_ascii());
        }
    }
}

#[test]
fn a_block_has_exactly_its_grammar() {
    let with = |rest: &[u8]| block_of(0x21, 0x11, &[&V4[..], rest].concat());
    let malformed = [
        block_of(0x11, 0x11, &V4),
        block_of(0x01, 0x11, &V4),
        block_of(0x22, 0x11, &V4),
        block_of(0x2f, 0x11, &V4),
        block_of(0x21, 0x01, &V4),
        block_of(0x21, 0x10, &V4),
        block_of(0x21, 0x13, &V4),
        block_of(0x21, 0x20, &[0; 36]),
        block_of(0x21, 0x41, &V4),
        block_of(0x21, 0xff, &V4),
        block_of(0x21, 0x11, b""),
        block_of(0x21, 0x11, &V4[..11]),
        block_of(0x21, 0x21, &[0; 35]),
        block_of(0x21, 0x31, &[0; 215]),
        with(&[4]),
        with(&[4, 0]),
        with(&[4, 0, 1]),
        with(&[4, 0xff, 0xff, 0]),
        with(&[&tlv(4, b"padding")[..], &[4, 0, 2, 0]].concat()),
        with(&tlv(3, &[0; 3])),
        with(&tlv(3, &[0; 5])),
    ];
    for block in malformed {
        assert!(
            matches!(read(&block), Read::Fault(Fault::Malformed(_))),
            "{}: {:?}",
            block.escape_ascii(),
            read(&block)
        );
    }
    // The first is right, whatever the second says.
    let twice = checked(b"", &tlv(3, &[1, 2, 3, 4]));
    assert_eq!(read(&twice), Read::Fault(Fault::Malformed("two checksums")));
}

#[test]
fn a_block_is_no_longer_than_it_may_be() {
    let padded = |length: usize| block_of(0x21, 0x11, &[&V4[..], &tlv(4, &vec![0; length - 31])].concat());
    assert!(matches!(read(&padded(HEADER_MAX)), Read::Header(_, HEADER_MAX)));
    assert_eq!(read(&padded(HEADER_MAX + 1)), Read::Fault(Fault::TooLong));
    // Said as soon as the length is known, whatever else it is.
    assert_eq!(read(&block_of(0x20, 0x00, &[0; 65_000])[..FIXED]), Read::Fault(Fault::TooLong));
}

#[test]
fn every_changed_bit_of_what_a_checksum_is_for_is_found() {
    let good = checked(&tlv(2, b"name.test"), &tlv(5, b"unique"));
    // With another type or length of a TLV there may be no checksum any more.
    let framing = [28, 29, 30, 40, 41, 42, 47, 48, 49];
    let said = Read::Header(carried("192.0.2.7:8080", "198.51.100.1:443"), good.len());
    assert_eq!(read(&good), said);
    for bit in (0..good.len() * 8).filter(|bit| !framing.contains(&(bit / 8))) {
        let mut changed = good.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        match read(&changed) {
            Read::Header(Header::Carried(_), _) => panic!("bit {bit} does not matter: {}", changed.escape_ascii()),
            // LOCAL and UNSPEC are not looked into.
            Read::Header(Header::Local, _) => assert_eq!(bit / 8, 12, "{bit}"),
            Read::NeedMore | Read::Fault(_) => {}
        }
    }
}

#[test]
fn the_checksum_is_castagnolis() {
    assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283);
    assert_eq!(crc32c([0; 32].iter()), 0x8a91_36aa);
}

#[test]
fn what_is_written_is_read_as_it_was_meant() {
    let ends = |client: &str, server: &str| Ends { client: client.parse().unwrap(), server: server.parse().unwrap() };
    let cases = [
        (ends("192.0.2.7:8080", "198.51.100.1:443"), 56),
        (ends("[2001:db8::7]:1", "[2001:db8::1]:65535"), 104),
        (ends("[2001:db8:1111:2222:3333:4444:5555:6666]:65535", "[2001:db8:1111:2222:3333:4444:5555:6666]:65535"), 104),
        (ends("192.0.2.7:1", "[2001:db8::1]:2"), 104),
        (ends("[::ffff:192.0.2.7]:1", "198.51.100.1:2"), 56),
    ];
    for (ends, longest) in cases {
        let meant =
            Header::Carried(Ends::new(ends.client.ip(), ends.client.port(), ends.server.ip(), ends.server.port()));
        for version in [Version::V1, Version::V2] {
            let written = write(version, Some(ends));
            assert_eq!(read(&written), Read::Header(meant, written.len()), "{}", written.escape_ascii());
            assert!(written.len() <= longest, "{}", written.escape_ascii());
        }
    }
    assert_eq!(write(Version::V1, Some(cases[0].0)), b"PROXY TCP4 192.0.2.7 198.51.100.1 8080 443\r\n");
    assert_eq!(write(Version::V2, Some(cases[0].0)), block_of(0x21, 0x11, &V4));
    assert_eq!(write(Version::V1, None), b"PROXY UNKNOWN\r\n");
    assert_eq!(write(Version::V2, None), block_of(0x20, 0, b""));
}

// === from a connection ===

async fn pair() -> (Stream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let there = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (here, _) = listener.accept().unwrap();
    here.set_nonblocking(true).unwrap();
    (tokio::net::TcpStream::from_std(here).unwrap().into(), there)
}

async fn rest_of(stream: &Stream) -> Vec<u8> {
    let mut buffer = bytes::BytesMut::new();
    loop {
        buffer.reserve(4096);
        if poll_fn(|cx| stream.poll_read(cx, &mut buffer)).await.unwrap() == 0 {
            return buffer.to_vec();
        }
    }
}

#[tokio::test]
async fn nothing_behind_a_header_is_taken_however_it_is_cut() {
    let long = block_of(0x21, 0x11, &[&V4[..], &tlv(4, &[0; 3000])].concat());
    let headers = [b"PROXY TCP4 192.0.2.7 198.51.100.1 8080 443\r\n".to_vec(), block_of(0x21, 0x11, &V4), long];
    for header in headers {
        let whole = [&header[..], b"what follows"].concat();
        for step in [1, 7, 15, header.len(), whole.len()] {
            let (here, mut there) = pair().await;
            let sent = whole.clone();
            let sending = std::thread::spawn(move || {
                there.set_nodelay(true).unwrap();
                for part in sent.chunks(step.max(sent.len() / 100)) {
                    there.write_all(part).unwrap();
                    std::thread::yield_now();
                }
            });
            let said = receive(&here).await.unwrap();
            assert_eq!(said, carried("192.0.2.7:8080", "198.51.100.1:443"), "in steps of {step}");
            assert_eq!(rest_of(&here).await, b"what follows", "in steps of {step}");
            sending.join().unwrap();
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_too_early_is_told_from_one_that_is_wrong() {
    for (sent, fault) in [
        (&b""[..], Fault::Unused),
        (b"PROXY TCP4 192.0.2.7", Fault::Closed),
        (&SIGNATURE, Fault::Closed),
        (b"GET / HTTP/1.1\r\n", Fault::Absent),
    ] {
        let (here, mut there) = pair().await;
        there.write_all(sent).unwrap();
        drop(there);
        assert_eq!(receive(&here).await, Err(fault), "{}", sent.escape_ascii());
    }
}

#[tokio::test]
async fn a_stream_gives_the_ends_that_were_named() {
    let (here, mut there) = pair().await;
    let own = (there.local_addr().unwrap(), there.peer_addr().unwrap());
    assert_eq!((here.peer_addr().tcp(), here.local_addr().tcp()), (Some(own.0), Some(own.1)));
    let Header::Carried(ends) = carried("192.0.2.7:8080", "198.51.100.1:443") else { unreachable!() };
    let here = here.with_ends(ends);
    assert_eq!((here.peer_addr().tcp(), here.local_addr().tcp()), (Some(ends.client), Some(ends.server)));
    let here = here.detach().unwrap().attach().unwrap();
    assert_eq!(here.peer_addr().tcp(), Some(ends.client));
    drop(here);
    assert_eq!(there.read(&mut [0]).unwrap(), 0);
}
