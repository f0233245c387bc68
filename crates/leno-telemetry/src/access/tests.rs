use proptest::prelude::*;

use super::*;

fn event() -> AccessEvent<'static> {
    AccessEvent {
        start: Timestamp(1_795_225_211_000),
        duration: Duration::from_millis(12),
        direction: Direction::Outbound,
        protocol: "HTTP/1.1",
        method: b"GET",
        path: b"/items?x=1",
        authority: b"cart.shop.mesh",
        user_agent: b"curl/8.1",
        status: 503,
        flag: Some(Flag::ConnectFailure),
        failure: "connection refused",
        sent: 91,
        source: "web.shop",
        destination: "cart.shop",
        upstream: "10.0.0.7:8080",
        cluster: "cart.shop.mesh:8080",
        downstream_remote: Some("127.0.0.1:4711".parse().unwrap()),
        route: "httproute/shop/cart",
        tries: 3,
        ..Default::default()
    }
}

fn text(event: &AccessEvent<'_>) -> String {
    let mut out = Vec::new();
    text::write(event, &mut out);
    String::from_utf8(out).unwrap()
}

fn json(event: &AccessEvent<'_>) -> String {
    let mut out = Vec::new();
    json::write(event, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_text_line_is_istios_default_format() {
    assert_eq!(
        text(&event()),
        "[2026-11-21T01:40:11.000Z] \"GET /items?x=1 HTTP/1.1\" 503 UF connect_failure - \"connection refused\" 0 91 12 - \
         \"-\" \"curl/8.1\" \"-\" \"cart.shop.mesh\" \"10.0.0.7:8080\" cart.shop.mesh:8080 - - 127.0.0.1:4711 - \
         httproute/shop/cart outbound web.shop cart.shop 3 -"
    );
}

#[test]
fn a_json_line_has_istios_keys() {
    let read: serde_json::Value = serde_json::from_str(&json(&event())).unwrap();
    assert_eq!(read["response_code"], 503);
    assert_eq!(read["response_flags"], "UF");
    assert_eq!(read["response_code_details"], "connect_failure");
    assert_eq!(read["upstream_cluster"], "cart.shop.mesh:8080");
    assert_eq!(read["downstream_remote_address"], "127.0.0.1:4711");
    assert_eq!(read.get("request_id"), None);
}

#[test]
fn hostile_bytes_cannot_forge_a_line() {
    let event = AccessEvent { user_agent: b"x\" 200\r\n[2026] \"GET / \\", path: b"/a b\x1b[31m\xff", ..event() };
    let line = text(&event);
    assert!(line.contains("\"x\\x22 200\\x0d\\x0a[2026] \\x22GET / \\x5c\""), "{line}");
    assert!(line.contains("\"GET /a\\x20b\\x1b[31m\\xff HTTP/1.1\""), "{line}");
}

#[test]
fn a_long_value_is_cut() {
    let path = vec![b'a'; 100_000];
    let event = AccessEvent { path: &path, ..event() };
    assert!(text(&event).len() < VALUE_MAX + 600);
    assert!(json(&event).contains("aaa...\""));
}

#[test]
fn lines_reach_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let queue = LineQueue::start("access", &crate::lines::Target::File(path.clone())).unwrap();
    let log = AccessLog::new(Format::Json, queue);
    log.record(&event());
    assert!(log.queue().flush(Duration::from_secs(10)));
    let written = std::fs::read_to_string(path).unwrap();
    assert!(written.starts_with("{\"start_time\"") && written.ends_with("}\n"), "{written}");
}

proptest! {
    #[test]
    fn a_text_line_has_the_same_shape_whatever_is_in_it(path: Vec<u8>, agent: Vec<u8>, authority: Vec<u8>) {
        let event = AccessEvent { path: &path, user_agent: &agent, authority: &authority, ..event() };
        let line = text(&event);
        prop_assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)));
        prop_assert_eq!(line.matches('"').count(), 14);
        let first = line.split('"').nth(1).unwrap();
        prop_assert_eq!(first.split(' ').count(), 3);
    }

    #[test]
    fn a_json_line_reads_whatever_is_in_it(path: Vec<u8>, agent: Vec<u8>) {
        let line = json(&AccessEvent { path: &path, user_agent: &agent, ..event() });
        let line_ends = ['\n', '\r', '\u{2028}', '\u{85}'];
        prop_assert!(!line.contains(line_ends));
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        if !path.is_empty() {
            prop_assert_eq!(read["path"].as_str().unwrap(), String::from_utf8_lossy(&path));
        }
    }
}
