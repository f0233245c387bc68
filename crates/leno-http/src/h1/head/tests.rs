use proptest::prelude::*;

use super::*;

fn parse(bytes: &[u8], pieces: &[usize]) -> Result<Option<(Request, usize)>, Malformed> {
    let mut parser = HeadParser::default();
    let mut end = 0;
    let mut pieces = pieces.iter().cycle();
    while end < bytes.len() {
        end = bytes.len().min(end.saturating_add((*pieces.next().unwrap()).max(1)));
        if let Some(length) = parser.advance(&bytes[..end], Expected::Request, &Limits::default())? {
            return parser.into_request(&mut BytesMut::from(&bytes[..length]), length).map(|r| Some((r, length)));
        }
    }
    Ok(None)
}

fn one(text: &str) -> Request {
    parse(text.as_bytes(), &[usize::MAX]).unwrap().unwrap().0
}

#[test]
fn a_request_is_read_as_sent() {
    let request = one("GET /a?b HTTP/1.1\r\nhOsT: Cart:80\r\nX-A:  b c \t\r\nx-a:\r\nContent-Length: 3\r\n\r\n");
    let head = &request.head;
    assert_eq!((head.method.as_str(), head.path.as_str(), head.host()), ("GET", "/a?b", "Cart:80"));
    assert_eq!((request.framing, request.keep), (Framing::Length(3), true));
    let fields: Vec<_> = head.fields.iter().collect();
    assert_eq!(fields, [(&b"hOsT"[..], &b"Cart:80"[..]), (b"X-A", b"b c"), (b"x-a", b""), (b"Content-Length", b"3")]);
}

#[test]
fn targets_come_in_four_forms() {
    let head = |line: &str| one(&format!("{line}\r\nHost: h\r\n\r\n")).head;
    let absolute = head("GET HTTP://a.test:8080?q HTTP/1.1");
    assert_eq!((absolute.form, absolute.host(), &*absolute.path), (TargetForm::Absolute, "a.test:8080", "/?q"));
    let connect = head("CONNECT [::1]:443 HTTP/1.1");
    assert_eq!((connect.form, connect.host(), &*connect.path), (TargetForm::Authority, "[::1]:443", ""));
    assert_eq!(head("OPTIONS * HTTP/1.1").form, TargetForm::Asterisk);
    assert!(parse("GET /ü HTTP/1.1\r\nHost: h\r\n\r\n".as_bytes(), &[usize::MAX]).is_err());
}

#[test]
fn one_empty_line_before_a_request_is_tolerated() {
    assert_eq!(one("\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").head.host(), "h");
    assert!(parse(b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", &[usize::MAX]).is_err());
}

#[test]
fn a_bare_lf_is_taken_where_the_listener_is_lenient() {
    let limits = Limits { lenient_lf: true, ..Limits::default() };
    let text = b"GET / HTTP/1.1\nHost: h\n\n";
    assert_eq!(HeadParser::default().advance(text, Expected::Request, &limits), Ok(Some(text.len())));
}

/// Pieces of requests, good and bad, to be strung together.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("\r\n".to_owned()),
        1 => Just("\n".to_owned()),
        1 => Just("GET / HTTP/1.1\r\n".to_owned()),
        1 => Just("Host: h\r\n".to_owned()),
        1 => "[A-Za-z-]{1,6}: ?[a-z ,;=\t]{0,8}\r\n",
        1 => "[ -~\t\r\n]{0,6}",
    ]
}

proptest! {
    #[test]
    fn a_head_has_one_reading_however_it_is_cut(
        fragments in prop::collection::vec(fragment(), 0..8),
        pieces in prop::collection::vec(1usize..9, 1..4),
    ) {
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n\r\n", fragments.concat());
        let whole = parse(text.as_bytes(), &[usize::MAX]).map(|r| r.map(|(r, n)| (r.head.fields, n)));
        let cut = parse(text.as_bytes(), &pieces).map(|r| r.map(|(r, n)| (r.head.fields, n)));
        prop_assert_eq!(whole, cut);
    }

    #[test]
    fn what_is_accepted_is_read_as_another_parser_reads_it(fragments in prop::collection::vec(fragment(), 0..8)) {
        let text = format!("{}\r\n\r\n", fragments.concat());
        if let Ok(Some((request, length))) = parse(text.as_bytes(), &[usize::MAX]) {
            let mut fields = [httparse::EMPTY_HEADER; 100];
            let mut other = httparse::Request::new(&mut fields);
            prop_assert_eq!(other.parse(text.as_bytes()), Ok(httparse::Status::Complete(length)));
            prop_assert_eq!(other.method, Some(request.head.method.as_str()));
            let theirs: Vec<_> = other.headers.iter().map(|h| (h.name.as_bytes(), trim(h.value))).collect();
            let ours: Vec<_> = request.head.fields.iter().collect();
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn what_is_written_is_read_back(
        path in "/[a-z/?=&]{0,20}",
        names in prop::collection::vec("x-[A-Za-z]{1,9}", 0..10),
        value in "[ -~\t]{0,30}",
        length in prop::option::of(0u64..u64::from(u32::MAX)),
    ) {
        let mut head = RequestHead::new(Method::Post, "cart:80", path);
        for name in &names {
            head.fields.append(name, &value);
        }
        let framing = length.map_or(Framing::Chunked, Framing::Length);
        let mut out = Vec::new();
        crate::h1::encode::request(&mut out, &head, framing, false);
        let (read, used) = parse(&out, &[usize::MAX]).unwrap().unwrap();
        prop_assert_eq!(used, out.len());
        prop_assert_eq!(read.framing, if framing == Framing::Length(0) { Framing::None } else { framing });
        prop_assert_eq!((&read.head.path, read.head.host()), (&head.path, "cart:80"));
        for (name, value) in head.fields.iter() {
            prop_assert!(read.head.fields.iter().any(|pair| pair == (name, value)));
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, &[7]);
        let mut parser = HeadParser::default();
        if let Ok(Some(length)) = parser.advance(&bytes, Expected::Response, &Limits::default()) {
            let _ = parser.into_response(&mut BytesMut::from(&bytes[..]), length, MethodKind::Other);
        }
    }
}
