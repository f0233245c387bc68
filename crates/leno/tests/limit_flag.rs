//! `--limit`: what is set is what holds, what is shown, and refused where it cannot hold.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use kit::mesh::{Process, get_path};
use kit::{free_address, leno};

/// Longer than any of the limits that are set, shorter than their defaults.
const PATIENCE: Duration = Duration::from_secs(8);

#[test]
fn a_limit_that_is_set_holds_and_is_shown() {
    let (web, admin) = (free_address(), free_address());
    let resources = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\n\
         spec:\n  gatewayClassName: leno\n  listeners: [{{name: web, port: {}, protocol: HTTP}}]\n",
        web.port()
    );
    let leno = leno().file("gateway.yaml", &resources);
    let listen = admin.to_string();
    let gateway =
        Process::start(
            &leno,
            &[
                &[
                    "proxy",
                    "--role",
                    "gateway",
                    "--gateway",
                    "edge",
                    "--resources",
                    "gateway.yaml",
                    "--bare-lf",
                    "take",
                ][..],
                &["--outbound-listen", "off", "--metrics-listen", "off", "--admin-listen", &listen],
                &["--limit", "head-timeout=1s", "--limit", "idle-timeout=2s", "--limit", "head-bytes=1KiB"],
            ]
            .concat(),
        );
    gateway.wait_for("ready");
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(2048));
    assert!(said(web, long.as_bytes()).0.starts_with("HTTP/1.1 431"));
    assert!(said(web, b"GET / HTTP/1.1\nHost: a\n\n").0.starts_with("HTTP/1.1 404"), "a bare LF ends a line");
    for (bytes, status, least) in [(&b"GET / HT"[..], "HTTP/1.1 408", 1), (b"", "", 2)] {
        let (answer, after) = said(web, bytes);
        assert!(answer.starts_with(status), "{answer}");
        let least = Duration::from_secs(least);
        assert!((least..PATIENCE).contains(&after), "{status} after {after:?}");
    }
    let (_, limits) = get_path(admin, &listen, "/limits").unwrap();
    let limits: serde_json::Value = serde_json::from_str(&limits).unwrap();
    assert_eq!((&limits["head-bytes"], &limits["head-timeout"]), (&"1KiB".into(), &"1s".into()));
    assert_eq!(limits["head-fields"], "100", "{limits}");
    assert_eq!(gateway.terminate(), 0);
}

#[test]
fn a_limit_that_cannot_hold_is_refused_with_what_can() {
    for (wrong, said) in [
        ("head-bytes", "write NAME=VALUE"),
        ("head-bites=1KiB", "no limit is called \"head-bites\"; there are head-bytes"),
        ("head-bytes=1s", "write bytes, as 65536, 64KiB or 1MiB"),
        ("head-bytes=1", "head-bytes is 1KiB to 1MiB, and not 1"),
    ] {
        let ran = leno().run(&["proxy", "--limit", wrong]);
        assert!(ran.status == 2 && ran.err.contains(said), "{wrong}: {}\n{}", ran.status, ran.err);
    }
}

/// What is answered until the connection ends, and how long that took.
fn said(to: SocketAddr, bytes: &[u8]) -> (String, Duration) {
    let began = Instant::now();
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let (mut answer, mut chunk) = (Vec::new(), [0; 1024]);
    while let Ok(length @ 1..) = stream.read(&mut chunk) {
        answer.extend_from_slice(&chunk[..length]);
        if answer.starts_with(b"HTTP/1.1 404") {
            break;
        }
    }
    (String::from_utf8_lossy(&answer).into_owned(), began.elapsed())
}
