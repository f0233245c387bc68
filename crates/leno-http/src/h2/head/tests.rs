//! Heads out of lists of fields, and back.

use super::super::hpack::Decoder;
use super::*;

fn collect(kind: Kind, fields: &[(&str, &str)]) -> Collect {
    let mut collect = Collect::new(kind, &Limits::default());
    for (name, value) in fields {
        let name = name.as_bytes();
        let token = name.strip_prefix(b":").unwrap_or(name);
        let valid = valid_name(token) && !token.iter().any(u8::is_ascii_uppercase) && valid_value(value.as_bytes());
        collect.field(name, value.as_bytes(), Known::of(name), valid);
    }
    collect
}

fn request(more: &[(&str, &str)]) -> Result<Request, Malformed> {
    let get = [(":method", "GET"), (":scheme", "http"), (":path", "/a?b"), (":authority", "cart:80")];
    collect(Kind::Request, &[&get[..], more].concat()).request()
}

#[test]
fn crumbs_are_joined() {
    let head = request(&[("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("cookie", "c=3")]).unwrap().head;
    assert_eq!((head.host(), &*head.path), ("cart:80", "/a?b"));
    assert_eq!(head.fields, [("cookie", "a=1; b=2; c=3"), ("x-a", "1")].into_iter().collect());
}

#[test]
fn malformed_requests_are_refused() {
    let long = "x".repeat(70_000);
    let cases: &[(&[(&str, &str)], Malformed)] = &[
        (&[("X-Up", "1")], Malformed::FieldName),
        (&[("x", "a\nb")], Malformed::FieldValue),
        (&[("x", " a")], Malformed::FieldValue),
        (&[("x", "a\t")], Malformed::FieldValue),
        (&[("connection", "close")], Malformed::H2Protocol),
        (&[("transfer-encoding", "chunked")], Malformed::H2Protocol),
        (&[("te", "gzip")], Malformed::H2Protocol),
        (&[("content-length", "1"), ("content-length", "1")], Malformed::ContentLength),
        (&[("content-length", "-1")], Malformed::ContentLength),
        (&[("host", "other")], Malformed::HostTwice),
        (&[("host", "cart:80"), ("host", "cart:80")], Malformed::HostTwice),
        (&[(":path", "/")], Malformed::H2Protocol),
        (&[(":status", "200")], Malformed::H2Protocol),
        (&[(":protocol", "websocket")], Malformed::H2Protocol),
        (&[("x", "1"), (":path", "/")], Malformed::H2Protocol),
        (&[("x", &long)], Malformed::HeadTooLarge),
        (&[("x", ""); 101], Malformed::TooManyFields),
    ];
    for (more, fault) in cases {
        assert_eq!(request(more).map(|r| r.head).unwrap_err(), *fault, "{:?}", more[0].0);
    }
}

#[test]
fn pseudo_fields_must_be_there_and_right() {
    let of = |fields: &[(&str, &str)]| collect(Kind::Request, fields).request().map(|r| r.head);
    let (get, http, root, host) = ((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"));
    assert!(of(&[get, http, root, host]).is_ok());
    assert!(of(&[get, http, root, ("host", "a")]).is_ok());
    for without in 0..4 {
        let mut fields = vec![get, http, root, host];
        fields.remove(without);
        assert!(of(&fields).is_err(), "without {without}");
    }
    for path in ["", "a", "*", "/a b", "/#"] {
        assert_eq!(of(&[get, http, (":path", path), host]).unwrap_err(), Malformed::Target, "{path}");
    }
    assert_eq!(of(&[(":method", "OPTIONS"), http, (":path", "*"), host]).unwrap().form, TargetForm::Asterisk);
    assert_eq!(of(&[(":method", "CONNECT"), (":authority", "a:1")]).unwrap().form, TargetForm::Authority);
    assert!(of(&[(":method", "CONNECT"), host, root]).is_err());
    assert_eq!(of(&[get, http, root, (":authority", "u@a")]).unwrap_err(), Malformed::Host);
}

#[test]
fn responses_have_a_status_and_trailers_nothing_that_matters() {
    let of = |fields: &[(&str, &str)]| collect(Kind::Response, fields).response().map(|r| r.head.status);
    assert_eq!(of(&[(":status", "200"), ("a", "b")]), Ok(200));
    for status in ["", "20", "099", "1000", "101"] {
        assert_eq!(of(&[(":status", status)]), Err(Malformed::Status), "{status}");
    }
    assert!(of(&[(":status", "200"), (":status", "200")]).is_err());
    assert!(of(&[("a", "b")]).is_err());
    let trailers = collect(Kind::Trailers, &[("x-sum", "1"), ("content-length", "5"), ("host", "a")]).trailers();
    assert_eq!(trailers.unwrap(), [("x-sum", "1")].into_iter().collect());
    assert!(collect(Kind::Trailers, &[(":status", "1")]).trailers().is_err());
}

#[test]
fn heads_are_written_lowered_and_without_fields_of_the_connection() {
    let mut head = RequestHead::new(Method::Get, "cart", "/");
    for (name, value) in [("X-Up", "1"), ("Connection", "close"), ("TE", "trailers"), ("Keep-Alive", "1")] {
        head.fields.append(name, value);
    }
    let mut block = Vec::new();
    check_request(&head).unwrap();
    write_request(&mut Encoder::new(), &mut block, &head, BodyLength::Known(3));
    let mut read = Collect::new(Kind::Request, &Limits::default());
    Decoder::new().decode(&block, &mut read).unwrap();
    let read = read.request().unwrap();
    assert_eq!((read.head.host(), read.length), ("cart", Some(3)));
    let fields = [("x-up", "1"), ("te", "trailers"), ("content-length", "3")].into_iter().collect();
    assert_eq!(read.head.fields, fields);
}

#[test]
fn what_cannot_be_sent_is_a_misuse() {
    assert!(check_request(&RequestHead::new(Method::Get, "a b", "/")).is_err());
    assert!(check_request(&RequestHead::new(Method::Get, "", "/")).is_err());
    assert!(check_request(&RequestHead::new(Method::Get, "a", "/ HTTP/1.1")).is_err());
    assert!(check_request(&RequestHead::new(Method::Other("a b".into()), "a", "/")).is_err());
    assert!(check_request(&RequestHead::new(Method::Connect, "a:1", "")).is_ok());
}
